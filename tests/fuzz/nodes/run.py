"""One example of the fuzzer: a plan for hostile nodes, every question of the daemon's, and what must not happen."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import aiohttp
from structlog.testing import capture_logs

from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import BlockRef, RailError, Span, SupportsAssetCheck, Transfer
from tests.fuzz.nodes.chains import SECONDS, Chain
from tests.fuzz.nodes.monitor import LoopWatch, forget_peak, peak_mib, resident_mib

METHODS: dict[str, tuple[str, ...]] = {
    "evm": (
        *("eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs", "eth_getTransactionReceipt"),
        *("trace_block", "debug_traceBlockByHash", "eth_getBalance", "eth_getTransactionCount", "eth_getCode"),
        *("eth_call", "push", "ws", "latest"),
    ),
    "bitcoin": (
        *("getblockhash", "getblockchaininfo", "getblockheader", "getblock", "getblockfilter", "getrawtransaction"),
        *("getmempoolinfo", "getrawmempool", "waitfornewblock", "rest/block", "rest/chaininfo.json"),
    ),
    "solana": (
        *("getGenesisHash", "getHealth", "getLatestBlockhash", "getSlot", "getBlock", "getBlocks", "getTransaction"),
        *("getFirstAvailableBlock", "getBlocksWithLimit", "getTokenAccountsByOwner", "getSignaturesForAddress"),
        *("getAccountInfo", "getMinimumBalanceForRentExemption", "push", "ws"),
    ),
}
MEMORY_MOST, STALL_MOST = 256.0, 0.25
"""MiB over the start, and seconds: what one hostile answer may cost at most."""
EXAMPLE_SECONDS = 90.0
TEXT_MOST = 2_000
_names = count(1)


@dataclass(slots=True)
class Finding:
    """What must not happen, and how to have it again."""

    chain: str
    seed: str
    what: str
    changes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """For a person: what to run, what was changed, what came of it."""
        changes = "\n".join(f"    {key}: {words}" for key, words in self.changes.items())
        return f"{self.chain}, --seed {self.seed}: {self.what}\n  the answers that were changed:\n{changes}"


@dataclass(slots=True)
class Report:
    """What some examples cost: numbers for a person."""

    examples: int = 0
    errors: int = 0
    found: int = 0
    """Payments that came back."""
    changed: int = 0
    peak: float = 0.0
    stall: float = 0.0
    methods: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class Fuzzer:
    """Hostile nodes before one chain. ``strict``: memory and stalls are findings as well."""

    def __init__(self, chain: Chain, ports: list[tuple[int, int]], *, strict: bool) -> None:
        self.chain, self._ports, self._strict = chain, ports, strict
        self.report = Report()
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        """Close the connections to the hostile nodes' control."""
        await self._session.close()

    async def example(self, seed: str) -> Finding | None:
        """Play one example; a finding is made as small as it goes. The seed alone decides what happens."""
        what, done = await self.play(seed, None)
        self.report.examples += 1
        self.report.changed += len(done)
        for key in done:
            name = key.partition("/")[2].partition(" #")[0]
            self.report.methods[name] = self.report.methods.get(name, 0) + 1
        if what is None:
            return None
        finding = Finding(self.chain.kind, seed, what, done)
        for key in done:
            less, one = await self.play(seed, [key])
            if less is not None and less.partition(":")[0] == what.partition(":")[0]:
                finding = Finding(self.chain.kind, seed, less, one)
                break
        self.report.findings.append(finding)
        return finding

    async def play(self, seed: str, only: list[str] | None) -> tuple[str | None, dict[str, str]]:
        """Play one example, with ``only`` these answers changed; None: with all that its dice choose."""
        dice = random.Random(seed)
        all_hostile = dice.random() < 0.6
        hostile = [0, 1, 2] if all_hostile else [dice.choice((0, 0, 0, 1))]
        focus = dice.choice(METHODS[self.chain.kind])
        plan = {
            "focus": focus if dice.random() < 0.85 else "",
            "rate": dice.choice((0.0, 0.0, 0.02, 0.15)),
            "heavy": dice.random() < (0.3 if self._strict else 0.06),
        }
        for place in hostile:
            kept = None if only is None else [key.partition("/")[2] for key in only if key.startswith(f"{place}/")]
            await self._control(place, "/plan", {**plan, "seed": f"{seed}/{place}", "only": kept})
        before = resident_mib()
        forget_peak()
        async with LoopWatch() as watch:
            pushes = focus in ("push", "ws", "waitfornewblock") or dice.random() < 0.1
            what = await self._asked(hostile, dice, pushes)
            stall, where = watch.longest, watch.where
        grown = peak_mib() - before
        done = {
            f"{place}/{key}": words for place in hostile for key, words in (await self._control(place, "/done")).items()
        }
        self.report.peak, self.report.stall = max(self.report.peak, grown), max(self.report.stall, stall)
        if what is None and self._strict and grown > MEMORY_MOST:
            what = f"memory: {grown:.0f} MiB more than before"
        if what is None and self._strict and stall > STALL_MOST:
            what = f"stall: the loop was stuck for {stall * 1000:.0f} ms ({where})"
        return what, done

    async def _control(self, place: int, path: str, body: Any = None) -> Any:
        url = f"http://127.0.0.1:{self._ports[place][0]}{path}"
        async with self._session.post(url, json=body or {}) as response:
            return json.loads(await response.read())

    async def _asked(self, hostile: list[int], dice: random.Random, pushes: bool) -> str | None:
        """Ask everything. The answer is what must not have happened."""
        loop = asyncio.get_running_loop()
        stray: list[str] = []
        loop.set_exception_handler(
            lambda _, context: stray.append(f"stray: {context.get('message')} {context.get('exception')!r}")
        )
        # A name of its own, so that no example knows what another one's node has taught.
        settings = replace(self.chain.settings, name=f"fuzz{next(_names)}")
        nodes = []
        for place in range(3):
            honest = {**self.chain.table, "timeout": SECONDS}
            table = self.chain.hostile_table(*self._ports[place]) if place in hostile else honest
            nodes.append(Node(f"node-{place}", lambda table=table: self.chain.create_adapter(settings, table)))  # type: ignore[misc]
        with capture_logs() as lines:
            try:
                async with asyncio.timeout(EXAMPLE_SECONDS):
                    wrong = await _Asker(self.chain, NodeSet(nodes), nodes, dice, self.report, pushes).ask()
            except TimeoutError:
                wrong = [f"endless: it took more than {EXAMPLE_SECONDS:.0f} s"]
            await asyncio.sleep(0)
        for line in lines:
            if line["event"] == "node.fault" and line["log_level"] == "error":
                wrong.append(f"unforeseen: {line['why']}")
        return next(iter([*wrong, *stray]), None)


class _Asker:
    """Puts every question of the daemon's to a rail of three nodes, and checks the answers."""

    def __init__(
        self, chain: Chain, rail: NodeSet, nodes: list[Node], dice: random.Random, report: Report, pushes: bool
    ) -> None:
        self._pushes = pushes
        self._chain, self._rail, self._nodes, self._dice, self._report = chain, rail, nodes, dice, report
        self._wrong: list[str] = []

    async def ask(self) -> list[str]:
        """Return what is wrong."""
        try:
            for _ in range(2):
                if await self._try("enter", self._rail.__aenter__()) is not None:
                    break
            for question in self._questions():
                for node in self._nodes:
                    node.backoff_until = 0.0
                name, act = question
                answer = await self._try(name, act)
                self._look_at(name, answer)
        finally:
            await self._try("leave", self._rail.__aexit__(None, None, None))
        return self._wrong

    def _questions(self) -> list[tuple[str, Any]]:
        chain, rail, dice = self._chain, self._rail, self._dice
        whole = chain.whole
        low = dice.randrange(whole.after.height, whole.upto.height)
        made: list[Any] = [
            ("heads", rail.heads),
            ("heads", rail.heads),
            ("block_at", lambda: rail.block_at(low)),
            ("block_at", lambda: rail.block_at(whole.upto.height)),
            ("block_at", lambda: rail.block_at(0)),
            ("block_at", lambda: rail.block_at(whole.upto.height + 50)),
            ("scan", lambda: rail.scan(whole, chain.watches)),
            ("scan", lambda: rail.scan(replace(whole, finalized=True), chain.watches)),
            ("scan", lambda: rail.scan(replace(whole, sparse=True), replace(chain.watches, spends={}))),
            ("one", lambda: self._one_block(low)),
            ("pending", lambda: rail.pending(chain.watches)),
            ("balances", self._balances),
            ("refusal", lambda: rail.check_payment(chain.address, chain.watches.assets[""], 1, None)),
            ("assets", self._assets),
            ("reread", lambda: rail.reread((whole.upto.height, whole.upto.hash), chain.watches, None)),
        ]
        if self._pushes:
            made.insert(2, ("wait", self._wait))
        return made

    async def _one_block(self, low: int) -> Any:
        after = await self._rail.block_at(low)
        upto = await self._rail.block_at(low + 1)
        return await self._rail.scan(Span(after, upto), self._chain.watches)

    async def _balances(self) -> Any:
        if not self._rail.supports_balances:
            return None
        key, at = self._chain.address.key, self._chain.whole.upto
        for asset in self._chain.watches.assets.values():
            _, held = await self._rail.balances([key], asset, at)
            if not all(0 <= amount < 2**256 for amount in held.values()):
                self._wrong.append(f"shape: a balance {held}")
        return None

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(0.4):
                while True:
                    await self._rail.wait_for_change()
        except TimeoutError:
            return

    async def _assets(self) -> None:
        for node in self._nodes:
            if isinstance(node.adapter, SupportsAssetCheck):
                await node.ask(lambda adapter: adapter.check_assets())

    async def _try(self, name: str, question: Any) -> Any:
        try:
            return await (question() if callable(question) else question)
        except RailError as refused:
            self._report.errors += 1
            if not str(refused).isprintable() or len(str(refused)) > TEXT_MOST:
                self._wrong.append(f"words: {name} said {str(refused)!r:.200}")
        except Exception as leak:  # noqa: BLE001 (the fuzzer searches for these)
            self._wrong.append(f"leak: {name} raised {type(leak).__name__}: {leak!r:.200}")
        return None

    def _look_at(self, name: str, answer: Any) -> None:
        try:
            for ref in _refs_of(answer):
                _check_ref(ref)
            self._report.found += len(_transfers_of(answer))
            for transfer in _transfers_of(answer):
                _check_transfer(transfer, self._chain)
            if name == "refusal" and answer is not None:
                assert answer.isprintable(), answer
                assert len(answer) < TEXT_MOST, answer
        except AssertionError as odd:
            self._wrong.append(f"shape: {name} gave {odd!s:.300}")


def _refs_of(answer: Any) -> list[BlockRef]:
    if isinstance(answer, BlockRef):
        return [answer]
    found = [getattr(answer, name, None) for name in ("latest", "safe", "finalized")]
    return [ref for ref in [*found, *getattr(answer, "blocks", ())] if ref is not None]


def _transfers_of(answer: Any) -> list[Transfer]:
    given = answer if isinstance(answer, list) else getattr(answer, "transfers", ())
    return [each for each in given if isinstance(each, Transfer)]


def _check_ref(ref: BlockRef) -> None:
    """Check that a block can be stored, compared and shown."""
    assert 0 <= ref.height < 2**63, ref
    assert _is_plain(ref.hash, 128), ref
    assert ref.hash, ref
    assert _is_plain(ref.parent, 128), ref
    assert ref.time < datetime.now(UTC) + timedelta(days=31_000), ref


def _check_transfer(transfer: Transfer, chain: Chain) -> None:
    """As `_check_ref`; and what is kept as evidence is small."""
    assert re.fullmatch(chain.tx_id, transfer.tx_id), transfer.tx_id
    assert re.fullmatch(r"tx|(log|account|out|call|vout)?:?\d+(\.\d+)*", transfer.tx_index), transfer.tx_index
    assert len(transfer.tx_index) < 8_000, transfer.tx_index
    assert 0 < transfer.amount < 2**256 or (transfer.to == b"" and transfer.amount == 0), transfer.amount
    assert _is_plain(transfer.asset, 200), transfer.asset
    assert all(_is_plain(each, 200) for each in (*transfer.references, *transfer.spends, *transfer.rivals)), transfer
    assert len(transfer.references) <= 512, len(transfer.references)
    kept = json.dumps([dict(transfer.evidence), transfer.raw], ensure_ascii=False)
    assert kept.isprintable(), kept
    assert len(kept) < 100_000, len(kept)
    if transfer.block is not None:
        _check_ref(transfer.block)


def _is_plain(text: str, most: int) -> bool:
    return len(text) <= most and text.isprintable()


@asynccontextmanager
async def hostile_nodes(upstream: str, *more: str) -> AsyncIterator[list[tuple[int, int]]]:
    """Start the hostile nodes; end them by closing their standard input."""
    command = [sys.executable, "-m", "tests.fuzz.nodes.server", upstream, *more]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        yield [(http, ws) for http, ws in json.loads(line)]
    finally:
        process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        process.stdout.close()


async def fuzz(
    chain: Chain, first: int, *, examples: int | None = None, seconds: float | None = None, strict: bool = False
) -> Report:
    """Play examples from the seed ``first`` on: so many of them, or for so many seconds."""
    end = time.monotonic() + (seconds or 0)
    async with hostile_nodes(chain.upstream) as ports:
        fuzzer = Fuzzer(chain, ports, strict=strict)
        try:
            seed = first
            while (seed < first + examples) if examples is not None else (time.monotonic() < end):
                finding = await fuzzer.example(str(seed))
                if finding is not None:
                    print(finding, flush=True)
                seed += 1
        finally:
            await fuzzer.close()
    return fuzzer.report

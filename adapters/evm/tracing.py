"""The frames of a block, from whichever way of tracing the node has for it; and what is left if it has none.

A block that cannot be traced must not stop a rail. In this order: the node's dialect, the other dialect, each
transaction by itself, and at last the transactions' own values, with the gap told. Only two things are asked again
instead: a refusal that passes, and an answer that is not whole, for what is not indexed yet will be (HAZARDS E20).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from adapters.evm import traces, wire
from adapters.evm.gap import Gap
from adapters.evm.refusal import Meaning
from adapters.evm.rpc import Answer, NodeRefused, NodeTimeout, Rpc, refused_if_large, unfold_if_deep
from adapters.evm.traces import CallFrame, Trace
from adapters.evm.want import Tracing
from adapters.evm.whole import check_traces, tx_ids
from adapters.evm.wire import FullBlock, Header, Transaction
from indexer.rail import BlockGone, NotYet, RailUnavailable
from indexer.rail.again import ask_again
from indexer.rail.decoding import LARGE, decode, decode_each, off_loop, printable, read_quantity

Block = Header | FullBlock

PLAIN_GAS = 21_000
"""A transaction with no more gas than this can hold no calls (yellow paper, G_transaction)."""
GROWTH = (2.0, 6.0)
"""By how much the time for one block's trace grows: with 10 s at first, up to a minute."""
BLOCK_SECONDS = 120.0
"""How long the transactions of one block are traced one by one, in all."""
PROBE_BACK = (24, 16, 8)
"""Blocks below the head that are tried for a trace: old enough to be indexed, young enough for a full node's state."""
UNKNOWN_SECONDS = 60.0
"""How long a node may say that it does not know a block, which it has told of itself, before it is told untraced."""
STATELESS_SECONDS = 60.0
"""How long a node is believed that it has no state below a height."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One block's frames, and the transactions that are told by their own values because they have no frames."""

    frames: Sequence[Trace] = ()
    untraced: frozenset[str] = frozenset()


class Standing(enum.Enum):
    """What is known of a method."""

    UNKNOWN = "unknown"
    WORKS = "works"
    MISSING = "missing"


@dataclass(slots=True)
class Ways:
    """What is known of the two dialects. It outlives a connection: to try them costs a trace."""

    standing: dict[Tracing, Standing] = field(
        default_factory=lambda: {Tracing.FLAT: Standing.UNKNOWN, Tracing.TREE: Standing.UNKNOWN}
    )
    refused: dict[str, str] = field(default_factory=dict)
    """The words with which a method was refused, for the operator."""


@dataclass(slots=True)
class Tracer:
    """How one node traces, learned from its answers. ``gap`` holds the blocks that it could not."""

    rpc: Rpc
    gap: Gap = field(default_factory=Gap)
    ways: Ways = field(default_factory=Ways)
    _stateless: int = -1
    _until: float = 0.0
    _unknown: tuple[str, float] = ("", 0.0)
    """The block that the node said it does not know when it was asked to trace it, and since when."""

    @property
    def standing(self) -> dict[Tracing, Standing]:
        """What is known of each dialect."""
        return self.ways.standing

    @property
    def refused(self) -> dict[str, str]:
        """The words with which a dialect was refused."""
        return self.ways.refused

    @property
    def first(self) -> Tracing:
        """The dialect to ask for in the same request as a block: one that has worked, else none."""
        return next((way for way, known in self.standing.items() if known is Standing.WORKS), Tracing.NONE)

    @property
    def unable(self) -> str:
        """Why this node cannot trace at all; empty where it can, or where that is not known yet."""
        if self.first is not Tracing.NONE or not self.refused:
            return ""
        missing = all(known is Standing.MISSING for known in self.standing.values())
        words = "; ".join(self.refused.values())
        verb = "can neither" if missing else "refuses both"
        join = "nor" if missing else "and"
        return f"{self.rpc.name} {verb} trace_block {join} debug_traceBlockByHash: ether sent by contracts " + (
            f"(exchange batches, smart wallets) is not seen and shows only when balances are reconciled ({words})"
        )

    async def probe(self) -> None:
        """Find out which dialects the node has, on a block that is cheap to trace. A passing refusal leaves it open."""
        block = await self._cheapest()
        for way in self.standing:
            if block is None or self.first is not Tracing.NONE:
                return
            method, params = way.call(block.number, block.hash)
            try:
                refusal = (await self.rpc.call(method, *params)).refusal
            except NodeRefused as error:
                refusal = error
            except RailUnavailable:
                continue
            self._learn(way, refusal)

    async def _cheapest(self) -> Header | None:
        """The block with the fewest transactions among a few below the head, or the head of a chain this short."""
        latest = (await self.rpc.call("eth_getBlockByNumber", "latest", False)).read_block(wire.header_decoder)
        if latest is None:
            return None
        head = read_quantity(latest.number, f"{self.rpc.name}: the newest block")
        calls = [("eth_getBlockByNumber", (hex(head - back), False)) for back in PROBE_BACK if back < head]
        blocks = [latest]
        for answer in await self.rpc.batch(calls):
            if not answer.refused and (block := answer.read_block(wire.header_decoder)) is not None:
                blocks.append(block)
        return min(blocks[1:] or blocks, key=lambda block: len(block.transactions))

    def _learn(self, way: Tracing, refusal: NodeRefused | None) -> None:
        """A way of tracing was tried: it answered, or it was refused."""
        if refusal is None:
            self.standing[way] = Standing.WORKS
            self.refused.pop(way.value, None)
        elif refusal.meaning is Meaning.MISSING and self.standing[way] is Standing.UNKNOWN:
            # Not of a dialect that has worked: behind a balancer another node may lack it.
            self.standing[way] = Standing.MISSING
            self.refused[way.value] = str(refusal)
        elif refusal.meaning is not Meaning.PASSING and self.standing[way] is Standing.UNKNOWN:
            self.refused[way.value] = str(refusal)

    def has_no_state(self, height: int) -> bool:
        """Whether the node said a moment ago that it has no state of a block as high as this, or higher."""
        return height <= self._stateless and time.monotonic() < self._until

    async def trace(self, block: Block, given: Answer | None = None) -> Traced:
        """The block's frames; ``given`` is an answer of `first` that is there already.

        A block whose `Traced.untraced` is not empty has to be at hand with its transactions. Raises `RailUnavailable`,
        naming the method and the block, for a passing refusal and for frames that are missing; `BlockGone`.
        """
        if not block.transactions:
            return Traced()
        answers = iter([given])
        return await ask_again(lambda: self._trace(block, next(answers, None)))

    async def _trace(self, block: Block, given: Answer | None) -> Traced:
        height = _height(block)
        if self.has_no_state(height):
            return self._by_value(block, "the node has no state of that block any more")
        why = ""
        for way in self._ways(given):
            try:
                frames = await self._whole(way, block, given if way is self.first else None)
            except NodeRefused as refusal:
                why = str(refusal)
                self._check_unknown(block, refusal)
                self._learn(way, refusal)
                if refusal.meaning is Meaning.PASSING:
                    raise RailUnavailable(f"block {height} {block.hash}: {why}") from refusal
                if refusal.meaning is Meaning.STATELESS:
                    self._stateless, self._until = max(self._stateless, height), time.monotonic() + STATELESS_SECONDS
                    return self._by_value(block, why)
            except NodeTimeout as slow:
                # The other dialect runs the same calls.
                why = str(slow)
                break
            else:
                self._learn(way, None)
                return Traced(frames)
        if self.first is Tracing.NONE:
            return self._by_value(block, why)
        return await self._one_by_one(block, why)

    def _check_unknown(self, block: Block, refusal: NodeRefused) -> None:
        """Raise `NotYet` where the node says that it does not know the block, or a transaction of it.

        Behind a balancer that is another node, and taking its word for it would leave ether untold (E2, E19). A node
        that goes on saying so for `UNKNOWN_SECONDS` cannot trace the block, as after any other refusal.
        """
        if refusal.meaning is not Meaning.UNKNOWN:
            return
        known, since = self._unknown
        if known != block.hash:
            since = time.monotonic()
            self._unknown = block.hash, since
        if time.monotonic() - since < UNKNOWN_SECONDS:
            raise NotYet(f"block {_height(block)} {block.hash}: {refusal}") from refusal

    def _ways(self, given: Answer | None) -> list[Tracing]:
        """The dialects to try, in order: what has worked comes first, what is missing not at all."""
        known = [way for way, standing in self.standing.items() if standing is not Standing.MISSING]
        return sorted(known, key=lambda way: self.standing[way] is not Standing.WORKS)

    def _missing(self) -> bool:
        return all(standing is Standing.MISSING for standing in self.standing.values())

    def _by_value(self, block: Block, why: str) -> Traced:
        """No frames: each transaction tells its own value, and the gap is kept for the operator."""
        if not self._missing():
            height = _height(block)
            self.gap.add(height, height, why)
        return Traced((), frozenset(tx_ids(block)))

    async def _whole(self, way: Tracing, block: Block, given: Answer | None) -> list[Trace]:
        """All frames of the block in one dialect, with more time each time. Raises `NodeTimeout` at last."""
        if given is not None:
            return await read_frames(given, block, way)
        method, params = way.call(block.number, block.hash)
        for growth in GROWTH:
            try:
                answer = await self.rpc.call(method, *params, timeout=self.rpc.timeout * growth)
            except NodeTimeout as slow:
                late = slow
            else:
                return await read_frames(answer, block, way)
        raise NodeTimeout(f"block {_height(block)} {block.hash}: {late}") from late

    async def _one_by_one(self, block: Block, why: str) -> Traced:
        """Each transaction that can hold calls, by itself; those that cannot are told by their own values."""
        full = await self.with_transactions(block)
        frames: list[Trace] = []
        done: set[str] = set()
        wanted = [tx for tx in full.transactions if holds_calls(tx)]
        deadline = time.monotonic() + BLOCK_SECONDS
        for tx in wanted:
            if time.monotonic() > deadline:
                break
            try:
                frames += await self._transaction(tx.hash, block)
                done.add(tx.hash)
            except NodeRefused as refusal:
                self._check_unknown(block, refusal)
                if refusal.meaning is Meaning.PASSING:
                    raise RailUnavailable(f"block {_height(block)} {block.hash}: {refusal}") from refusal
                if refusal.meaning in (Meaning.MISSING, Meaning.STATELESS):
                    break
            except NodeTimeout:
                continue
        if len(done) < len(wanted):
            height = _height(block)
            self.gap.add(height, height, f"{len(wanted) - len(done)} of its transactions; {why}")
        return Traced(frames, frozenset(tx_ids(block)) - done)

    async def _transaction(self, tx_id: str, block: Block) -> list[Trace]:
        """One transaction's frames. Raises `NodeRefused` where the node does not trace it, `NodeTimeout`."""
        seconds = self.rpc.timeout * GROWTH[0]
        if self.standing[Tracing.TREE] is not Standing.MISSING:
            options = {"tracer": "callTracer", "timeout": f"{max(1, int(seconds))}s"}
            answer = await self.rpc.call("debug_traceTransaction", tx_id, options, timeout=seconds)
            return await read_tree(answer, tx_id)
        answer = await self.rpc.call("trace_transaction", tx_id, timeout=seconds)
        flat = await answer.read_each(traces.trace_items)
        if not flat or any(trace.transaction_hash != tx_id for trace in flat):
            raise NodeRefused(f"{self.rpc.name} trace_transaction: no frames of {tx_id}")
        if strangers := {trace.block_hash for trace in flat} - {None, block.hash}:
            raise BlockGone(f"{tx_id} is in block {strangers.pop()}, and {block.hash} was asked for")
        return flat

    async def with_transactions(self, block: Block) -> FullBlock:
        """The same block with its transactions. Raises `BlockGone` if the node no longer has it."""
        if isinstance(block, FullBlock):
            return block
        answer = await self.rpc.call("eth_getBlockByHash", block.hash, True)
        return same_block(block, answer)


def _height(block: Block) -> int:
    return read_quantity(block.number, f"block {block.hash}")


def same_block(header: Header, answer: Answer) -> FullBlock:
    """The block that belongs to a header, with its transactions. Raises `BlockGone`, `RailUnavailable`."""
    full = answer.read_block(wire.block_decoder)
    if full is None or full.hash != header.hash:
        raise BlockGone(f"block {header.hash} is not on the node's chain any more")
    if tx_ids(full) != tx_ids(header):
        raise RailUnavailable(f"block {header.hash}: its transactions differ between two answers")
    return full


def holds_calls(tx: Transaction) -> bool:
    """Whether anything can happen inside a transaction: not with the gas of a plain transfer."""
    try:
        return tx.to is None or int(tx.gas, 16) > PLAIN_GAS
    except ValueError:
        return True


async def read_frames(answer: Answer, block: Block, way: Tracing) -> list[Trace]:
    """One block's frames, checked to be all. Raises `NodeRefused`, `RailUnavailable`, `BlockGone`."""
    if way is Tracing.FLAT:
        frames = await answer.read_each(traces.trace_items)
    else:
        with refused_if_large():
            frames = await off_loop(answer.size, lambda: _trees(answer, tx_ids(block)))
    check_traces(block, frames)
    return frames


async def read_tree(answer: Answer, tx_id: str) -> list[Trace]:
    """One transaction's frames by callTracer. Raises `NodeRefused` where there are none."""

    def read() -> list[Trace]:
        raw, folded, what = answer.read_deep()
        root, more = unfold_if_deep(raw, lambda text: decode(text, traces.frame_decoder, what), what)
        if root is None:
            raise NodeRefused(f"{what}: no frames of {tx_id}")
        return traces.flatten([(tx_id, root)], (more or folded).pieces, what)

    with refused_if_large():
        return await off_loop(answer.size, read)


def _trees(answer: Answer, ids: Sequence[str]) -> list[Trace]:
    """A block's trees as flat frames. Raises `NodeRefused` if one transaction of it could not be traced."""
    raw, folded, what = answer.read_deep()
    items, more = unfold_if_deep(raw, lambda text: _items(text, what), what)
    roots: list[tuple[str, CallFrame]] = []
    for place, item in enumerate(items):
        tx_id = item.tx_hash or (ids[place] if place < len(ids) else "")
        if item.result is None:
            raise NodeRefused(f"{what}: transaction {printable(tx_id, 80)} could not be traced: {_said(item.error)}")
        roots.append((tx_id, item.result))
    return traces.flatten(roots, (more or folded).pieces, what)


def _items(raw: bytes | msgspec.Raw, what: str) -> list[traces.TracedTransaction]:
    if len(raw) < LARGE:
        return decode(raw, traces.call_items.many, what)
    return decode_each(raw, traces.call_items.one, what)


def _said(error: object) -> str:
    """What a node says of one transaction that it could not trace: a text, or an error of JSON-RPC."""
    return printable(error.get("message", "") if isinstance(error, dict) else error)

"""Solana's budgets: a block of mainnet's shape, following such blocks, catching up, and memory over many slots.

Blocks come from `tests.bench.solana_replay`, a process of its own that does nothing but serve them.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from solders.pubkey import Pubkey

from railwatch.daemon.watch.address_index import AddressIndex
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import AssetId, AssetSpec, ChainId, RailSettings, Span
from railwatch.store.database import Database, connect
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from railwatch_solana import create_adapter, wire
from railwatch_solana.block_source import WHOLE
from tests.bench.bench_env import decoys, until
from tests.bench.cpu import cpu_milliseconds
from tests.bench.process import resident_megabytes
from tests.bench.report import Row, median
from tests.bench.solana_replay import genesis

RAIL = "bench"
CHAIN = ChainId(f"solana:{genesis()[:32]}")
MINT = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
MILLION = 1_000_000
TXS, SMALL_TXS = 1_500, 150
SLOT_SECONDS = 0.3
FOLLOWED_SECONDS = 15
CATCH_UP = 200
LONG = 4_000
"""Slots of 300 ms in twenty minutes: what leaks with each shows in them."""
AT_ONCE = 4
BASE = 100_001

CONFIG = """
[database]
url = "{dsn}"
[log]
level = "warning"
[[rail]]
name = "{rail}"
adapter = "solana"
chain_id = "{chain}"
nodes = [{{ http = "{http}" }}]
poll_interval = {poll}
start_height = {start}
[[rail.asset]]
symbol = "SOL"
[[rail.asset]]
symbol = "USDC"
contract = "{mint}"
decimals = 6
[[policy]]
rail = "{rail}"
confirmations = 1
"""

MANY_WATCHED = """
insert into railwatch.destinations
    (invoice_id, rail, asset, address, expected_amount, watch_state, policy, policy_origin, family, address_folded,
     address_key, accepted_at, position)
select d.invoice_id, d.rail, d.asset, n::text, 1, 'watching', d.policy, d.policy_origin, d.family, n::text,
       decode(lpad(to_hex(n), 64, '0'), 'hex'), now() - interval '1 day', n
from (select * from railwatch.destinations limit 1) d, generate_series(2, $1) n
"""


@dataclass(slots=True)
class Node:
    """A replay that runs. ``size`` is what the transactions of a block weigh, in bytes."""

    http: str
    size: int
    session: aiohttp.ClientSession

    async def call(self, method: str, *params: Any) -> bytes:
        """One call, its answer not parsed."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        async with self.session.post(self.http, data=body) as response:
            return await response.read()


@asynccontextmanager
async def replaying(txs: int) -> AsyncIterator[Node]:
    """A replay of blocks with so many transactions."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.solana_replay", str(txs)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        _, http, size = (await process.stdout.readline()).decode().split()
        async with aiohttp.ClientSession() as session:
            yield Node(http, int(size), session)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def following(node: Node, dsn: str, folder: Path, *, poll: float = 0.1, start: int = BASE) -> AsyncIterator[int]:
    """The daemon as its own process; gives its pid at once."""
    file = folder / "bench.toml"
    file.write_text(CONFIG.format(dsn=dsn, rail=RAIL, chain=CHAIN, http=node.http, poll=poll, start=start, mint=MINT))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "railwatch", "run", "--config", str(file))
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def database() -> AsyncIterator[tuple[Database, Path]]:
    """A fresh one, and a folder."""
    with tempfile.TemporaryDirectory(prefix="railwatch-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o711)
        async with EmbeddedPostgres(folder / "data") as dsn:
            connection = await connect(dsn)
            await migrate(connection)
            await connection.close()
            async with Database(dsn) as opened:
                yield opened, folder


async def rows() -> list[Row]:
    """All of them."""
    found = []
    async with replaying(TXS) as node:
        found.append(await block(node))
        async with database() as (opened, folder):
            await watch_a_million(node, opened, folder)
            found.append(await catch_up(node, opened, folder))
            found.append(await follow(node, opened, folder))
    async with replaying(SMALL_TXS) as node, database() as (opened, folder):
        found.append(await long_run(node, opened, folder))
    return found


async def block(node: Node) -> Row:
    """One block: what a scan costs beyond reading the same bytes off the wire."""
    await node.call("benchTip", BASE)
    index = AddressIndex(MILLION)
    decoys(index, MILLION)
    watches = IndexedWatches(index, {"": AssetId(f"{CHAIN}/slip44:501"), MINT: AssetId(f"{CHAIN}/token:{MINT}")})
    settings = RailSettings(RAIL, CHAIN, (AssetSpec("SOL", None),))
    async with create_adapter(settings, {"http": node.http}) as adapter:
        upto = await adapter.block_at(BASE - 1)
        span = Span(await adapter.block_at(upto.height - 1), upto)
        spent = await cpu_milliseconds(lambda: adapter.scan(span, watches))
    bare = await cpu_milliseconds(lambda: node.call("getBlock", upto.height, WHOLE))
    return Row(
        f"solana: a block of {TXS:,} txs ({node.size / 1e6:.1f} MB), 1M owners watched: decode and match",
        f"{spent - bare:.1f} ms CPU",
        f"{bare:.1f} ms (the wire)",
        "15 ms CPU",
        spent - bare <= 15,
    )


async def watch_a_million(node: Node, opened: Database, folder: Path) -> None:
    """Register one invoice, and multiply it."""
    await node.call("benchTip", BASE)
    async with following(node, opened.dsn, folder):
        await until(lambda: _is(opened, "select count(*) from railwatch.rails where state = 'live'", 1))
        request = {
            "merchant_id": "bench",
            "order_id": "1",
            "expires_in": 86_400,
            "destinations": [
                {"rail": RAIL, "asset": "SOL", "address": str(Pubkey(secrets.token_bytes(32))), "amount": 10**9}
            ],
        }
        await opened.value("select railwatch.create_invoice($1)", request)
        waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
        await until(lambda: _is(opened, waiting, 0))
    print("solana: watching a million owners", flush=True)
    await opened.value(MANY_WATCHED, MILLION)


async def catch_up(node: Node, opened: Database, folder: Path) -> Row:
    """From the cursor to a tip that is some hundred blocks ahead, into Postgres."""
    spent, floors, tip = [], [], BASE
    async with following(node, opened.dsn, folder, poll=0.02):
        await reached(opened, tip)
        for _ in range(3):
            low, tip = tip, tip + CATCH_UP
            started = time.perf_counter()
            await node.call("benchTip", tip)
            await reached(opened, tip)
            spent.append(time.perf_counter() - started)
            floors.append(await bare_seconds(node, low + 1, tip))
    ours, floor = median(spent), median(floors)
    return Row(
        f"solana: catch-up over {CATCH_UP} slots of {TXS:,} txs, 1M owners watched",
        f"{ours:.2f} s",
        f"{floor:.2f} s (bare fetch + decode)",
        "80% of the floor's rate",
        floor / ours >= 0.8,
    )


async def bare_seconds(node: Node, low: int, high: int) -> float:
    """Seconds to fetch and decode the same blocks, some at once, and do nothing with them."""
    slots = iter([slot for slot in range(low, high + 1) if slot % 13])

    async def work() -> None:
        for slot in slots:
            wire.block_decoder.decode(await node.call("getBlock", slot, WHOLE))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.perf_counter() - started


async def follow(node: Node, opened: Database, folder: Path) -> Row:
    """Block after block as they come: the daemon's processor time, without that of fetching them."""
    wire_ms = await cpu_milliseconds(lambda: node.call("getBlock", BASE - 1, WHOLE))
    async with following(node, opened.dsn, folder) as pid:
        await until(lambda: _is(opened, "select count(*) from railwatch.rails where state = 'live'", 1))
        await asyncio.sleep(3)
        await node.call("benchPace", SLOT_SECONDS)
        await asyncio.sleep(1)
        low, before, started = await _cursor(opened), _cpu_seconds(pid), time.perf_counter()
        await asyncio.sleep(FOLLOWED_SECONDS)
        passed = time.perf_counter() - started
        blocks = (await _cursor(opened) - low) * 12 / 13
        share = (_cpu_seconds(pid) - before - blocks * wire_ms / 1e3) / passed
    return Row(
        f"solana: following slots of {SLOT_SECONDS * 1e3:.0f} ms with {TXS:,} txs for {FOLLOWED_SECONDS} s "
        f"({blocks:.0f} blocks)",
        f"{share:.1%} of a core",
        f"{blocks * wire_ms / 1e3 / passed:.1%} (the wire)",
        "10% beyond the wire",
        share <= 0.1,
    )


async def long_run(node: Node, opened: Database, folder: Path) -> Row:
    """Memory after a tenth of the slots, and after all of them, as fast as they can be served."""
    await node.call("benchTip", BASE)
    async with following(node, opened.dsn, folder, poll=0.02) as pid:
        await reached(opened, BASE)
        await watch_one(opened)
        await node.call("benchTip", BASE + LONG // 10)
        await reached(opened, BASE + LONG // 10)
        early = resident_megabytes(pid)
        await node.call("benchTip", BASE + LONG)
        await reached(opened, BASE + LONG)
        late = resident_megabytes(pid)
    return Row(
        f"solana: memory over {LONG:,} slots of {SMALL_TXS} txs ({node.size / 1e6:.1f} MB), accelerated",
        f"{late:.0f} MB at the end",
        f"{early:.0f} MB after a tenth",
        "flat (10%)",
        late <= early * 1.1,
    )


async def watch_one(opened: Database) -> None:
    """So that whole blocks are asked for."""
    way = {"rail": RAIL, "asset": "SOL", "address": str(Pubkey(secrets.token_bytes(32))), "amount": 10**9}
    request = {"merchant_id": "bench", "order_id": "hour", "expires_in": 86_400, "destinations": [way]}
    await opened.value("select railwatch.create_invoice($1)", request)
    waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
    await until(lambda: _is(opened, waiting, 0))


async def _cursor(opened: Database) -> int:
    return int(await opened.value("select coalesce(max(cursor_height), -1) from railwatch.rails") or 0)


async def reached(opened: Database, slot: int) -> None:
    """Wait until the cursor is there; without haste, because each question delays the work."""
    async with asyncio.timeout(900):
        while await _cursor(opened) < (slot if slot % 13 else slot - 1):  # noqa: ASYNC110 (another process moves it)
            await asyncio.sleep(0.05)


async def _is(opened: Database, query: str, value: object) -> bool:
    return bool(await opened.value(query) == value)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, from the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    import logging

    import structlog

    from tests.bench.report import show

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    show(asyncio.run(rows()), Path("bench-results"))

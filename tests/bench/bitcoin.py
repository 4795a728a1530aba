"""The Bitcoin rail on a real bitcoind: from a push to the committed row, catching up, and looking back by filters."""

import asyncio
import base64
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import zmq
import zmq.asyncio

from railwatch.config import Config
from railwatch.conformance import WatchSet
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.demo.workspace import toml_table
from railwatch.rail import Span
from railwatch.store.database import Database
from railwatch_bitcoin.block import read_block
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_bitcoin.dev.wallet import random_script
from tests.bench.bench_env import RAIL, until
from tests.bench.floor import COMMIT, ONE_ROW
from tests.bench.report import Row, median, percentile

AMOUNT = 100_000
ROUNDS, WARM = 50, 5
BLOCKS, CAUGHT_UP = 5_000, 2_000
OUTPUTS, PADDING = 100, 24_000
"""Of each block: about as many bytes an output as the main chain has, where witnesses take most of the room."""
BATCH = 100
"""Blocks that the bare client asks for at once."""


@dataclass(slots=True)
class Bench:
    """A chain, a database, and the addresses of invoices in it."""

    sim: BitcoinSimulator
    database: Database
    addresses: list[str] = field(default_factory=list)

    def tables(self, **rail: Any) -> dict[str, Any]:
        """The configuration."""
        table = {
            "name": RAIL,
            "adapter": "bitcoin",
            "chain_id": self.sim.chain_id,
            "nodes": [self.sim.node],
            "asset": [{"symbol": self.sim.symbol}],
            **rail,
        }
        policy = {"rail": RAIL, "confirmations": 1}
        return {"database": {"url": self.database.dsn}, "rail": [table], "policy": [policy]}

    async def register(self, count: int) -> None:
        """``count`` invoices, an address each; returns once they are watched."""
        for _ in range(count):
            address = await self.sim.new_address()
            request = {
                "merchant_id": "bench",
                "order_id": secrets.token_hex(8),
                "expires_in": 86_400,
                "destinations": [{"rail": RAIL, "asset": self.sim.symbol, "address": address, "amount": AMOUNT}],
            }
            await self.database.value("select railwatch.create_invoice($1)", request)
            self.addresses.append(address)
        waiting = "select count(*) = 0 from railwatch.destinations where watch_state = 'registered'"
        await until(lambda: self.database.value(waiting))

    async def is_live(self) -> bool:
        """Whether the daemon follows."""
        return bool(await self.database.value("select count(*) from railwatch.rails where state = 'live'") == 1)

    async def reached(self, height: int) -> bool:
        """Whether the cursor is that high."""
        return int(await self.database.value("select coalesce(max(cursor_height), -1) from railwatch.rails")) >= height

    @asynccontextmanager
    async def process(self, folder: Path) -> AsyncIterator[None]:
        """The daemon as a process of its own, live."""
        file = folder / "bitcoin.toml"
        tables = self.tables()
        lines = [
            *toml_table("[database]", tables["database"]),
            *toml_table("[log]", {"level": "warning"}),
            *toml_table("[[rail]]", tables["rail"][0]),
            *toml_table("[[policy]]", tables["policy"][0]),
        ]
        await asyncio.to_thread(file.write_text, "\n".join(lines))
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "railwatch", "run", "--config", str(file))
        try:
            await until(self.is_live)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    @asynccontextmanager
    async def daemon(self, **rail: Any) -> AsyncIterator[None]:
        """The daemon in this process."""
        task = asyncio.create_task(serve(Config.model_validate(self.tables(**rail)), None, NullReporter()))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Bare:
    """The least that any program has to do: ask the node, and commit one row."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._answers = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
        self._text = msgspec.json.Decoder(str)

    async def __aenter__(self) -> "Bare":
        secret = await asyncio.to_thread(Path(self._bench.sim.node["cookie_path"]).read_bytes)
        headers = {
            "Authorization": "Basic " + base64.b64encode(secret).decode(),
            "Content-Type": "application/json",
        }
        self._session = aiohttp.ClientSession(headers=headers)
        self._connection = await asyncpg.connect(self._bench.database.dsn)
        await self._connection.execute(ONE_ROW)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._connection.close()

    async def ask(self, method: str, params: Sequence[Sequence[Any]]) -> list[str]:
        """One batch of one method; the results are texts."""
        calls = [{"id": number, "method": method, "params": each} for number, each in enumerate(params)]
        async with self._session.post(self._bench.sim.node["rpc"], data=msgspec.json.encode(calls)) as response:
            return [self._text.decode(answer["result"]) for answer in self._answers.decode(await response.read())]

    async def transaction(self, tx_id: str) -> float:
        """Seconds to fetch it and to commit a row."""
        return await self._timed(lambda: self.ask("getrawtransaction", [(tx_id,)]))

    async def block(self, block_hash: str) -> float:
        """The same of a block."""
        return await self._timed(lambda: self.ask("getblock", [(block_hash, 0)]))

    async def _timed(self, fetch: Callable[[], Awaitable[list[str]]]) -> float:
        started = time.perf_counter()
        bytes.fromhex((await fetch())[0])
        await self._connection.execute(COMMIT)
        return time.perf_counter() - started

    async def blocks(self, low: int, high: int, read: Callable[[bytes], object]) -> float:
        """Seconds to fetch these blocks as bytes, two requests at a time, and to ``read`` each."""

        async def some(at: int) -> int:
            hashes = await self.ask("getblockhash", [(height,) for height in range(at, min(high, at + BATCH - 1) + 1)])
            raws = await self.ask("getblock", [(each, 0) for each in hashes])
            return len([read(bytes.fromhex(raw)) for raw in raws])

        started = time.perf_counter()
        starts = range(low, high + 1, BATCH)
        for place in range(0, len(starts), 2):
            await asyncio.gather(*[some(at) for at in starts[place : place + 2]])
        return time.perf_counter() - started


@dataclass(slots=True)
class Witness:
    """When the node pushed what, and when the feed last got a commit."""

    pushed: dict[str, float] = field(default_factory=dict)
    committed: float = 0.0
    notified: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, *_: object) -> None:
        """A notification came."""
        self.committed = time.perf_counter()
        self.notified.set()


@asynccontextmanager
async def witnesses(bench: Bench) -> AsyncIterator[Witness]:
    """A subscription and a LISTEN of our own."""
    witness, context = Witness(), zmq.asyncio.Context()
    connection = await asyncpg.connect(bench.database.dsn)
    await connection.add_listener("railwatch", witness.hear)
    socket = context.socket(zmq.SUB)
    for topic in (b"hashblock", b"sequence"):
        socket.subscribe(topic)
    socket.connect(bench.sim.node["zmq"])

    async def listen() -> None:
        while True:
            _, body, _ = await socket.recv_multipart()
            witness.pushed.setdefault(body[:32].hex(), time.perf_counter())

    task = asyncio.create_task(listen())
    try:
        await asyncio.sleep(0.5)
        yield witness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        context.destroy(linger=0)
        await connection.close()


async def latency(bench: Bench) -> list[Row]:
    """One payment at a time: seen in the mempool, then mined."""
    ours: dict[str, list[float]] = {"seen": [], "mined": []}
    floors: dict[str, list[float]] = {"seen": [], "mined": []}
    async with Bare(bench) as bare, witnesses(bench) as witness:

        async def measure(
            kind: str, act: Callable[[], Awaitable[str]], floor: Callable[[str], Awaitable[float]]
        ) -> None:
            witness.notified.clear()
            name = await act()
            async with asyncio.timeout(10):
                await witness.notified.wait()
            await asyncio.sleep(0.02)  # the last of several commits counts
            ours[kind].append(witness.committed - witness.pushed[name])
            floors[kind].append(await floor(name))

        async def mined() -> str:
            await bench.sim.mine()
            return await bench.sim.head()

        for number in range(ROUNDS + WARM):
            address = bench.addresses[number]
            await measure("seen", lambda: bench.sim.pay(address, AMOUNT), bare.transaction)  # noqa: B023
            await measure("mined", mined, bare.block)
    names = {"seen": "a payment's push to committed `detected`", "mined": "a block's push to committed transition"}
    found = []
    for kind, name in names.items():
        mine, floor = ours[kind][WARM:], median(floors[kind][WARM:])
        spent = f"{median(mine) * 1e3:.1f} / {percentile(mine, 0.95) * 1e3:.1f} ms"
        block = kind == "mined"
        found.append(
            Row(
                f"Bitcoin: {name}, p50 / p95",
                spent,
                f"{floor * 1e3:.1f} ms (fetch + commit)",
                "50 ms" if block else "-",
                percentile(mine, 0.95) <= 0.05 if block else None,
            )
        )
    return found


async def grow(bench: Bench) -> None:
    """Blocks that pay many strangers; every fiftieth pays an invoice too. No mempool sees them."""
    padding = (b"\x6a" + bytes(PADDING), 0)
    for number in range(BLOCKS):
        outputs = [*((random_script("p2wpkh"), 1_000) for _ in range(OUTPUTS)), padding]
        if number % 50 == 0:
            address = bench.addresses[number // 50 % len(bench.addresses)]
            outputs.append((await bench.sim.script_of(address), AMOUNT))
        await bench.sim.rewrite(0, [await bench.sim.purse.spend(outputs)])
        if number % 1_000 == 999:
            print(f"  made {number + 1:,} of {BLOCKS:,} blocks", flush=True)


async def catch_up(bench: Bench) -> Row:
    """The newest blocks into Postgres, next to fetching and decoding them bare."""
    tip = await bench.sim.height()
    start = tip - CAUGHT_UP
    spent = []
    for _ in range(3):
        await bench.database.value(FORGET)
        async with bench.daemon(start_height=start + 1):
            await until(lambda: bench.reached(start))
            started = time.perf_counter()
            await until(lambda: bench.reached(tip))
            spent.append(time.perf_counter() - started)
    async with Bare(bench) as bare:
        decoded = [await bare.blocks(start + 1, tip, lambda raw: read_block(raw, bench.sim.chain)) for _ in range(3)]
        fetched = [await bare.blocks(start + 1, tip, len) for _ in range(3)]
    share = median(decoded) / median(spent)
    return Row(
        f"Bitcoin catch-up: {CAUGHT_UP:,} blocks of {OUTPUTS} outputs and {PADDING // 1000} kB",
        f"{median(spent):.2f} s",
        f"{median(decoded):.2f} s (getblock and decoding; {median(fetched):.2f} s getblock alone)",
        "80% of the floor's rate",
        share >= 0.8,
    )


FORGET = """
with gone as (delete from railwatch.checkpoints returning 1)
update railwatch.rails set cursor_height = null, cursor_hash = null, covered_until = null returning 1
"""


async def rescan(bench: Bench) -> Row:
    """A look-back for one address over the whole chain, by filters and by blocks."""
    async with bench.sim.open_adapter() as rail:
        tip = (await rail.heads()).latest
        span = Span(await rail.block_at(tip.height - BLOCKS), tip, sparse=True)
        key = rail.parse_address(bench.addresses[0]).key
        few = WatchSet(frozenset([key]), {"": bench.sim.native})
        # As many keys as make filters useless: the same question, answered from blocks.
        many = replace(few, keys=few.keys | {b"\x00\x14" + secrets.token_bytes(20) for _ in range(10_000)})
        spent, found = {}, {}
        for way, watches in (("filters", few), ("blocks", many)):
            started = time.perf_counter()
            scanned = await rail.scan(span, watches)
            spent[way], found[way] = time.perf_counter() - started, len(scanned.transfers)
            assert scanned.method == way, scanned.method
    assert found["filters"] == found["blocks"] > 0, found
    return Row(
        f"Bitcoin rescan of {BLOCKS:,} blocks for one address: filters, blocks",
        f"{spent['filters']:.2f} s",
        f"{spent['blocks']:.2f} s (every block)",
        "less than the blocks",
        spent["filters"] < spent["blocks"],
    )


async def rows(database: Database, folder: Path) -> list[Row]:
    """All of them, on one chain in an empty database."""
    async with BitcoinSimulator() as sim:
        bench = Bench(sim, database)
        async with bench.process(folder):
            await bench.register(ROUNDS + WARM)
            found = await latency(bench)
        print(f"making {BLOCKS:,} Bitcoin blocks", flush=True)
        await grow(bench)
        return [*found, await catch_up(bench), await rescan(bench)]

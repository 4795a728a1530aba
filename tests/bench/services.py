"""What other services feel: how fast orders are registered, and a block that pays ten thousand of them at once.

The daemon and the node are processes of their own; the services are eight connections of this one.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from railwatch.store.database import Connection, connect
from railwatch_evm.address import checksum_address
from railwatch_evm.dev.simulator import EvmSimulator
from tests.bench import process
from tests.bench.bench_env import RAIL, BenchEnv, until
from tests.bench.feed import PAGE, PAGE_OF_FEED, database
from tests.bench.latency import witnesses
from tests.bench.report import Row

SERVICES = 8
PAYMENTS = 10_000
AFTERWARDS = 4_000
"""Invoices that are registered once more while no daemon runs."""
IN_ONE_TRANSACTION = 250
"""Token payments that one transaction makes: anvil puts them into one block all the same."""

WRITTEN = ("detections", "transitions", "observations")
"""What a step writes a row to for each payment, or several."""


@asynccontextmanager
async def services(stand: BenchEnv) -> AsyncIterator[list[Connection]]:
    """Eight connections, each with one service behind it."""
    opened = [await connect(stand.database.dsn) for _ in range(SERVICES)]
    try:
        yield opened
    finally:
        for each in opened:
            await each.close()


async def rate(connections: Sequence[Connection], count: int, act: Callable[[Connection], Awaitable[Any]]) -> float:
    """Acts a second, when every connection does its share one after another."""

    async def share(connection: Connection) -> None:
        for _ in range(count // len(connections)):
            await act(connection)

    started = time.perf_counter()
    await asyncio.gather(*(share(each) for each in connections))
    return count / (time.perf_counter() - started)


def registering(stand: BenchEnv) -> Callable[[Connection], Awaitable[None]]:
    """An invoice for one new address; the environment keeps it."""

    async def register(connection: Connection) -> None:
        address = checksum_address(secrets.token_bytes(20))
        request = {
            "merchant_id": "bench",
            "order_id": secrets.token_hex(8),
            "expires_in": 86_400,
            "destinations": [{"rail": RAIL, "asset": "TST", "address": address, "amount": "1"}],
        }
        stand.invoices.append(await connection.fetchval("select railwatch.create_invoice($1)", request))
        stand.addresses.append(address)

    return register


async def _insert(connection: Connection) -> None:
    await connection.execute("insert into bench_floor (id, data) values (gen_random_uuid(), $1)", {"order": "1"})


async def rows() -> list[Row]:
    """Registrations a second, and the block of payments."""
    with tempfile.TemporaryDirectory(prefix="railwatch-bench-") as name:
        async with database() as opened, EvmSimulator() as simulator:
            stand = BenchEnv(simulator, opened)
            async with services(stand) as connections:
                await connections[0].execute("create table bench_floor (id uuid primary key, data jsonb)")
                floor = await rate(connections, PAYMENTS, _insert)
                async with process.daemon(stand, Path(name)):
                    print(f"registering {PAYMENTS:,} invoices from {SERVICES} connections", flush=True)
                    beside = await rate(connections, PAYMENTS, registering(stand))
                    await until(lambda: _is_taken_in(stand))
                    block = await one_block(stand)
                alone = await rate(connections, AFTERWARDS, registering(stand))
    bare = f"{floor:,.0f} /s (insert, commit)"
    return [
        Row(f"create_invoice from {SERVICES} connections, next to the daemon", f"{beside:,.0f} /s", bare, "-", None),
        Row("the same, while no daemon runs", f"{alone:,.0f} /s", bare, "-", None),
        *block,
    ]


async def _is_taken_in(stand: BenchEnv) -> bool:
    waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
    return bool(await stand.database.value(waiting) == 0)


async def one_block(stand: BenchEnv) -> list[Row]:
    """Pay all invoices in one block: until its step is committed, and until a reader of the feed has its lines."""
    print(f"paying {PAYMENTS:,} invoices in one block", flush=True)
    for first in range(0, PAYMENTS, IN_ONE_TRANSACTION):
        paid = stand.addresses[first : first + IN_ONE_TRANSACTION]
        await stand.simulator.pay_token_many(paid, [1] * len(paid))
    before = await _written(stand)
    async with witnesses(stand) as witness:
        reader = asyncio.create_task(_read(stand, await _last_seq(stand), 4 * PAYMENTS))
        await stand.simulator.mine()
        earliest, latest = await reader
        head = await stand.simulator.head()
        await until(lambda: witness.has(head))
        pushed, committed = witness.pushed[head], witness.committed
    assert await stand.at(head), "all of it was one block"
    written = sum((await _written(stand)).values()) - sum(before.values())
    floor = await _copy(stand)
    return [
        Row(
            f"{PAYMENTS:,} payments in one block, from its push to the commit ({written:,} rows)",
            f"{committed - pushed:.2f} s",
            f"{floor:.2f} s (COPY of as many rows)",
            "-",
            None,
        ),
        Row(
            f"the feed's delay for that block, first / last of {4 * PAYMENTS:,} lines in a reader's hands",
            f"{earliest - pushed:.2f} / {latest - pushed:.2f} s",
            "-",
            "-",
            None,
        ),
    ]


async def _written(stand: BenchEnv) -> dict[str, int]:
    return {each: await stand.database.value(f"select count(*) from railwatch.{each}") for each in WRITTEN}


async def _last_seq(stand: BenchEnv) -> int:
    return int(await stand.database.value("select last_seq from railwatch.feed_position"))


async def _read(stand: BenchEnv, position: int, lines: int) -> tuple[float, float]:
    """As a consumer does: page by page, and read again soon. When the first page and when the last was there."""
    first, end = 0.0, position + lines
    async with stand.database.connection() as connection:
        while position < end:
            page = await connection.fetch(PAGE_OF_FEED, position, PAGE)
            if not page:
                await asyncio.sleep(0.005)
                continue
            first = first or time.perf_counter()
            position = page[-1]["seq"]
    return first, time.perf_counter()


async def _copy(stand: BenchEnv) -> float:
    """Seconds to COPY the very rows into tables without index or key, in one transaction."""
    connection = await asyncpg.connect(stand.database.dsn)
    try:
        copies = {}
        for each in WRITTEN:
            await connection.execute(f"create table floor_{each} (like railwatch.{each})")
            columns = [row["name"] for row in await connection.fetch(COLUMNS, f"railwatch.{each}")]
            copies[each] = columns, await connection.fetch(f"select {', '.join(columns)} from railwatch.{each}")
        started = time.perf_counter()
        async with connection.transaction():
            for each, (columns, records) in copies.items():
                await connection.copy_records_to_table(f"floor_{each}", records=records, columns=columns)
        return time.perf_counter() - started
    finally:
        await connection.close()


COLUMNS = """
select attname as name from pg_attribute
where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''
order by attnum
"""

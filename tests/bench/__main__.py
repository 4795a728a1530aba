"""`make bench`: every budget, ours next to the floor. It needs some minutes; nothing else should run meanwhile.

`make bench ARGS="live solana"` runs these groups only.
"""

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from railwatch.store.database import Database, connect
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from railwatch_evm.dev.simulator import EvmSimulator
from tests.bench import (
    bitcoin,
    bitcoin_cpu,
    catchup,
    cpu,
    credits,
    feed,
    growth,
    latency,
    process,
    quiet,
    rules,
    services,
    solana,
    webhooks,
)
from tests.bench.bench_env import BenchEnv, until
from tests.bench.report import Row, show

RESULTS = Path("bench-results")
MILLION = 1_000_000

MANY_WATCHED = """
insert into railwatch.destinations
    (invoice_id, rail, asset, address, expected_amount, watch_state, policy, policy_origin, family, address_folded,
     address_key, accepted_at, position)
select d.invoice_id, d.rail, d.asset, n::text, 1, 'watching', d.policy, d.policy_origin, d.family, n::text,
       decode(lpad(to_hex(n), 40, '0'), 'hex'), now() - interval '1 day', n
from (select * from railwatch.destinations limit 1) d, generate_series(2, $1) n
"""


@asynccontextmanager
async def stand() -> AsyncIterator[tuple[BenchEnv, Path]]:
    """A fresh database and a fresh chain."""
    with tempfile.TemporaryDirectory(prefix="railwatch-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o711)
        async with EmbeddedPostgres(folder / "data") as dsn:
            connection = await connect(dsn)
            await migrate(connection)
            await connection.close()
            async with EvmSimulator() as simulator, Database(dsn) as database:
                yield BenchEnv(simulator, database), folder


async def live() -> list[Row]:
    """The daemon as its own process, block by block."""
    rows = []
    async with stand() as (bench, folder):
        async with process.daemon(bench, folder):
            print("registering 6,000 invoices", flush=True)
            await bench.register(6_000, amount=1)
            rows += await latency.rows(bench)
            rows += [await latency.burst(bench), await latency.fork(bench), await quiet.writes_of_a_quiet_block(bench)]
            rows.append(await latency.nth_payment(bench, 10_000))
        rows.append(await quiet.silent_websocket(bench, folder))
        print("watching a million addresses", flush=True)
        await bench.database.value(MANY_WATCHED, MILLION)
        async with process.daemon(bench, folder) as pid:
            await asyncio.sleep(2)
            resident = process.resident_megabytes(pid)
        rows.append(Row("resident memory, 1M addresses watched", f"{resident:.0f} MB", "-", "300 MB", resident <= 300))
    return rows


HISTORIES = (
    ("one invoice a block", 0, 1.4),
    ("ten of 5,000 invoices a block", 5_000, 3.6),
    ("each invoice paid once", 20_030, 4.4),
)
"""What a long chain pays: the shape, how many invoices take turns, and the budget in seconds."""


async def history() -> list[Row]:
    """Catching up with chains of known size."""
    rows = []
    for shape, payees, budget in HISTORIES:
        async with stand() as (bench, _):
            async with bench.daemon():
                await until(bench.is_live)
                print(f"{shape}: registering", flush=True)
                await bench.register(payees or 2_003, amount=10)
            base = await bench.simulator.height()
            print("making 2,003 blocks of 10 transfers", flush=True)
            await bench.grow(2_003, 10, payees=payees)
            rows.append(await catchup.backfill(bench, base, await bench.simulator.height(), shape, budget))
    async with stand() as (bench, _):
        async with bench.daemon():
            await until(bench.is_live)
            await bench.register(20)
        base = await bench.simulator.height()
        print("making 3,000 blocks of 10 transfers", flush=True)
        await bench.grow(3_000, 10, ours=50)
        tip = await bench.simulator.height()
        rows.append(await catchup.among_a_million(bench, base, tip, bench.addresses, MILLION))
    return rows


async def stored() -> list[Row]:
    """What grows with what is merely stored."""
    async with stand() as (bench, folder):
        return await growth.rows(bench, folder)


async def coins() -> list[Row]:
    """The Bitcoin rail, on a chain and a database of its own."""
    with tempfile.TemporaryDirectory(prefix="railwatch-bench-") as name:
        os.chmod(name, 0o711)
        async with EmbeddedPostgres(Path(name) / "data") as dsn:
            connection = await connect(dsn)
            await migrate(connection)
            await connection.close()
            async with Database(dsn) as database:
                return await bitcoin.rows(database, Path(name))


async def plan() -> list[Row]:
    """What a hosted plan's credits are spent on."""
    async with stand() as (bench, _):
        return [await credits.quiet_day(bench)]


async def loads() -> list[Row]:
    """What blocks cost the processor, without a database."""
    return [*await cpu.rows(), *bitcoin_cpu.rows(), rules.row()]


GROUPS: dict[str, Callable[[], Awaitable[list[Row]]]] = {
    "live": live,
    "history": history,
    "growth": stored,
    "cpu": loads,
    "bitcoin": coins,
    "solana": solana.rows,
    "services": services.rows,
    "feed": feed.rows,
    "webhooks": webhooks.rows,
    "credits": plan,
}


async def main(names: Sequence[str]) -> None:
    """Run these groups, and show their rows together."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = []
    for name in names:
        started = time.perf_counter()
        rows += await GROUPS[name]()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    show(rows, RESULTS)


chosen = sys.argv[1:] or list(GROUPS)
if unknown := set(chosen) - set(GROUPS):
    sys.exit(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
asyncio.run(main(chosen))

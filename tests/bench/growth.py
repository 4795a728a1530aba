"""What a block, a registration and a start cost as tables grow: at 1,000, 100,000 and a million stored invoices.

Every second one is closed. Nothing may cost more because of what is merely stored.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from railwatch.store.database import Connection
from tests.bench import feed, latency, process
from tests.bench.bench_env import RAIL, BenchEnv, until
from tests.bench.report import Row, median
from tests.bench.services import rate, registering, services

SIZES = (1_000, 100_000, 1_000_000)
"""Stored invoices, with as many past transitions; the first is what the others are compared with."""
PIECE = 50_000
REGISTERED = 2_000

INVOICES = """
insert into railwatch.invoices (id, merchant_id, order_id, state, expires_at, closes_at, policy, time_basis, terms,
                                created_at)
select md5('i' || n)::uuid, 'stored', n::text, case when n % 2 = 0 then 'created' else 'expired' end,
       now() + case when n % 2 = 0 then interval '30 days' else interval '-12 hours' end + n * interval '1 ms',
       now() + case when n % 2 = 0 then interval '44 days' else interval '-1 hour' end,
       '{"confirmations": 1}', 'first_seen', '{}', now() - interval '1 day'
from generate_series($1::int, $2::int) n
"""

DESTINATIONS = """
insert into railwatch.destinations
    (invoice_id, rail, asset, address, expected_amount, watch_state, policy, policy_origin, family, address_folded,
     address_key, accepted_at, position, covered_from)
select md5('i' || n)::uuid, d.rail, d.asset, '0x' || lpad(to_hex(n), 40, '0'), 1,
       case when n % 2 = 0 then 'watching' else 'closed' end, d.policy, d.policy_origin,
       d.family, '0x' || lpad(to_hex(n), 40, '0'), decode(lpad(to_hex(n), 40, '0'), 'hex'),
       now() - interval '1 day', 1, 1
from (select * from railwatch.destinations where rail = $3 order by id limit 1) d, generate_series($1::int, $2::int) n
"""


async def store(stand: BenchEnv, already: int, size: int) -> None:
    """Fill the tables up to ``size`` invoices, and as many past transitions, numbered below the feed's."""
    async with stand.database.connection() as connection:
        await connection.execute("set statement_timeout = 0")
        for first in range(already + 1, size + 1, PIECE):
            last = min(first + PIECE - 1, size)
            await connection.execute(INVOICES, first, last)
            await connection.execute(DESTINATIONS, first, last, RAIL)
            await connection.execute(feed.FILL, first - 10**9, last - 10**9)
        await connection.execute("vacuum analyze")


async def at_size(stand: BenchEnv, folder: Path) -> tuple[float, float, float]:
    """Seconds of a start and of a block of ten transfers (p50), and registrations a second until watched."""
    began = time.perf_counter()
    async with process.daemon(stand, folder):
        start = time.perf_counter() - began
        spent, _ = await latency.measure(stand, 10, 40)
        async with services(stand) as connections:
            watched = await until_watched(stand, connections, REGISTERED)
    return start, median(spent), watched


async def until_watched(stand: BenchEnv, connections: Sequence[Connection], count: int) -> float:
    """Registrations a second from eight connections, until the last of them is watched."""
    began = time.perf_counter()
    await rate(connections, count, registering(stand))
    waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
    await until(lambda: _is_none(stand, waiting))
    return count / (time.perf_counter() - began)


async def _is_none(stand: BenchEnv, count: str) -> bool:
    return bool(await stand.database.value(count) == 0)


async def rows(stand: BenchEnv, folder: Path) -> list[Row]:
    """All sizes, one after another, on one machine and one chain."""
    async with process.daemon(stand, folder):
        await stand.register(500, amount=1)
    found, already = [], 0
    for size in SIZES:
        print(f"storing {size:,} invoices", flush=True)
        await store(stand, already, size)
        already = size
        found.append(await at_size(stand, folder))
    starts, steps, watched = zip(*found, strict=True)
    sizes = " / ".join(f"{size:,}" for size in SIZES)
    return [
        Row(
            f"a block of 10 transfers at {sizes} invoices stored, p50",
            " / ".join(f"{each * 1e3:.1f}" for each in steps) + " ms",
            "-",
            "1.3 x the first",
            max(steps) <= 1.3 * steps[0],
        ),
        Row(
            f"registration until watching at {sizes}, 8 connections, next to the daemon",
            " / ".join(f"{each:,.0f}" for each in watched) + " /s",
            "-",
            "300 /s at any size",
            min(watched) >= 300,
        ),
        Row(
            f"from a start to live at {sizes}",
            " / ".join(f"{each:.1f}" for each in starts) + " s",
            "-",
            "1.3 x the first",
            max(starts) <= 1.3 * starts[0],
        ),
    ]

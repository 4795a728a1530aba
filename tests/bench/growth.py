"""What a block, a registration and a start cost at 10,000 open invoices and at a million."""

import time
from collections.abc import Sequence
from pathlib import Path

from indexer.store.database import Connection
from tests.bench import feed, latency, process
from tests.bench.report import Row, median
from tests.bench.services import rate, registering, services
from tests.bench.stand import RAIL, Stand, until

SIZES = (10_000, 1_000_000)
"""Open invoices; the second is what the first is compared with. Both have as many past transitions."""
PIECE = 50_000
REGISTERED = 2_000

INVOICES = """
insert into railwatch.invoices (id, merchant_id, order_id, state, expires_at, closes_at, policy, time_basis, terms,
                                created_at)
select md5('i' || n)::uuid, 'stored', n::text, 'created', now() + interval '30 days' + n * interval '1 ms',
       now() + interval '44 days', '{"confirmations": 1}', 'first_seen', '{}', now() - interval '1 day'
from generate_series($1::int, $2::int) n
"""

DESTINATIONS = """
insert into railwatch.destinations
    (invoice_id, rail, asset, address, expected_amount, watch_state, policy, policy_origin, family, address_folded,
     address_key, keyed_at, position, covered_from)
select md5('i' || n)::uuid, d.rail, d.asset, '0x' || lpad(to_hex(n), 40, '0'), 1, 'watching', d.policy, d.policy_origin,
       d.family, '0x' || lpad(to_hex(n), 40, '0'), decode(lpad(to_hex(n), 40, '0'), 'hex'),
       now() - interval '1 day', 1, 1
from (select * from railwatch.destinations where rail = $3 order by id limit 1) d, generate_series($1::int, $2::int) n
"""


async def store(stand: Stand, already: int, size: int) -> None:
    """Fill the tables up to ``size`` open invoices, and as many past transitions, numbered below the feed's."""
    async with stand.database.connection() as connection:
        await connection.execute("set statement_timeout = 0")
        for first in range(already + 1, size + 1, PIECE):
            last = min(first + PIECE - 1, size)
            await connection.execute(INVOICES, first, last)
            await connection.execute(DESTINATIONS, first, last, RAIL)
            await connection.execute(feed.FILL, first - 10**9, last - 10**9)
        await connection.execute("vacuum analyze")


async def at_size(stand: Stand, folder: Path) -> tuple[float, float, float]:
    """Seconds of a start and of a block of ten transfers (p50), and registrations a second until watched."""
    began = time.perf_counter()
    async with process.daemon(stand, folder):
        start = time.perf_counter() - began
        spent, _ = await latency.measure(stand, 10, 40)
        async with services(stand) as connections:
            watched = await until_watched(stand, connections, REGISTERED)
    return start, median(spent), watched


async def until_watched(stand: Stand, connections: Sequence[Connection], count: int) -> float:
    """Registrations a second from eight connections, until the last of them is watched."""
    began = time.perf_counter()
    await rate(connections, count, registering(stand))
    waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
    await until(lambda: _is_none(stand, waiting))
    return count / (time.perf_counter() - began)


async def _is_none(stand: Stand, count: str) -> bool:
    return bool(await stand.database.value(count) == 0)


async def rows(stand: Stand, folder: Path) -> list[Row]:
    """Both sizes, one after the other, on one machine and one chain."""
    async with process.daemon(stand, folder):
        await stand.register(500, amount=1)
    found, already = [], 0
    for size in SIZES:
        print(f"storing {size:,} open invoices", flush=True)
        await store(stand, already, size)
        already = size
        found.append(await at_size(stand, folder))
    (start_few, step_few, watched_few), (start_many, step_many, watched_many) = found
    few, many = (f"{size:,}" for size in SIZES)
    return [
        Row(
            f"a block of 10 transfers at {many} open invoices, p50",
            f"{step_many * 1e3:.1f} ms",
            f"{step_few * 1e3:.1f} ms at {few}",
            "1.3 x",
            step_many <= 1.3 * step_few,
        ),
        Row(
            f"registration until watching at {many}, 8 connections, beside the daemon",
            f"{watched_many:,.0f} /s",
            f"{watched_few:,.0f} /s at {few}",
            "300 /s at any size",
            min(watched_many, watched_few) >= 300,
        ),
        Row(
            f"from a start to live at {many}",
            f"{start_many:.1f} s",
            f"{start_few:.1f} s at {few}",
            "1.3 x",
            start_many <= 1.3 * start_few,
        ),
    ]

"""The feed as a consumer reads it: a million lines in pages, next to one cursor over the same lines."""

import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from railwatch.store.database import Database, connect
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from tests.bench.report import Row

MILLION = 1_000_000
PAGE = 1_000
PIECE = 100_000
"""Lines that one statement writes: it has a minute."""

PAGE_OF_FEED = "select * from railwatch.transitions where seq > $1 order by seq limit $2"

FILL = """
insert into railwatch.transitions
    (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id, block_height,
     block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence)
select n, gen_random_uuid(), 'invoice', md5((n / 4)::text)::uuid, md5((n / 4)::text)::uuid, 'confirming', 'paid',
       'confirmed', 'chain', 'bench', md5(n::text), n, md5(n::text), 3, 2000000000000000000, 2000000000000000000, now(),
       '{"cursor": 14, "policy": {"confirmations": 3}, "expected": "2000000000000000000"}'
from generate_series($1::bigint, $2::bigint) n
"""


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """A fresh database with the schema."""
    with tempfile.TemporaryDirectory(prefix="railwatch-bench-") as name:
        os.chmod(name, 0o711)
        async with EmbeddedPostgres(Path(name) / "data") as dsn:
            connection = await connect(dsn)
            await migrate(connection)
            await connection.close()
            async with Database(dsn) as opened:
                yield opened


async def rows(count: int = MILLION) -> list[Row]:
    """Rows a second, page by page."""
    print(f"writing {count:,} transitions", flush=True)
    async with database() as opened, opened.connection() as connection:
        for first in range(1, count + 1, PIECE):
            await connection.execute(FILL, first, min(first + PIECE - 1, count))
        await connection.execute("vacuum analyze railwatch.transitions")
        started, position, read = time.perf_counter(), 0, 0
        while page := await connection.fetch(PAGE_OF_FEED, position, PAGE):
            position, read = page[-1]["seq"], read + len(page)
        ours = read / (time.perf_counter() - started)
        assert read == count
        started, read = time.perf_counter(), 0
        async with connection.transaction():
            async for _ in connection.cursor("select * from railwatch.transitions order by seq", prefetch=PAGE):
                read += 1
        floor = read / (time.perf_counter() - started)
    return [
        Row(
            f"feed read of {count:,} transitions in pages of {PAGE:,}",
            f"{ours:,.0f} rows/s",
            f"{floor:,.0f} rows/s (one cursor)",
            "-",
            None,
        )
    ]

"""What a block writes that touches no invoice, and how a websocket that went silent is survived."""

import asyncio
import time
from pathlib import Path

from tests.bench.bench_env import BenchEnv, until
from tests.bench.process import daemon
from tests.bench.report import Row

COUNTS = """
select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables
where schemaname = 'railwatch' and relname <> 'leases'
"""

UNTIL_FINAL = 80
"""Blocks after which what came before is final, and writes no more."""


async def writes_of_a_quiet_block(stand: BenchEnv, blocks: int = 160) -> Row:
    """Rows and bytes of WAL a block, over blocks that hold nothing of ours, one step each."""
    database = stand.database
    await _balances_are_known(stand)
    await stand.simulator.mine(UNTIL_FINAL)
    height = await stand.simulator.height()
    await until(lambda: stand.reached(height))
    for _ in range(8):
        # A connection reports its statistics with a delay, and only when it is used again.
        await asyncio.sleep(0.5)
        await stand.simulator.mine()
    await asyncio.sleep(1.5)
    rows = await database.value(COUNTS)
    wal = await database.value("select pg_current_wal_insert_lsn() - '0/0'")
    for _ in range(blocks):
        await stand.simulator.mine()
        height = await stand.simulator.height()
        await until(lambda: stand.reached(height))  # noqa: B023
    wal = await database.value("select pg_current_wal_insert_lsn() - '0/0'") - wal
    await asyncio.sleep(1.5)
    rows = await database.value(COUNTS) - rows
    return Row(
        "a block that touches no invoice writes",
        f"{rows / blocks:.2f} rows, {int(wal) / blocks:.0f} bytes of WAL",
        "-",
        "the cursor's row (1.00)",
        rows / blocks <= 1.15,
    )


async def _balances_are_known(stand: BenchEnv) -> None:
    """New addresses are checked in the seconds after their registration, whatever the blocks are."""
    known, before = -1, -2
    while known != before:
        await asyncio.sleep(2.5)
        known, before = await stand.database.value("select count(*) from railwatch.balances"), known


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read whatever comes, until the other side is gone."""
    while await reader.read(4096):
        pass
    writer.close()


async def silent_websocket(stand: BenchEnv, folder: Path) -> Row:
    """A websocket that accepts and never says a word: how long until a block is committed all the same."""
    silent = await asyncio.start_server(_say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        async with daemon(stand, folder, ws=f"ws://127.0.0.1:{port}"):
            started = time.perf_counter()
            await stand.simulator.mine()
            height = await stand.simulator.height()
            await until(lambda: stand.reached(height))
            spent = time.perf_counter() - started
    finally:
        silent.close()
    return Row("a silent websocket: until the next block is committed", f"{spent:.2f} s", "-", "5 s", spent <= 5)

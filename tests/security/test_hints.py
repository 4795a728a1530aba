"""Notifications are hints: a login that fills the server's queue of them, or floods a channel, stops no work.

Any login may listen, notify and rest in a transaction. The queue is the server's, and while a login that listens rests
so, it is not emptied; once it is full, each commit that notifies fails
(https://www.postgresql.org/docs/current/sql-notify.html).
"""

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from railwatch.ops.check_database import check_database
from railwatch.store import notifications
from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from railwatch.store.notifications import Listener
from tests.folders import database_folder
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

SQL = Path(notifications.__file__).parent / "sql"
FUNCTIONS = "select proname from pg_proc where pronamespace = 'railwatch'::regnamespace and prosrc like '%pg_notify%'"


@pytest.fixture
async def small_queue() -> AsyncIterator[str]:
    """The DSN of a server whose queue holds half a megabyte, and not eight gigabytes."""
    with tempfile.TemporaryDirectory(prefix="railwatch-hints-", dir=database_folder()) as name:
        await asyncio.to_thread(Path(name).chmod, 0o711)
        server = EmbeddedPostgres(Path(name) / "data")
        dsn = await server.start()
        try:
            connection = await asyncpg.connect(dsn)
            version = int(await connection.fetchval("show server_version_num"))
            if version >= 170_000:
                await connection.execute("alter system set max_notify_queue_pages = 64")
                await connection.execute("create role stranger login")
                await migrate(connection)
            await connection.close()
            if version < 170_000:
                pytest.skip("before Postgres 17 the size of the queue is fixed")
            await server.stop()
            yield await server.start()
        finally:
            await server.stop()


async def test_an_invoice_is_registered_and_paid_while_the_queue_of_notifications_is_full(small_queue: str) -> None:
    stranger = re.sub(r"//[^@/]*@", "//stranger@", small_queue)
    resting, filling = await asyncpg.connect(stranger), await asyncpg.connect(stranger)
    try:
        await resting.execute("listen x")
        await resting.execute("begin")
        await resting.execute("select 1")
        with pytest.raises(asyncpg.ProgramLimitExceededError):
            await _fill(filling)
        async with Database(small_queue) as database, DaemonHarness(database, [chain_named()]) as stage:
            invoice = await stage.invoice(100)
            await stage.pay(invoice, 100)
            await stage.mine(2)
            await stage.wait_for_state(invoice, "paid")
            await database.rows("select railwatch.request_rescan('story', 0)")
            await stage.rescanned()
            await stage.audit()
            findings = await check_database(stage.config, (), {})
            assert any("notification queue is" in each.text for each in findings[1]), findings[1]
    finally:
        await resting.close()
        await filling.close()


async def test_the_one_way_to_notify_leaves_hints_out_where_the_queue_is_half_full(database: Database) -> None:
    named = [row["proname"] for row in await database.rows(FUNCTIONS)]
    assert named == ["notify"], "call railwatch.notify instead of pg_notify"
    queries = [path.name for path in (SQL / "queries").glob("*.sql") if "pg_notify" in path.read_text()]
    assert queries == [], "call railwatch.notify instead of pg_notify"
    body = await database.value("select pg_get_functiondef('railwatch.notify'::regproc)")
    assert "pg_notification_queue_usage() <" in body


async def test_a_flooded_channel_wakes_no_more_often_than_the_pause_allows(dsn: str) -> None:
    woken = 0
    async with Listener(dsn, ("flooded",)) as listener:
        await listener.wait(5)  # it is connected
        connection = await asyncpg.connect(dsn)
        try:
            begun = time.monotonic()
            flooding = asyncio.create_task(_flood(connection))
            while time.monotonic() - begun < 0.5:
                await listener.wait(1)
                woken += 1
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            seconds = time.monotonic() - begun
        finally:
            await connection.close()
    assert 0 < woken <= seconds / notifications.WAKE_PAUSE + 1


async def _fill(connection: asyncpg.Connection) -> None:
    for number in range(1_000):
        await connection.execute(f"notify x, '{number}{'x' * 7_900}'")


async def _flood(connection: asyncpg.Connection) -> None:
    while True:
        await connection.execute("notify flooded")

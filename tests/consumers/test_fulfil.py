"""The reference consumers fulfil exactly once: killed at any statement, in two copies, read again from the start."""

import asyncio
import re
import runpy
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from railwatch.store.database import Database
from tests.consumers.history import DONE, History, lived
from tests.scenarios.cut_proxy import Cutter
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.webhooks.shop import furnish, until

FOLDER = Path(__file__).parents[2] / "docs/consumers"
SCRIPT, TABLES, PROGRAM = FOLDER / "fulfil.sql", FOLDER / "shop.sql", FOLDER / "fulfil.py"
CONSUMERS = ("fulfilment", "fulfilment-py")


@pytest.fixture
async def history(database: Database) -> History:
    await furnish(database)
    await open_shop(database)
    return await lived(database, noise=70)


async def open_shop(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn)
    try:
        await connection.execute(TABLES.read_text())
        await connection.execute("select railwatch.lock_consumer('fulfilment')")
    finally:
        await connection.close()


def statements() -> list[str]:
    """The script, one statement each, as a client would send them."""
    text = re.sub(r"^\s*--.*\n", "", SCRIPT.read_text(), flags=re.MULTILINE)
    return [each.strip() for each in text.split(";\n") if each.strip()]


async def run_sql(dsn: str, upto: int | None = None, page: int = 500) -> None:
    """Send the script's statements; with ``upto`` only so many, and then be gone without a word."""
    connection = await asyncpg.connect(dsn)
    for each in statements()[:upto]:
        await connection.execute(each.replace("limit 500", f"limit {page}"))
    connection.terminate()


async def at_the_end(database: Database, consumer: str) -> bool:
    query = "select position = last_seq from railwatch.consumers, railwatch.feed_position where name = $1"
    return bool(await database.value(query, consumer))


async def drain_sql(database: Database, page: int = 500) -> None:
    while not await at_the_end(database, "fulfilment"):
        await run_sql(database.dsn, page=page)


async def drain_python(database: Database) -> None:
    async with program(database.dsn, database.dsn, "--once") as process:
        assert await process.wait() == 0


@asynccontextmanager
async def program(feed: str, shop: str, *words: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), feed, shop, *words)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


Drain = Callable[[Database], Awaitable[None]]


@pytest.mark.parametrize("drain", [drain_sql, drain_python])
async def test_it_fulfils_and_reverses_as_the_feed_says(history: History, drain: Drain) -> None:
    await drain(history.database)
    assert await history.effects() == DONE


@pytest.mark.parametrize("drain", [drain_sql, drain_python])
async def test_read_again_from_the_start_it_changes_nothing(history: History, drain: Drain) -> None:
    await drain(history.database)
    before = await history.database.rows(
        "select f::text, r::text from shop.fulfilments f, shop.reversals r order by 1, 2"
    )
    await history.database.rows("update railwatch.consumers set position = 0")
    await history.database.rows("update shop.feed set position = 0")
    await drain(history.database)
    after = await history.database.rows(
        "select f::text, r::text from shop.fulfilments f, shop.reversals r order by 1, 2"
    )
    assert before == after
    assert await at_the_end(history.database, CONSUMERS[drain is drain_python])


@pytest.mark.parametrize("page", [1, 2, 7])
async def test_it_makes_no_difference_where_a_page_of_the_script_ends(database: Database, page: int) -> None:
    await furnish(database)
    await open_shop(database)
    history = await lived(database, noise=0)
    await drain_sql(database, page)
    assert await history.effects() == DONE
    await database.rows("update railwatch.consumers set position = 0")
    await drain_sql(database)
    assert await history.effects() == DONE, "read again, in other pages"


@pytest.mark.parametrize("upto", range(1, len(statements()) + 1))
async def test_sql_killed_after_any_statement_goes_on_as_if_nothing_had_been(history: History, upto: int) -> None:
    await run_sql(history.database.dsn, upto)
    await drain_sql(history.database)
    assert await history.effects() == DONE


async def test_two_copies_of_the_script_take_turns(history: History) -> None:
    first = await asyncpg.connect(history.database.dsn)
    for each in statements()[:-1]:
        await first.execute(each)
    second = asyncio.create_task(run_sql(history.database.dsn))
    await until(lambda: somebody_waits(history.database))
    await first.execute(statements()[-1])
    first.terminate()
    await second
    assert await at_the_end(history.database, "fulfilment"), "each took a page of its own"
    assert await history.effects() == DONE


async def somebody_waits(database: Database) -> bool:
    return bool(await database.value("select count(*) from pg_locks where not granted"))


@pytest.mark.skipif(shutil.which("psql") is None, reason="no psql here")
async def test_psql_runs_the_script(history: History) -> None:
    for _ in range(3):
        command = ["psql", history.database.dsn, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(SCRIPT)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
    assert await at_the_end(history.database, "fulfilment")
    assert await history.effects() == DONE


class Reaper(Cutter):
    """A wire that kills its user as soon as the question of that number went through: the answer is never read."""

    def __init__(self, folder: Path, dsn: str, fatal: int) -> None:
        super().__init__(folder, dsn)
        self.fatal = fatal
        self.asked = 0
        self.victim: Process | None = None

    async def _questions(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event, number: int
    ) -> None:
        try:
            size = await reader.readexactly(4)
            writer.write(size + await reader.readexactly(int.from_bytes(size) - 4))
            while True:
                head = await reader.readexactly(5)
                writer.write(head + await reader.readexactly(int.from_bytes(head[1:]) - 4))
                await writer.drain()
                if head[:1] in b"QS":
                    self.asked += 1
                if self.asked == self.fatal and self.victim is not None:
                    doomed.set()
                    self.victim.kill()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()


async def killed_at(database: Database, folder: Path, question: int) -> bool:
    """Run the program until its question of that number; False: it had come to its end before."""
    async with Reaper(folder, database.dsn, question) as wire, program(wire.dsn, wire.dsn, "--once") as process:
        wire.victim = process
        return await process.wait() != 0


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
async def test_python_killed_at_any_statement_goes_on_as_if_nothing_had_been(
    history: History, tmp_path_factory: pytest.TempPathFactory, every: int
) -> None:
    database, question, killed = history.database, 0, True
    while killed:
        question += every
        await database.rows("truncate shop.fulfilments, shop.reversals, shop.feed")
        killed = await killed_at(database, tmp_path_factory.mktemp("wire"), question)
        await drain_python(database)
        assert await history.effects() == DONE, f"killed at its statement {question}"
    assert question > 20


async def test_python_outlives_its_connections_and_is_woken_by_the_feed(history: History) -> None:
    database = history.database
    cut = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where datname = current_database() and application_name = 'shop'"
    )
    dsn = f"{database.dsn}&application_name=shop"
    async with program(dsn, dsn):
        await until(lambda: at_the_end(database, "fulfilment-py"))
        assert await database.value(cut) == 2
        await database.rows("truncate shop.fulfilments, shop.reversals, shop.feed")
        await until(lambda: _is_done(history))


async def _is_done(history: History) -> bool:
    return bool(await history.effects() == DONE)


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    async with DaemonHarness(database, [chain_named()]) as stage:
        yield stage


@pytest.mark.parametrize("drain", [drain_sql, drain_python])
async def test_next_to_a_daemon_a_payment_is_fulfilled_and_a_reorg_reverses_it(
    stage: DaemonHarness, drain: Drain
) -> None:
    await open_shop(stage.database)
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await drain(stage.database)
    [fulfilled] = await stage.database.rows("select invoice_id, order_id from shop.fulfilments")
    assert tuple(fulfilled) == (invoice.id, "1")
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await drain(stage.database)
    [reversed_] = await stage.database.rows("select invoice_id, settled_again_seq from shop.reversals")
    assert tuple(reversed_) == (invoice.id, None)
    assert await stage.database.value("select count(*) from shop.fulfilments") == 1


@pytest.mark.parametrize("drain", [drain_sql, drain_python])
async def test_a_reorg_under_a_hold_stops_the_order_until_it_is_paid_again(stage: DaemonHarness, drain: Drain) -> None:
    await open_shop(stage.database)
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await stage.database.value("select railwatch.hold_invoice($1, actor => 'ann', reason => 'looks odd')", invoice.id)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await drain(stage.database)
    reversals = "select invoice_id, settled_again_seq is not null from shop.reversals"
    assert [tuple(each) for each in await stage.database.rows(reversals)] == [(invoice.id, False)]
    await stage.database.value("select railwatch.release_invoice($1, actor => 'bob', reason => 'known')", invoice.id)
    await drain(stage.database)
    assert (await stage.path(invoice))[-2:] == [("flagged", "held"), ("created", "released")]
    assert [tuple(each) for each in await stage.database.rows(reversals)] == [(invoice.id, False)]
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await drain(stage.database)
    assert [tuple(each) for each in await stage.database.rows(reversals)] == [(invoice.id, True)]
    assert await stage.database.value("select count(*) from shop.fulfilments") == 1


def test_the_two_agree_on_what_is_fulfilled() -> None:
    assert SCRIPT.read_text().count("('paid', 'overpaid')") == 3
    assert runpy.run_path(str(PROGRAM))["FULFILLED"] == ("paid", "overpaid")

"""A real Postgres for every test that wants one: one server a session, one database a test."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
import structlog
from hypothesis import settings

from railwatch.rail.pacing import forget_paces
from railwatch.redaction import forget
from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from railwatch_bitcoin.dev.node_process import NodeMissing
from railwatch_evm.dev.node_process import AnvilMissing
from railwatch_solana.dev.node_process import DevnodeMissing
from tests.folders import database_folder

_numbers = count(1)

# By default a traceback is drawn with every local variable, which stops a daemon in this process for seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background so, and every process that a test interrupts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes longer than 200 ms for an example. A test must not fail by that.
settings.register_profile("no deadline", settings(), deadline=None)
settings.load_profile("no deadline")

NODES_REQUIRED = "RAILWATCH_NODES_REQUIRED"
"""Set where every development node can be had, as in CI: a missing one is a failure there."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """A node that a test's set-up cannot have is a visible skip."""
    return (yield from _skipping_without_a_node())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The same for the test itself."""
    return (yield from _skipping_without_a_node())


def _skipping_without_a_node() -> Generator[None, None, None]:
    try:
        return (yield)
    except (AnvilMissing, NodeMissing, DevnodeMissing) as missing:
        if os.environ.get(NODES_REQUIRED):
            raise
        pytest.skip(str(missing))


@pytest.fixture(autouse=True)
def nothing_of_others() -> Iterator[None]:
    """What one test's configuration hides is not hidden from the next one, and no endpoint has a past."""
    yield
    forget()
    forget_paces()


NOT_DURABLE = ("fsync = off", "full_page_writes = off")
"""No test pulls the plug of its machine. What a server that is killed has committed is there all the same."""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of a server whose database `railwatch` holds the schema, to be copied and not used."""
    with tempfile.TemporaryDirectory(prefix="railwatch-tests-", dir=database_folder()) as name:
        # The server runs as another user when we are root, and pytest's own folders are closed to it.
        Path(name).chmod(0o711)
        server = EmbeddedPostgres(Path(name) / "data")
        dsn = asyncio.run(server.start())
        try:
            asyncio.run(_prepare(dsn))
            yield dsn
        finally:
            asyncio.run(server.stop())


async def _prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for each in NOT_DURABLE:
            await connection.execute(f"alter system set {each}")
        await connection.execute("select pg_reload_conf()")
        await migrate(connection)
    finally:
        await connection.close()


@pytest.fixture
async def dsn(server: str) -> AsyncIterator[str]:
    """A database of the test's own, with the schema in it."""
    name = f"test_{next(_numbers)}"
    await _execute(server, f"create database {name} template railwatch strategy file_copy")
    yield server.replace("/railwatch?", f"/{name}?")
    await _execute(server, f"drop database if exists {name} with (force)")


async def _execute(server: str, sql: str) -> None:
    connection = await asyncpg.connect(server, database="postgres")
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """That database, open."""
    async with Database(dsn, size=4) as database:
        yield database

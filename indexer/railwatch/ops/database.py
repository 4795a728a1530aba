"""Reaching the database from a command, beside a daemon or without one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from railwatch.config import Config
from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres, dsn_of_running
from railwatch.store.errors import SchemaMismatch, StoreUnavailable
from railwatch.store.migrate import require_current


@asynccontextmanager
async def open_database(
    config: Config, *, lasting: bool = False, size: int = 2, read_only: bool = False
) -> AsyncIterator[Database]:
    """The configured database, its schema verified.

    Our own Postgres is attached to where a daemon runs it, else started for the while. ``lasting`` commands only
    attach: a daemon that starts beside one would use its server, and lose it when the command ends.
    ``read_only``: nothing can be changed through it.
    Raises `StoreUnavailable`, `SchemaMismatch`, `EmbeddedPostgresError`.
    """
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(_server(config, lasting))
        database = await stack.enter_async_context(Database(dsn, size=size, read_only=read_only))
        async with database.connection() as connection:
            await require_current(connection)
        yield database


@asynccontextmanager
async def _server(config: Config, lasting: bool) -> AsyncIterator[str]:
    """The DSN of a server that runs at least as long as the context."""
    if not config.database.embedded:
        yield config.database.url.get_secret_value()
        return
    folder = config.database.data_dir
    running = await dsn_of_running(folder)
    if running is not None:
        yield running
        return
    if not is_made(folder):
        raise SchemaMismatch(f"there is no database in {folder} yet; `railwatch run` and `railwatch migrate` make it")
    if lasting:
        raise StoreUnavailable(f"nothing runs the database in {folder}; start the daemon first: `railwatch run`")
    async with EmbeddedPostgres(folder) as dsn:
        yield dsn


def is_made(folder: Path) -> bool:
    """Whether the embedded database of that folder was ever started."""
    return (folder / "cluster").exists()

"""The connection of a command to the database, with or without a running daemon."""

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
    """Return the configured database after a check of its schema.

    The embedded Postgres of a running daemon is shared; without one, the command runs it until it ends. A ``lasting``
    command never starts it: a daemon that starts meanwhile would use that server, and lose it when the command ends.
    ``read_only``: every transaction is read-only.
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
    """Return the DSN of a server that runs at least as long as the context."""
    if not config.database.embedded:
        yield config.database.url.get_secret_value()
        return
    folder = config.database.data_dir
    running = await dsn_of_running(folder)
    if running is not None:
        yield running
        return
    if not is_made(folder):
        raise SchemaMismatch(f"there is no database in {folder} yet; create it with: railwatch migrate")
    if lasting:
        raise StoreUnavailable(f"the embedded database in {folder} does not run; start the daemon first: railwatch run")
    async with EmbeddedPostgres(folder) as dsn:
        yield dsn


def is_made(folder: Path) -> bool:
    """Return True if the folder holds an embedded database."""
    return (folder / "cluster").exists()

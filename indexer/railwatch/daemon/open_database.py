"""The daemon's database: started if embedded, awaited if unavailable, rejected if its schema is unknown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import structlog

from railwatch.config import Config
from railwatch.store.database import Database, connect, translated
from railwatch.store.embedded.server import EmbeddedPostgres, EmbeddedPostgresError
from railwatch.store.errors import StoreUnavailable
from railwatch.store.migrate import migrate, require_current
from railwatch.supervision import keep_running

RETRY_EVERY = 2.0
"""Seconds between two attempts to reach an unavailable Postgres."""

CONNECTIONS = 8

Result = TypeVar("Result")


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[Database]:
    """Return the configured database after a check of its schema.

    The daemon migrates the embedded database itself; an operator migrates any other one. Raises `SchemaMismatch`,
    `EmbeddedPostgresError`.
    """
    async with AsyncExitStack() as stack:
        if config.database.embedded:
            server = EmbeddedPostgres(config.database.data_dir)
            dsn = await stack.enter_async_context(server)
            keeper = keep_running("postgres", lambda: _keep_running(server, dsn))
            stack.callback(asyncio.create_task(keeper).cancel)
        else:
            dsn = config.database.url.get_secret_value()
        await reached(lambda: _verify_schema(dsn, ours=config.database.embedded))
        yield await stack.enter_async_context(Database(dsn, size=CONNECTIONS))


async def _verify_schema(dsn: str, *, ours: bool) -> None:
    connection = await connect(dsn)
    try:
        with translated(dsn):
            if ours:
                for done in await migrate(connection):
                    structlog.get_logger().info("store.migrated", version=done.version, name=done.name)
            await require_current(connection)
    finally:
        connection.terminate()


async def reached(act: Callable[[], Awaitable[Result]]) -> Result:
    """Return the result of ``act`` once Postgres answers, and log each wait.

    After a power failure the daemon often starts before Postgres.
    """
    while True:
        try:
            return await act()
        except StoreUnavailable as failure:
            structlog.get_logger().warning("store.unavailable", reason=str(failure), retry_in=RETRY_EVERY)
            await asyncio.sleep(RETRY_EVERY)


async def _keep_running(server: EmbeddedPostgres, dsn: str) -> None:
    """Restart the embedded Postgres if it has ended."""
    while True:
        await asyncio.sleep(RETRY_EVERY)
        try:
            connection = await connect(dsn)
        except StoreUnavailable as failure:
            structlog.get_logger().warning("store.restarting", reason=str(failure))
            try:
                await server.start()
            except EmbeddedPostgresError as error:
                structlog.get_logger().error("store.cannot_restart", reason=str(error))
        else:
            await connection.close()

"""A database that the daemon may write to: started if it is ours, waited for if away, refused if unknown."""

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
"""Seconds between two attempts to reach a Postgres that is away."""

CONNECTIONS = 8

Result = TypeVar("Result")


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[Database]:
    """The configured database, its schema verified.

    Our own is migrated without asking, because nobody else can do it; an operator's is not. Raises `SchemaMismatch`,
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
    """Do ``act`` as soon as Postgres can be reached, and say so: after a power cut the daemon is often up before it."""
    while True:
        try:
            return await act()
        except StoreUnavailable as away:
            structlog.get_logger().warning("store.unavailable", reason=str(away), retry_in=RETRY_EVERY)
            await asyncio.sleep(RETRY_EVERY)


async def _keep_running(server: EmbeddedPostgres, dsn: str) -> None:
    """Start our own Postgres again if it is gone: nobody else will, and a rail only waits for it."""
    while True:
        await asyncio.sleep(RETRY_EVERY)
        try:
            connection = await connect(dsn)
        except StoreUnavailable as away:
            structlog.get_logger().warning("store.restarting", reason=str(away))
            try:
                await server.start()
            except EmbeddedPostgresError as error:
                structlog.get_logger().error("store.cannot_restart", reason=str(error))
        else:
            await connection.close()

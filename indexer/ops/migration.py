"""`railwatch migrate`: the schema of whatever database is configured, brought up to date."""

from contextlib import AsyncExitStack

from indexer.config import Config
from indexer.store.database import connect, translated
from indexer.store.embedded import EmbeddedPostgres
from indexer.store.migrate import Migration, migrate


async def bring_up_to_date(config: Config) -> list[Migration]:
    """Apply what is missing, and return it. Our own Postgres is made and started for the while, if it is not running.

    Raises `StoreUnavailable`, `SchemaMismatch`, `EmbeddedPostgresError`.
    """
    async with AsyncExitStack() as stack:
        if config.database.embedded:
            dsn = await stack.enter_async_context(EmbeddedPostgres(config.database.data_dir))
        else:
            dsn = config.database.url.get_secret_value()
        connection = await connect(dsn)
        stack.push_async_callback(connection.close)
        with translated(dsn):
            return await migrate(connection)

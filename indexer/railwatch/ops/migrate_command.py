"""`railwatch migrate`: the schema of whatever database is configured, brought up to date."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from railwatch.config import Config
from railwatch.store.database import connect, translated
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import Migration, migrate, missing_roles

ROLES_TODO = (
    "See docs/runbooks/roles.md: a superuser makes them, then the owner grants: select railwatch.grant_rights()"
)
"""What to do about roles that the migrating user may not make."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was applied, and which roles of the contract are not there."""

    applied: list[Migration]
    missing_roles: list[str]


async def bring_up_to_date(config: Config) -> Migrated:
    """Apply what is missing, and say what that was.

    Our own Postgres is made and started for the while, if it is not running. Raises `StoreUnavailable`,
    `SchemaMismatch`, `EmbeddedPostgresError`.
    """
    async with AsyncExitStack() as stack:
        if config.database.embedded:
            dsn = await stack.enter_async_context(EmbeddedPostgres(config.database.data_dir))
        else:
            dsn = config.database.url.get_secret_value()
        connection = await connect(dsn)
        stack.push_async_callback(connection.close)
        with translated(dsn):
            return Migrated(await migrate(connection), await missing_roles(connection))

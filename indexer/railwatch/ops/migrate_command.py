"""`railwatch migrate`: the upgrade of the configured database's schema."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from railwatch.config import Config
from railwatch.store.database import connect, translated
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import Migration, migrate, missing_roles

ROLES_HINT = (
    "Follow docs/runbooks/roles.md: a superuser creates the roles, then the owner runs: select railwatch.grant_rights()"
)
"""The fix for roles that the migrating user may not create."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """The applied migrations, and the roles of the contract that the server lacks."""

    applied: list[Migration]
    missing_roles: list[str]


async def bring_up_to_date(config: Config) -> Migrated:
    """Apply missing migrations and return them.

    If the embedded Postgres does not run, this creates it and runs it meanwhile. Raises `StoreUnavailable`,
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

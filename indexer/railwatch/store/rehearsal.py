"""What mirroring the configuration would do: it is done, by the same code, in a transaction that is rolled back."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from railwatch.store.config_sync import RailMirror, WantedAsset, assets_still_wanted, sync_config
from railwatch.store.database import Database


async def rehearse_mirror(
    database: Database, rails: Sequence[RailMirror], settings: Mapping[str, Any], unfollowed: Collection[str]
) -> dict[str, list[WantedAsset]]:
    """Return, by rail, the assets that open orders ask for and the configuration would no longer have.

    Raises `StoreError` exactly where `sync_config` does. Nothing stays written.
    """
    async with database.connection() as connection:
        rehearsal = connection.transaction()
        await rehearsal.start()
        try:
            await sync_config(connection, rails, settings, unfollowed=unfollowed)
            return {rail.name: await assets_still_wanted(connection, rail.name) for rail in rails}
        finally:
            await rehearsal.rollback()

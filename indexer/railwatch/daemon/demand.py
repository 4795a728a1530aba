"""Assets of open orders stay watched after the configuration drops them (HAZARDS I5)."""

from collections.abc import Sequence

import structlog

from railwatch.config import RailConfig
from railwatch.store.config_sync import assets_in_demand
from railwatch.store.database import Database


async def with_assets_in_demand(database: Database, rails: Sequence[RailConfig]) -> list[RailConfig]:
    """Return the rails with the assets that open orders still need. Raises `StoreUnavailable`.

    Call this once the configuration is stored: from then on no new order can ask for a dropped asset.
    """
    return [await _extended(database, rail) for rail in rails]


async def _extended(database: Database, rail: RailConfig) -> RailConfig:
    wanted = await assets_in_demand(database, rail.name)
    if not wanted:
        return rail
    structlog.get_logger().warning(
        "assets.still_wanted",
        rail=rail.name,
        assets=[each.contract or each.symbol for each, _ in wanted],
        reason="open orders ask for these assets, which the configuration no longer has; the rail watches them until "
        "the orders close. Add their [[rail.asset]] tables again to accept new orders",
    )
    return rail.with_assets(wanted)

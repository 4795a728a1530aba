"""Assets that open orders ask for go on being looked for after they have left the configuration (HAZARDS I5)."""

from collections.abc import Sequence

import structlog

from railwatch.config import RailConfig
from railwatch.store.config_sync import assets_in_demand
from railwatch.store.database import Database


async def with_assets_in_demand(database: Database, rails: Sequence[RailConfig]) -> list[RailConfig]:
    """The rails with what they must still look for, asked once the configuration is mirrored: nobody can order more of
    it by then. Raises `StoreUnavailable`.
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
        reason="open orders ask for them, though the configuration has them no longer",
    )
    return rail.with_assets(wanted)

"""What an operator may do with webhook endpoints: list, pause, forget, replay and drop dead deliveries."""

from collections.abc import Sequence

from railwatch.store.database import Database
from railwatch.store.queries import query
from railwatch.store.read_models import Record

ENDPOINTS_STATUS = query("endpoints_status")
SET_ENDPOINT_ENABLED = query("set_endpoint_enabled")
FORGET_ENDPOINT = query("forget_endpoint")
DEAD_DELIVERIES = query("dead_deliveries")
REPLAY_DEAD = query("replay_dead")
DROP_DEAD = query("drop_dead")
WAKE_DELIVERER = query("wake_deliverer")

CHANNEL = "railwatch_webhooks"
"""Notified when an operator has changed what the deliverer has to do."""


async def list_endpoints(database: Database) -> list[Record]:
    """Return every endpoint, configured ones first: its position, pending deliveries, and results."""
    return [dict(row) for row in await database.rows(ENDPOINTS_STATUS)]


async def set_enabled(database: Database, endpoint: str, enabled: bool) -> bool:
    """Pause or resume an endpoint; return False if there is none of that name."""
    found = await database.value(SET_ENDPOINT_ENABLED, endpoint, enabled) is not None
    await database.value(WAKE_DELIVERER)
    return found


async def forget_endpoint(database: Database, endpoint: str) -> bool:
    """Delete an endpoint with its position and its pending deliveries; return False if it is configured, or unknown."""
    return await database.value(FORGET_ENDPOINT, endpoint) is not None


async def list_dead(database: Database, endpoint: str | None, limit: int) -> list[Record]:
    """Return dead deliveries, by endpoint and seq; None: of every endpoint."""
    return [dict(row) for row in await database.rows(DEAD_DELIVERIES, endpoint, limit)]


async def replay_dead(database: Database, endpoint: str, seqs: Sequence[int] | None) -> list[int]:
    """Queue dead deliveries of an endpoint again (None: all of them), and return the seqs."""
    replayed = [row["seq"] for row in await database.rows(REPLAY_DEAD, endpoint, seqs)]
    await database.value(WAKE_DELIVERER)
    return sorted(replayed)


async def drop_dead(database: Database, endpoint: str, seqs: Sequence[int] | None) -> list[int]:
    """Delete dead deliveries (None: all of them), and return the seqs."""
    return sorted(row["seq"] for row in await database.rows(DROP_DEAD, endpoint, seqs))

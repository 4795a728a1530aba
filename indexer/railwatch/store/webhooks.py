"""What the deliverer asks of the database: endpoints mirrored, events queued from the feed, attempts recorded.

What an endpoint is owed is a row; what it has accepted is gone. Every write may be repeated without harm, so that an
answer that is lost with its connection costs nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from railwatch.store.database import Database
from railwatch.store.queries import query

MIRROR_ENDPOINT = query("mirror_endpoint")
LEAVE_OTHER_ENDPOINTS = query("leave_other_endpoints")
QUEUE_EVENTS = query("queue_events")
DUE_DELIVERIES = query("due_deliveries")
RECORD_DELIVERED = query("record_delivered")
RECORD_FAILED = query("record_failed")


@dataclass(frozen=True, slots=True)
class EndpointMirror:
    """What is stored of a configured endpoint: ``place`` is scheme, host and port; nothing of it is secret."""

    name: str
    place: str
    events: tuple[str, ...]
    from_start: bool = False
    """Whether a new endpoint is owed the feed from its beginning, instead of what comes from now on."""


@dataclass(frozen=True, slots=True)
class QueueResult:
    """What reading one page for an endpoint came to."""

    looked_at: int
    room: int
    """How many lines were asked for; as many were there if there may be more."""
    queued: int
    reading: bool
    """False: the endpoint is paused."""


@dataclass(frozen=True, slots=True)
class PendingDelivery:
    """An event that may be sent to an endpoint now. ``attempts`` have failed before."""

    seq: int
    event_id: UUID
    lane: UUID
    attempts: int
    facts: dict[str, Any]
    """Columns of the transition, of its invoice, and of the transfer if it is about one."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed: the next is due after ``pause`` seconds; None: it was the last."""

    seq: int
    event_id: UUID
    attempts: int
    pause: float | None
    failure: str


async def mirror_endpoints(database: Database, endpoints: Sequence[EndpointMirror]) -> None:
    """Write what is configured, in one transaction; mirroring again changes nothing. Raises `StoreUnavailable`."""
    async with database.transaction() as connection:
        for each in endpoints:
            await connection.execute(MIRROR_ENDPOINT, each.name, each.place, list(each.events), each.from_start)
        await connection.execute(LEAVE_OTHER_ENDPOINTS, [each.name for each in endpoints])


async def queue_events(
    database: Database, endpoint: str, events: Sequence[str], page: int, ready: int, most: int
) -> QueueResult:
    """Read at most ``page`` lines of the feed for an endpoint, while fewer than ``ready`` lanes are due.

    ``most`` is what it may be owed in all, with what has failed and waits.
    """
    row = await database.row(QUEUE_EVENTS, endpoint, [like_pattern(each) for each in events], page, ready, most)
    assert row is not None  # an aggregate always has a row
    return QueueResult(row["looked_at"], row["room"], row["queued"], row["reading"])


async def due_deliveries(
    database: Database, endpoint: str, besides: Collection[UUID], fresh: int, retries: int
) -> list[PendingDelivery]:
    """Return events that may go out now, one of each lane at the most, and none of the lanes ``besides``.

    At most ``fresh`` that were never tried come first, then at most ``retries`` that have failed before.
    """
    rows = await database.rows(DUE_DELIVERIES, endpoint, list(besides), fresh, retries)
    return [PendingDelivery(row["seq"], row["event_id"], row["lane"], row["attempts"], dict(row)) for row in rows]


async def record_attempts(
    database: Database, endpoint: str, delivered: Sequence[tuple[int, UUID]], failed: Sequence[FailedAttempt]
) -> None:
    """Record how attempts ended; ``delivered`` are seqs with their events' ids."""
    async with database.transaction() as connection:
        if delivered:
            await connection.execute(RECORD_DELIVERED, endpoint, *map(list, zip(*delivered, strict=True)))
        if failed:
            await connection.execute(
                RECORD_FAILED,
                endpoint,
                [each.seq for each in failed],
                [each.event_id for each in failed],
                [each.attempts for each in failed],
                ["dead" if each.pause is None else "pending" for each in failed],
                [each.pause or 0.0 for each in failed],
                [each.failure for each in failed],
                failed[-1].failure,
            )


def like_pattern(events: str) -> str:
    """Return a pattern of event types, in which ``*`` matches anything, as a pattern of SQL's LIKE."""
    return events.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%").replace("*", "%")

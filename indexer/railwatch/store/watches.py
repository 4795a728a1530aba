"""Destinations on their way into the watch, and out of it again."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from railwatch.rail.types import AssetId
from railwatch.store.database import Database
from railwatch.store.queries import query

WATCHED_KEYS = query("watched_keys")
COUNT_WATCHED = query("count_watched")
NEWLY_ACCEPTED = query("newly_accepted")
WATCH_POSITION = query("watch_position")
BEGIN_SIBLING_LOOKBACK = query("begin_sibling_lookback")
SIBLING_KEYS = query("sibling_keys")
LOOKED_BACK_FOR = query("looked_back_for")
REGISTERED = query("registered")
ACCEPT_DESTINATIONS = query("accept_destinations")
REJECT = query("reject")
CLOSE_WATCHES = query("close_watches")
NEXT_RESCAN = query("next_rescan")
RESCAN_PROGRESS = query("rescan_progress")
RESCAN_DONE = query("rescan_done")
RESCAN_FAILED = query("rescan_failed")
DELAY_WATCH = query("delay_watch")

CLOSE_BATCH, CLOSE_BATCHES = 500, 20
"""Invoices of one transaction, and transactions of one turn."""
FIRST_PAGE = (datetime.min.replace(tzinfo=UTC), UUID(int=0))

KEYS_A_CHUNK = 50_000
"""Keys read at a time: a start with millions of addresses stays flat in memory."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A destination that waits to be watched: ``amount`` base units of ``asset``.

    ``key`` is known once it was parsed, maybe by an earlier daemon; ``address`` is then the display form.
    """

    id: UUID
    address: str
    reference: str | None
    key: bytes | None
    asset: AssetId
    amount: int


@dataclass(frozen=True, slots=True)
class Rescan:
    """A range to scan again, inclusive; ``to_height`` None: up to the cursor."""

    id: UUID
    to_height: int | None
    next_height: int
    tries: int = 0


class WatchStore:
    """Watched addresses of one family, and registrations of its rails."""

    def __init__(self, database: Database, family: str) -> None:
        self._database = database
        self._family = family

    async def count(self) -> int:
        """Return how many destinations are watched."""
        return int(await self._database.value(COUNT_WATCHED, self._family))

    async def position(self) -> int:
        """Return the number of the newest addition to the family's watch: all up to it are committed."""
        return int(await self._database.value(WATCH_POSITION, self._family) or 0)

    async def keys(self) -> AsyncIterator[list[bytes]]:
        """Return all watched keys, in chunks."""
        async with self._database.transaction() as connection:
            cursor = await connection.cursor(WATCHED_KEYS, self._family)
            while rows := await cursor.fetch(KEYS_A_CHUNK):
                yield [row["address_key"] for row in rows]

    async def accepted_after(self, position: int, limit: int = KEYS_A_CHUNK) -> tuple[list[bytes], int]:
        """Return keys that any daemon added to the watch after ``position``, and the position to ask from next time.

        Exact, however slow a commit was: an addition gets its number under a lock that it holds until its commit, so
        a reader of a number sees all that are lower. About ``limit`` keys at most; none: that was all.
        """
        rows = await self._database.rows(NEWLY_ACCEPTED, self._family, position, limit)
        return [row["address_key"] for row in rows], rows[-1]["keyed_seq"] if rows else position

    async def begin_sibling_lookback(self, rail: str) -> None:
        """Let ``rail`` look back for the last hour's additions of others of its family, if it never did."""
        await self._database.value(BEGIN_SIBLING_LOOKBACK, rail)

    async def sibling_keys(self, rail: str, limit: int) -> tuple[list[bytes], int]:
        """Return keys that other rails added and ``rail`` has not looked back for, and how far those reach."""
        rows = await self._database.rows(SIBLING_KEYS, self._family, rail, limit)
        return [row["address_key"] for row in rows], rows[-1]["keyed_seq"] if rows else 0

    async def looked_back_for(self, rail: str, upto: int) -> None:
        """Record that ``rail`` has looked back for all additions of others up to that position."""
        await self._database.value(LOOKED_BACK_FOR, rail, upto)

    async def registered(self, rail: str, limit: int, without: Collection[UUID] = ()) -> list[Registered]:
        """Return destinations of ``rail`` that wait, at most ``limit``, ``without`` some."""
        rows = await self._database.rows(REGISTERED, rail, limit, list(without))
        return [
            Registered(
                row["id"],
                row["address"],
                row["reference"],
                row["address_key"],
                AssetId(row["asset"]),
                int(row["expected_amount"]),
            )
            for row in rows
        ]

    async def accept(self, parsed: Sequence[tuple[UUID, bytes, str]]) -> dict[UUID, bytes]:
        """Assign the parsed key and display form to each destination; return the accepted ids with their keys."""
        columns = [list(column) for column in zip(*parsed, strict=True)]
        rows = await self._database.rows(ACCEPT_DESTINATIONS, *columns, self._family)
        return {row["id"]: row["address_key"] for row in rows if row["taken"]}

    async def reject(self, refused: Sequence[tuple[UUID, str]]) -> set[UUID]:
        """Reject destinations (id, reason), and return those that were. One that has received money is not rejected."""
        columns = [list(column) for column in zip(*refused, strict=True)]
        return {row["id"] for row in await self._database.rows(REJECT, *columns)}

    async def delay(self, reasons: Sequence[tuple[UUID, str]]) -> None:
        """Record why destinations (id, reason) still wait."""
        await self._database.value(DELAY_WATCH, *[list(column) for column in zip(*reasons, strict=True)])

    async def next_rescan(self, rail: str) -> Rescan | None:
        """Return the open rescan, if it is due."""
        row = await self._database.row(NEXT_RESCAN, rail)
        return Rescan(row["id"], row["to_height"], row["next_height"], row["tries"]) if row else None

    async def rescan_progress(self, rescan: Rescan, next_height: int, found: int) -> bool:
        """Record that a rescan reached ``next_height``; return False if it was cancelled or widened meanwhile."""
        row = await self._database.row(RESCAN_PROGRESS, rescan.id, rescan.next_height, next_height, found)
        return row is not None

    async def rescan_done(self, rescan: Rescan) -> bool:
        """Record that a rescan is done; return False if it was cancelled or widened meanwhile."""
        return await self._database.row(RESCAN_DONE, rescan.id, rescan.next_height, rescan.to_height) is not None

    async def rescan_failed(self, rescan: Rescan, error: str, retry_in: float | None) -> None:
        """Record why a rescan does not progress, and in how many seconds it is retried; None: it has failed."""
        await self._database.value(RESCAN_FAILED, rescan.id, error, retry_in)


class Closing:
    """The end of watching for invoices whose horizon has passed, in every family, as far as nothing can come any more.

    What has to wait (a rail was blind, a payment is on its way) is skipped and checked again in the next walk, so
    that many of them cost a turn no more than a few.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cursor: tuple[datetime, UUID] = FIRST_PAGE

    async def turn(self) -> int:
        """Check some thousand invoices, from where the last turn ended, and return how many were closed."""
        closed = 0
        for _ in range(CLOSE_BATCHES):
            row = await self._database.row(CLOSE_WATCHES, *self._cursor, CLOSE_BATCH)
            assert row is not None  # an aggregate always has a row
            closed += row["closed"]
            if row["looked_at"] < CLOSE_BATCH:
                self._cursor = FIRST_PAGE
                break
            self._cursor = (row["closes_at"], row["id"])
        return closed


async def close_expired_watches(database: Database) -> None:
    """Close all that can be closed now."""
    await Closing(database).turn()

"""Destinations on their way into the watch, and out of it again."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from indexer.rail.types import AssetId
from indexer.store.database import Database
from indexer.store.queries import query

WATCHED_KEYS = query("watched_keys")
COUNT_WATCHED = query("count_watched")
NEWLY_KEYED = query("newly_keyed")
DATABASE_NOW = query("database_now")
NEIGHBOURS = query("neighbours")
LOOKED_BACK_FOR = query("looked_back_for")
REGISTERED = query("registered")
TAKE_IN = query("take_in")
REJECT = query("reject")
CLOSE_WATCHES = query("close_watches")
NEXT_RESCAN = query("next_rescan")
RESCAN_PROGRESS = query("rescan_progress")

CLOSE_BATCH, CLOSE_BATCHES = 500, 20
"""Invoices of one transaction, and transactions of one turn."""
THE_FIRST = (datetime.min.replace(tzinfo=UTC), UUID(int=0))

CHUNK = 50_000
"""Keys read at a time: a start with millions of addresses stays flat in memory."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A destination that waits to be taken in: ``amount`` base units of ``asset``.

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
    """A range to look through again, inclusive; ``to_height`` None: up to the cursor."""

    id: int
    to_height: int | None
    next_height: int


class WatchStore:
    """Watched addresses of one family, and registrations of its rails."""

    def __init__(self, database: Database, family: str) -> None:
        self._database = database
        self._family = family

    async def count(self) -> int:
        """How many destinations are watched."""
        return int(await self._database.value(COUNT_WATCHED, self._family))

    async def now(self) -> datetime:
        """The database's clock."""
        moment: datetime = await self._database.value(DATABASE_NOW)
        return moment

    async def keys(self) -> AsyncIterator[list[bytes]]:
        """All watched keys, in chunks."""
        async with self._database.transaction() as connection:
            cursor = await connection.cursor(WATCHED_KEYS, self._family)
            while rows := await cursor.fetch(CHUNK):
                yield [row["address_key"] for row in rows]

    async def keyed_since(self, moment: datetime) -> tuple[list[bytes], datetime]:
        """Keys that any daemon has taken in since ``moment``, and the moment to ask from next time."""
        rows = await self._database.rows(NEWLY_KEYED, self._family, moment)
        return [row["address_key"] for row in rows], max((row["keyed_at"] for row in rows), default=moment)

    async def neighbours(self, rail: str, done: Sequence[bytes], limit: int) -> dict[bytes, datetime]:
        """Keys that other rails of the family took in and ``rail`` has not looked back for, the oldest first."""
        rows = await self._database.rows(NEIGHBOURS, self._family, rail, list(done), limit)
        return {row["address_key"]: row["keyed_at"] for row in rows}

    async def looked_back_for(self, rail: str, upto: datetime) -> None:
        """``rail`` has looked back for all that others took in up to then."""
        await self._database.value(LOOKED_BACK_FOR, rail, upto)

    async def registered(self, rail: str, limit: int) -> list[Registered]:
        """Destinations of ``rail`` that wait, at most ``limit``."""
        rows = await self._database.rows(REGISTERED, rail, limit)
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

    async def take_in(self, parsed: Sequence[tuple[UUID, bytes, str]]) -> dict[UUID, bytes]:
        """Give destinations (id, key, display form); returns those that were taken, with their keys."""
        columns = [list(column) for column in zip(*parsed, strict=True)]
        rows = await self._database.rows(TAKE_IN, *columns)
        return {row["id"]: row["address_key"] for row in rows if row["taken"]}

    async def reject(self, refused: Sequence[tuple[UUID, str]]) -> None:
        """Refuse destinations (id, reason)."""
        columns = [list(column) for column in zip(*refused, strict=True)]
        await self._database.value(REJECT, *columns)

    async def next_rescan(self, rail: str) -> Rescan | None:
        """The next request to look through blocks again."""
        row = await self._database.row(NEXT_RESCAN, rail)
        return Rescan(row["id"], row["to_height"], row["next_height"]) if row else None

    async def rescan_progress(self, rescan: Rescan, *, found: int, error: str | None, finished: bool) -> None:
        """Say how far a rescan has come, up to ``rescan.next_height``."""
        await self._database.value(RESCAN_PROGRESS, rescan.id, rescan.next_height, found, error, finished)


class Closing:
    """Ends the watching of invoices whose horizon has passed, in every family, as far as nothing can come any more.

    What has to wait (a rail was blind, a payment is on its way) is passed over and looked at again in the next walk, so
    that many of them cost a turn no more than a few.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._place: tuple[datetime, UUID] = THE_FIRST

    async def turn(self) -> int:
        """Look at some thousand invoices, from where the last turn ended; returns how many were closed."""
        closed = 0
        for _ in range(CLOSE_BATCHES):
            row = await self._database.row(CLOSE_WATCHES, *self._place, CLOSE_BATCH)
            assert row is not None  # an aggregate always has a row
            closed += row["closed"]
            if row["looked_at"] < CLOSE_BATCH:
                self._place = THE_FIRST
                break
            self._place = (row["closes_at"], row["id"])
        return closed


async def close_due(database: Database) -> None:
    """Close all that can be closed now."""
    await Closing(database).turn()

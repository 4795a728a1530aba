"""Invoices that time alone changes, on any rail: found by index, and rechecked in bounded batches.

These writes need no lease. They read nothing but the tables, after the invoices are locked. So two daemons that check
concurrently emit each change once, and a daemon that was suspended evaluates current data.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.model import Coverage
from railwatch.store.aggregates import load_aggregates, save_aggregates
from railwatch.store.database import Database
from railwatch.store.feed import note_generation
from railwatch.store.queries import query

RAIL_VISIBILITY = query("rail_visibility")
EVERY_COVERAGE = query("every_coverage")
UNCHECKED_INVOICES = query("unchecked_invoices")
STUCK_INVOICES = query("stuck_invoices")
DELAYED_INVOICES = query("delayed_invoices")
RECOVERED_INVOICES = query("recovered_invoices")
MARK_RECHECKED = query("mark_rechecked")
ORDER_OF_INVOICE = query("order_of_invoice")

BATCH = 500
"""Invoices of one transaction."""


@dataclass(frozen=True, slots=True)
class RailVisibility:
    """Whether a rail has been blind for too long. ``upto``: invoices registered until then are delayed by it."""

    rail: str
    blind: bool
    upto: datetime


@dataclass(frozen=True, slots=True)
class PageCursor:
    """How far a walk over invoices has come, in the order of their registration or (`stuck`) of their last move."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class ClockTransaction:
    """Locked invoices, and the facts by which time decides. ``now``: the database's clock."""

    aggregates: Sequence[InvoiceAggregate]
    coverage: Coverage
    now: datetime


FIRST_PAGE = PageCursor(datetime.min.replace(tzinfo=UTC), UUID(int=0))


class ClockStore:
    """Invoices that time has caught up with, in every family. All of it raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stuck_after = FIRST_PAGE

    async def note_generation(self) -> None:
        """Record that another server has taken over the feed, if one has."""
        await note_generation(self._database)

    async def rail_visibility(self) -> list[RailVisibility]:
        """Return for every rail whether it has been blind for too long."""
        return [
            RailVisibility(row["name"], row["blind"], row["upto"]) for row in await self._database.rows(RAIL_VISIBILITY)
        ]

    async def unchecked(self) -> list[UUID]:
        """Return invoices that a manual operation has moved since the last check."""
        return [row["id"] for row in await self._database.rows(UNCHECKED_INVOICES, BATCH)]

    async def stuck(self) -> list[UUID]:
        """Return invoices that have waited for too long, among one page of those that wait."""
        after = self._stuck_after
        rows = await self._database.rows(STUCK_INVOICES, after.created_at, after.id, BATCH)
        self._stuck_after = PageCursor(rows[-1]["state_since"], rows[-1]["id"]) if len(rows) == BATCH else FIRST_PAGE
        return [row["id"] for row in rows if row["due"]]

    async def delayed(self, visibility: RailVisibility, after: PageCursor) -> tuple[list[UUID], PageCursor | None]:
        """Return the invoices that a blind rail delays, after ``after``, and the next cursor; None: no more for now."""
        rows = await self._database.rows(
            DELAYED_INVOICES, visibility.rail, after.created_at, after.id, visibility.upto, BATCH
        )
        on = PageCursor(rows[-1]["created_at"], rows[-1]["id"]) if len(rows) == BATCH else None
        return [row["id"] for row in rows if not row["told"]], on

    async def recovered(self, rail: str) -> list[UUID]:
        """Return invoices whose delay is over, at a rail that is no longer blind."""
        return [row["id"] for row in await self._database.rows(RECOVERED_INVOICES, rail, BATCH)]

    async def order_of(self, invoice: UUID) -> str:
        """Return the merchant and order of an invoice, for people."""
        return str(await self._database.value(ORDER_OF_INVOICE, invoice))

    @asynccontextmanager
    async def begin_recheck(self, invoices: Sequence[UUID]) -> AsyncIterator[ClockTransaction]:
        """Lock and load invoices; save what the core changed in them on leaving."""
        async with self._database.transaction() as connection:
            aggregates = await load_aggregates(connection, invoices)
            # Read after the locks, which may have had to wait.
            rows = await connection.fetch(EVERY_COVERAGE)
            until = {row["name"]: row["covered_until"] for row in rows if row["covered_until"] is not None}
            yield ClockTransaction(aggregates, Coverage(until), rows[0]["now"])
            await connection.execute(MARK_RECHECKED, list(invoices))
            await save_aggregates(connection, aggregates, horizon=1, has_finality=False)

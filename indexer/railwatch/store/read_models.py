"""What people and services ask about: rails, invoices, the whole evidence of one, exceptions, and the feed.

Rows leave as plain dicts under their columns' names. Amounts (every name that ends in ``amount``) are ints in base
units; fiat amounts are Decimal; times are aware and UTC; ids are `UUID`.
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from railwatch.store.database import Connection, Database
from railwatch.store.queries import query

RAILS_STATUS = query("rails_status")
OPEN_INVOICES = query("open_invoices")
FEED_END = query("feed_end")
CONSUMERS_STATUS = query("consumers_status")
OPEN_EXCEPTIONS = query("open_exceptions")
OPEN_RESCANS = query("open_rescans")
LIST_RESCANS = query("list_rescans")
LIST_INVOICES = query("list_invoices")
READ_TIME = query("read_time")
SHOW_INVOICE = query("show_invoice")
SHOW_DESTINATIONS = query("show_destinations")
SHOW_DETECTIONS = query("show_detections")
SHOW_OBSERVATIONS = query("show_observations")
SHOW_TRANSITIONS = query("show_transitions")
SHOW_EXCEPTIONS = query("show_exceptions")
SHOW_EXCEPTION_TRANSFERS = query("show_exception_transfers")
SHOW_REFUNDS = query("show_refunds")
SHOW_SETTLEMENTS = query("show_settlements")
FIND_ORDERS = query("find_orders")
FIND_EXCEPTIONS = query("find_exceptions")
LIST_EXCEPTIONS = query("list_exceptions")
LIST_UNALLOCATED = query("list_unallocated")
SHOW_UNALLOCATED = query("show_unallocated")
FIND_UNALLOCATED = query("find_unallocated")
FEED_PAGE = query("feed_page")
QUARANTINED = query("quarantined")
QUARANTINE_COUNTS = query("quarantine_counts")
SERVER_VERSION = query("server_version")
NOTIFICATION_QUEUE = query("notification_queue")

Record = dict[str, Any]

AMOUNTS = frozenset({"amount", "expected_amount", "seen_amount", "confirmed_amount", "late_amount"})
"""Columns of base units."""

QUARANTINED_MOST = 100
"""Invoices in quarantine that `status` names."""


@dataclass(frozen=True, slots=True)
class Status:
    """All rails, and what waits. ``invoices`` counts those that are still watched, by state."""

    rails: list[Record]
    """``holder`` is None where no daemon follows the rail now; ``age`` is seconds since the row changed."""
    invoices: Mapping[str, int]
    last_seq: int
    consumers: list[Record]
    exceptions: list[Record]
    """Open ones: kind, severity, count."""
    rescans: list[Record]
    quarantine: list[Record]
    """Invoices that the daemon cannot process, by rail, with the reason; the oldest, up to `QUARANTINED_MOST`."""


@dataclass(frozen=True, slots=True)
class Dossier:
    """One invoice with all its evidence, as of one moment. docs/evidence.md explains every key."""

    as_of: datetime
    invoice: Record
    destinations: list[Record]
    detections: list[Record]
    observations: list[Record]
    """Each observation of each of those transfers, as a node reported it."""
    transitions: list[Record]
    exceptions: list[Record]
    exception_transfers: list[Record]
    """Which transfers those exceptions hold, and held."""
    refunds: list[Record]
    settlements: list[Record]
    quarantine: list[Record]
    """The rails on which the daemon cannot process it now, why, and how many transfers wait for that."""


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """What a monitoring system alerts on: open exceptions by (kind, severity), and the lag of the feed's readers."""

    exceptions: Mapping[tuple[str, str], int]
    lag: Mapping[str, int]
    quarantine: Mapping[str, int]
    """Invoices that cannot be processed, by rail."""


async def read_counts(database: Database) -> OpenCounts:
    """Return the numbers for a monitoring system. Raises `StoreUnavailable`."""
    return OpenCounts(
        {(row["kind"], row["severity"]): row["count"] for row in await database.rows(OPEN_EXCEPTIONS)},
        {row["name"]: row["lag"] for row in await database.rows(CONSUMERS_STATUS)},
        {row["rail"]: row["count"] for row in await database.rows(QUARANTINE_COUNTS)},
    )


async def read_status(database: Database) -> Status:
    """Return the state of everything. Raises `StoreUnavailable`."""
    return Status(
        rails=_records(await database.rows(RAILS_STATUS)),
        invoices={row["state"]: row["count"] for row in await database.rows(OPEN_INVOICES)},
        last_seq=await database.value(FEED_END),
        consumers=_records(await database.rows(CONSUMERS_STATUS)),
        exceptions=_records(await database.rows(OPEN_EXCEPTIONS)),
        rescans=_records(await database.rows(OPEN_RESCANS)),
        quarantine=_records(await database.rows(QUARANTINED, None, QUARANTINED_MOST)),
    )


async def list_rescans(database: Database, *, limit: int) -> list[Record]:
    """Return open rescans, and then the newest that have ended."""
    return _records(await database.rows(LIST_RESCANS, limit))


async def list_invoices(database: Database, *, state: str | None, merchant: str | None, limit: int) -> list[Record]:
    """Return invoices, the newest first."""
    return _records(await database.rows(LIST_INVOICES, state, merchant, limit))


async def find_invoices(database: Database, text: str) -> list[UUID]:
    """Return the invoices that a text may mean, the newest first.

    It may be an id, an order, ``merchant/order``, a transaction or an address. An id means that invoice alone. Of all
    others at most ten are returned.
    """
    rows = await database.rows(FIND_ORDERS, text)
    by_id = [row["invoice_id"] for row in rows if row["found_by"] == "invoice"]
    return by_id or list(dict.fromkeys(row["invoice_id"] for row in rows))


async def read_dossier(database: Database, invoice: UUID) -> Dossier | None:
    """Return all that is known of an invoice; None if there is none of that id."""
    async with _snapshot(database) as connection:
        row = await connection.fetchrow(SHOW_INVOICE, invoice)
        if row is None:
            return None
        return Dossier(
            as_of=await connection.fetchval(READ_TIME),
            invoice=_record(row),
            destinations=_records(await connection.fetch(SHOW_DESTINATIONS, invoice)),
            detections=_records(await connection.fetch(SHOW_DETECTIONS, invoice)),
            observations=_records(await connection.fetch(SHOW_OBSERVATIONS, invoice)),
            transitions=_records(await connection.fetch(SHOW_TRANSITIONS, invoice)),
            exceptions=_records(await connection.fetch(SHOW_EXCEPTIONS, invoice)),
            exception_transfers=_records(await connection.fetch(SHOW_EXCEPTION_TRANSFERS, invoice)),
            refunds=_records(await connection.fetch(SHOW_REFUNDS, invoice)),
            settlements=_records(await connection.fetch(SHOW_SETTLEMENTS, invoice)),
            quarantine=_records(await connection.fetch(QUARANTINED, invoice, QUARANTINED_MOST)),
        )


async def list_exceptions(database: Database, *, resolved: bool, kind: str | None, limit: int) -> list[Record]:
    """Return open exceptions, and with ``resolved`` the others too; the worst and oldest first."""
    return _records(await database.rows(LIST_EXCEPTIONS, resolved, kind, limit))


async def find_exceptions(database: Database, prefix: str) -> list[UUID]:
    """Return exceptions whose ids begin with ``prefix``, open ones first; at most ten."""
    return [row["id"] for row in await database.rows(FIND_EXCEPTIONS, prefix)]


async def list_unallocated(database: Database, *, assigned: bool, limit: int) -> list[Record]:
    """Return transfers that are not assigned, and with ``assigned`` the others too; the newest first."""
    return _records(await database.rows(LIST_UNALLOCATED, assigned, limit))


async def show_unallocated(database: Database, transfer: UUID) -> Record:
    """Return an unallocated transfer, with its history and the invoices that it may belong to. It must exist."""
    (found,) = _records(await database.rows(SHOW_UNALLOCATED, transfer))
    return found


async def find_unallocated(database: Database, reference: str) -> list[UUID]:
    """Return unallocated transfers whose ids begin with ``reference``, or of that transaction; at most ten."""
    known = re.fullmatch(r"[0-9a-f-]{4,36}", reference.lower())
    rows = await database.rows(FIND_UNALLOCATED, known[0] if known else None, reference)
    return [row["id"] for row in rows]


async def read_feed(database: Database, after: int, limit: int) -> list[Record]:
    """Return at most ``limit`` transitions whose seq is above ``after``, in order."""
    return _records(await database.rows(FEED_PAGE, after, limit))


async def server_version(database: Database) -> int:
    """Return Postgres' major version."""
    number: int = await database.value(SERVER_VERSION)
    return number // 10_000


async def notification_queue(database: Database) -> float:
    """Return the share of the server's queue of notifications that is in use, from 0 to 1."""
    return float(await database.value(NOTIFICATION_QUEUE))


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncIterator[Connection]:
    """Return a connection with one snapshot: a concurrent step must not show a transfer without its transition."""
    moment = {"isolation": "repeatable_read", "readonly": True}
    async with database.connection() as connection, connection.transaction(**moment):
        yield connection


def _records(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    return [_record(row) for row in rows]


def _record(row: Mapping[str, Any]) -> Record:
    return {key: int(value) if key in AMOUNTS and isinstance(value, Decimal) else value for key, value in row.items()}

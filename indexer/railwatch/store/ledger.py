"""The ledger of a database as a whole: what a replay prints, and what a recording is to watch.

No id is part of it, so that two databases in which the same happened have the same ledger.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from railwatch.store.database import Database, Row
from railwatch.store.queries import query
from railwatch.store.read_models import Record

RECORDABLE_ORDERS = query("recordable_orders")
LEDGER_RAIL = query("ledger_rail")
LEDGER_INVOICES = query("ledger_invoices")
LEDGER_DESTINATIONS = query("ledger_destinations")
LEDGER_DETECTIONS = query("ledger_detections")
LEDGER_TRANSITIONS = query("ledger_transitions")
LEDGER_EXCEPTIONS = query("ledger_exceptions")

EXPIRES_IN_LEAST, ACCEPT_BEFORE_MOST = 60, 3600
"""Bounds of `create_invoice`, in seconds, and a minute for a window that is over already."""


async def read_ledger(database: Database, rail: str, since: datetime) -> Record:
    """Return the rail, and every invoice with all that happened to it; times are seconds since ``since``."""
    async with database.connection() as connection:
        found = await connection.fetchrow(LEDGER_RAIL, rail)
        parts = {
            "destinations": await connection.fetch(LEDGER_DESTINATIONS),
            "detections": await connection.fetch(LEDGER_DETECTIONS),
            "transitions": await connection.fetch(LEDGER_TRANSITIONS, since),
            "exceptions": await connection.fetch(LEDGER_EXCEPTIONS, since),
        }
        invoices = []
        for row in await connection.fetch(LEDGER_INVOICES):
            of_invoice = {name: _of(rows, row["id"]) for name, rows in parts.items()}
            invoices.append({**_record(row, "id"), **of_invoice})
    return {"rail": _record(found) if found else None, "invoices": invoices}


def _of(rows: Iterable[Row], invoice: Any) -> list[Record]:
    return [_record(row, "invoice_id") for row in rows if row["invoice_id"] == invoice]


def _record(row: Row, *left_out: str) -> Record:
    return {name: _plain(value) for name, value in row.items() if name not in left_out}


def _plain(value: Any) -> Any:
    """Amounts as digits, which no reader rounds, and times to the millisecond."""
    if isinstance(value, Decimal):
        return format(value, "f")
    return round(value, 3) if isinstance(value, float) else value


async def recordable_orders(database: Database, rail: str, most: int) -> list[Record]:
    """Return requests for `create_invoice` that watch what is watched on ``rail`` now: at most ``most`` invoices.

    Merchants, order ids and metadata are left out. A window that is over gets a last minute.
    """
    requests: dict[Any, Record] = {}
    for row in await database.rows(RECORDABLE_ORDERS, rail, most):
        request = requests.setdefault(
            row["id"],
            {
                "merchant_id": "recorded",
                "order_id": str(len(requests) + 1),
                "expires_in": max(EXPIRES_IN_LEAST, int(row["expires_in"])),
                "accept_before": min(ACCEPT_BEFORE_MOST, row["accept_before"] + int(row["age"])),
                "time_basis": row["time_basis"],
                "tolerance_bps": row["tolerance_bps"],
                "policy": row["destination_policy"],
                "destinations": [],
            },
        )
        reference = {} if row["reference"] is None else {"reference": row["reference"]}
        request["destinations"].append(
            {
                "rail": rail,
                "asset": row["asset"],
                "address": row["address"],
                "amount": format(row["expected_amount"], "f"),
                **reference,
            }
        )
    return list(requests.values())

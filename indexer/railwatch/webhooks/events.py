"""The body of an event: one transition as JSON, the same bytes at every attempt.

It contains only data that never changes: the transition, the terms of its invoice, and its refund or settlement. The
receiver queries the current state of the invoice itself. Amounts are strings of digits, in base units.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

INVOICE = ("merchant_id", "order_id", "fiat_amount", "fiat_currency", "created_at", "expires_at")
MOVE = ("from_state", "to_state", "reason", "cause")
CHAIN = ("rail", "tx_id", "block_height", "block_hash", "confirmations", "chain_time")
SUMS = ("seen_amount", "confirmed_amount")
TRANSFER = ("tx_index", "asset", "amount", "kind")
TRANSFERS = ("detection", "unallocated_transfer")
"""Subjects that are transfers. An unallocated one has no kind: that is what it would mean for an invoice."""
REFUND = ("asset", "amount", "tx_id", "reason", "actor")
SETTLEMENT = ("reference", "note", "actor")


def body_of(facts: Mapping[str, Any]) -> bytes:
    """Return the body for a row of `due_deliveries`. The order of its keys never changes."""
    event = {
        "type": facts["type"],
        "timestamp": facts["recorded_at"],
        "data": {
            "seq": facts["seq"],
            "event_id": facts["event_id"],
            "subject": facts["subject"],
            "subject_id": facts["subject_id"],
            **{key: facts[key] for key in (*MOVE, *CHAIN, *SUMS)},
            "transfer": {key: facts[key] for key in TRANSFER} if facts["subject"] in TRANSFERS else None,
            "invoice": _invoice(facts),
            "refund": _picked(facts["refund"], REFUND),
            "settlement": _picked(facts["settlement"], SETTLEMENT),
            "generation": facts["generation"],
        },
    }
    return msgspec.json.encode(_plain(event))


def _invoice(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    if facts["invoice_id"] is None:
        return None
    known = {key: facts[key] for key in INVOICE}
    return {"id": facts["invoice_id"], **known, "destinations": facts["destinations"] or []}


def _picked(found: Mapping[str, Any] | None, keys: Sequence[str]) -> dict[str, Any] | None:
    """Return the given keys in a fixed order: Postgres stores JSON keys in its own order."""
    return None if found is None else {key: found[key] for key in keys}


def _plain(value: Any) -> Any:
    """Return ``value`` in JSON's types, decimals as strings and times in UTC."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value

"""The rows and columns that a step writes, as `save_step` and COPY take them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.model import ExceptionRecord, Observation, Transition
from railwatch.core.tally import added
from railwatch.core.thresholds import next_threshold, second_look_threshold
from railwatch.store.amounts import capped

DETECTION_COLUMNS = (
    *("id", "invoice_id", "destination_id", "rail", "asset", "tx_id", "tx_index", "amount", "kind", "state"),
    *("first_seen_at", "block_height", "block_hash", "block_time", "confirmed_at", "in_time", "replaced_by"),
    *("maturity", "spends", "invoice_ended", "version", "evidence", "due_basis", "due_height", "seen_waiting"),
)
OBSERVATION_COLUMNS = (
    *("detection_id", "version", "state", "block_height", "block_hash", "block_time", "node", "facts", "raw"),
)
RAW_MAX = 4096
"""Bytes of a node's words that an observation keeps, as JSON; of longer ones their size and digest."""

SPENDS = DETECTION_COLUMNS.index("spends")
TRANSITION_COLUMNS = (
    *("event_id", "subject", "subject_id", "invoice_id", "from_state", "to_state", "reason", "cause", "rail"),
    *("tx_id", "block_height", "block_hash", "confirmations", "seen_amount", "confirmed_amount", "chain_time"),
    "evidence",
)

SEPARATOR = "\x1f"
"""Between the items of a list within an array parameter, which Postgres cannot nest raggedly."""


def detection_columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    columns = to_columns(rows, len(DETECTION_COLUMNS))
    columns[SPENDS] = [SEPARATOR.join(each) or None for each in columns[SPENDS]]
    return columns


def detection_row(aggregate: InvoiceAggregate, identity: UUID, horizon: int, has_finality: bool) -> tuple[Any, ...]:
    each = aggregate.detections[identity]
    due = next_threshold(each, aggregate.policies, horizon, has_finality)
    look = second_look_threshold(each, aggregate.policies, horizon, has_finality)
    return (
        each.id,
        aggregate.invoice.id,
        each.destination_id,
        each.rail,
        each.asset,
        each.tx_id,
        each.tx_index,
        each.amount,
        each.kind,
        each.state,
        each.first_seen_at,
        each.block_height,
        each.block_hash,
        each.block_time,
        each.confirmed_at,
        each.in_time,
        each.replaced_by,
        each.maturity,
        each.spends,
        each.invoice_end_state,
        each.version,
        each.evidence,
        due.basis if due else f"look_{look.basis}" if look else None,
        due.height if due else look.height if look else None,
        each.seen_waiting,
    )


def observation_row(each: Observation) -> tuple[Any, ...]:
    place = (each.block_height, each.block_hash, each.block_time)
    return (each.detection_id, each.version, each.state, *place, each.facts.get("node"), each.facts, bounded(each.raw))


def bounded(raw: Any) -> Any:
    """Return a node's raw answer if it is short enough to store, else its size and digest."""
    if raw is None:
        return None
    text = msgspec.json.encode(raw)
    return raw if len(text) <= RAW_MAX else {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}


def invoice_columns(aggregates: Sequence[InvoiceAggregate]) -> list[list[Any]]:
    invoices = [
        (each.id, each.state, each.state_since, each.version, each.settled_at)
        for each in (b.invoice for b in aggregates)
    ]
    sums = [
        (each.id, capped(each.seen), capped(each.confirmed), capped(each.late), each.suppressed_count)
        for aggregate in aggregates
        for each in aggregate.invoice.destinations
    ]
    return [*to_columns(invoices, 5), *to_columns(sums, 5)]


def tally_columns(aggregates: Sequence[InvoiceAggregate]) -> list[list[Any]]:
    """Return what each destination received in sums, and what was too small, in the order of `invoice_columns`.

    The sums are sorted, so that a row whose sums stand as they were is not written.
    """
    rows = []
    for aggregate in aggregates:
        by_destination: defaultdict[UUID, list[list[Any]]] = defaultdict(list)
        for (destination, *key), each in added(aggregate.totals()).items():
            by_destination[destination].append([*key, str(each.amount), each.count])
        for sums in by_destination.values():
            sums.sort(key=lambda row: (*row[:4], str(row[4])))
        rows += [
            # As text: the driver would take lists within an array for its further dimensions.
            (msgspec.json.encode(by_destination[each.id]).decode(), each.small_count, each.small_amount)
            for each in aggregate.invoice.destinations
        ]
    return to_columns(rows, 3)


def exception_columns(aggregates: Sequence[InvoiceAggregate]) -> list[list[Any]]:
    opened = [
        (
            *(
                record.id,
                aggregate.invoice.id,
                record.detection_id,
                record.kind,
                record.severity,
                record.occurrence,
                record.resolution,
            ),
            record.balance_id,
        )
        for aggregate in aggregates
        for record in aggregate.opened_exceptions
    ]
    return [*to_columns(opened, 8), *to_columns([(record.id, record.resolution) for record in _altered(aggregates)], 2)]


def _altered(aggregates: Sequence[InvoiceAggregate]) -> list[ExceptionRecord]:
    """Return the cases that were there before the step, and that it changes."""
    return [
        record
        for aggregate in aggregates
        for changed in [
            (aggregate.recounted_groups | _ids([*aggregate.resolved_exceptions, *aggregate.ended_exceptions]))
            - _ids(aggregate.opened_exceptions)
        ]
        for record in aggregate.exceptions
        if record.id in changed
    ]


def group_columns(aggregates: Sequence[InvoiceAggregate]) -> list[list[Any]]:
    """Return what exceptions hold of transfers, in the order of `exception_columns`, and who joined or left them."""
    opened = [
        (*(record.group or (None, None, None)), *_counts(record))
        for aggregate in aggregates
        for record in aggregate.opened_exceptions
    ]
    altered = [(record.ended, *_counts(record)) for record in _altered(aggregates)]
    members = [
        (case, detection, aggregate.detections[detection].amount if amount is None else amount, amount is None)
        for aggregate in aggregates
        for (case, detection), amount in aggregate.group_changes.items()
    ]
    return [*to_columns(opened, 7), *to_columns(altered, 5), *to_columns(members, 4)]


def _counts(record: ExceptionRecord) -> tuple[int, int, int, int]:
    return record.transfers, record.amount, record.reported_transfers, record.reported_amount


def _ids(records: Iterable[ExceptionRecord]) -> set[UUID]:
    return {record.id for record in records}


def transition_row(line: Transition) -> tuple[Any, ...]:
    return (
        line.event_id,
        line.subject,
        line.subject_id,
        line.invoice_id,
        line.from_state,
        line.to_state,
        line.reason,
        line.cause,
        line.via_detection.rail if line.via_detection else line.rail,
        line.via_detection.tx_id if line.via_detection else line.tx_id,
        line.block_height,
        line.block_hash,
        line.confirmations,
        None if line.seen_amount is None else capped(line.seen_amount),
        None if line.confirmed_amount is None else capped(line.confirmed_amount),
        line.chain_time,
        line.evidence,
    )


def to_columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows turned into one array a column, as ``unnest`` takes them; ``width`` matters where there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]

"""The rows that a step writes, as `save_step` and COPY take them.

Each class has the fields of a composite type of the same name (`sql/schema/58_step_rows.sql`), in the same order. A
step makes thousands of the rows that are constructed by position: by keyword each costs twice as much.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.model import ExceptionRecord, Observation, Transition
from railwatch.core.tally import added
from railwatch.core.thresholds import next_threshold, second_look_threshold
from railwatch.rail.types import BlockRef
from railwatch.store.amounts import capped

RAW_MAX = 4096
"""Bytes of a node's words that an observation keeps, as JSON; of longer ones their size and digest."""


class DetectionRow(NamedTuple):
    """A detection that a step inserts or changes."""

    id: UUID
    invoice_id: UUID
    destination_id: UUID
    rail: str
    asset: str
    tx_id: str
    tx_index: str
    amount: int
    kind: str
    state: str
    first_seen_at: datetime
    block_height: int | None
    block_hash: str | None
    block_time: datetime | None
    confirmed_at: datetime | None
    in_time: bool | None
    replaced_by: str | None
    maturity: int
    spends: Sequence[str]
    invoice_ended: str | None
    version: int
    evidence: Mapping[str, Any]
    due_basis: str | None
    due_height: int | None
    seen_waiting: bool


class ObservationRow(NamedTuple):
    """An observation that a step inserts."""

    detection_id: UUID
    version: int
    state: str
    block_height: int | None
    block_hash: str | None
    block_time: datetime | None
    node: str | None
    facts: Mapping[str, Any]
    raw: Any


class InvoiceRow(NamedTuple):
    """An invoice that a step loaded, with its new state."""

    id: UUID
    state: str
    state_since: datetime
    version: int
    settled_at: datetime | None


class DestinationRow(NamedTuple):
    """A destination with its new sums, and with what the step adds to its counts."""

    id: UUID
    seen_amount: int
    confirmed_amount: int
    late_amount: int
    left_out: int
    tallies: Sequence[Sequence[Any]]
    small_count: int
    small_amount: int


class ExceptionRow(NamedTuple):
    """An exception that a step opens."""

    id: UUID
    invoice_id: UUID
    detection_id: UUID | None
    kind: str
    severity: str
    round: int
    resolution: str | None
    balance_id: UUID | None
    destination_id: UUID | None
    rail: str | None
    asset: str | None
    transfers: int
    amount: int
    told_transfers: int
    told_amount: int


class ExceptionChange(NamedTuple):
    """An open exception that a step ends or counts anew."""

    id: UUID
    resolution: str | None
    ended: bool
    transfers: int
    amount: int
    told_transfers: int
    told_amount: int


class ExceptionTransferRow(NamedTuple):
    """A transfer that joins or leaves the group of an exception."""

    exception_id: UUID
    detection_id: UUID
    amount: int
    has_left: bool


class TransitionRow(NamedTuple):
    """A line of the feed before it has its position."""

    event_id: UUID
    subject: str
    subject_id: UUID
    invoice_id: UUID | None
    from_state: str | None
    to_state: str
    reason: str
    cause: str
    rail: str | None
    tx_id: str | None
    block_height: int | None
    block_hash: str | None
    confirmations: int | None
    seen_amount: int | None
    confirmed_amount: int | None
    chain_time: datetime | None
    evidence: Mapping[str, Any]


class CheckpointRow(NamedTuple):
    """A checkpoint that a step stores."""

    height: int
    hash: str
    parent: str
    time: datetime


def checkpoint_rows(blocks: Iterable[BlockRef]) -> list[CheckpointRow]:
    """Return blocks as checkpoints."""
    return [CheckpointRow(block.height, block.hash, block.parent, block.time) for block in blocks]


def detection_row(aggregate: InvoiceAggregate, identity: UUID, horizon: int, has_finality: bool) -> DetectionRow:
    """Return a detection with the height at which something is to be decided about it."""
    detection = aggregate.detections[identity]
    due = next_threshold(detection, aggregate.policies, horizon, has_finality)
    look = second_look_threshold(detection, aggregate.policies, horizon, has_finality)
    return DetectionRow(
        detection.id,
        aggregate.invoice.id,
        detection.destination_id,
        detection.rail,
        detection.asset,
        detection.tx_id,
        detection.tx_index,
        detection.amount,
        detection.kind,
        detection.state,
        detection.first_seen_at,
        detection.block_height,
        detection.block_hash,
        detection.block_time,
        detection.confirmed_at,
        detection.in_time,
        detection.replaced_by,
        detection.maturity,
        detection.spends,
        detection.invoice_end_state,
        detection.version,
        detection.evidence,
        due.basis if due else f"look_{look.basis}" if look else None,
        due.height if due else look.height if look else None,
        detection.seen_waiting,
    )


def observation_row(observation: Observation) -> ObservationRow:
    """Return an observation, with the node that reported it."""
    return ObservationRow(
        observation.detection_id,
        observation.version,
        observation.state,
        observation.block_height,
        observation.block_hash,
        observation.block_time,
        observation.facts.get("node"),
        observation.facts,
        bounded(observation.raw),
    )


def bounded(raw: Any) -> Any:
    """Return a node's raw answer if it is short enough to store, else its size and digest."""
    if raw is None:
        return None
    text = msgspec.json.encode(raw)
    return raw if len(text) <= RAW_MAX else {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}


def invoice_rows(aggregates: Iterable[InvoiceAggregate]) -> list[InvoiceRow]:
    """Return the invoices with their states."""
    return [
        InvoiceRow(invoice.id, invoice.state, invoice.state_since, invoice.version, invoice.settled_at)
        for invoice in (aggregate.invoice for aggregate in aggregates)
    ]


def destination_rows(aggregates: Iterable[InvoiceAggregate]) -> list[DestinationRow]:
    """Return what each destination received in sums, and what was too small.

    The sums are sorted, so that a row whose sums stand as they were is not written.
    """
    rows = []
    for aggregate in aggregates:
        tallies: defaultdict[UUID, list[list[Any]]] = defaultdict(list)
        for (destination, *key), tally in added(aggregate.totals()).items():
            tallies[destination].append([*key, str(tally.amount), tally.count])
        for sums in tallies.values():
            sums.sort(key=lambda row: (*row[:4], str(row[4])))
        rows += [
            DestinationRow(
                id=destination.id,
                seen_amount=capped(destination.seen),
                confirmed_amount=capped(destination.confirmed),
                late_amount=capped(destination.late),
                left_out=destination.suppressed_count,
                tallies=tallies[destination.id],
                small_count=destination.small_count,
                small_amount=destination.small_amount,
            )
            for destination in aggregate.invoice.destinations
        ]
    return rows


def exception_rows(aggregates: Iterable[InvoiceAggregate]) -> list[ExceptionRow]:
    """Return the exceptions that open, with what they hold of transfers."""
    return [
        ExceptionRow(
            *(record.id, aggregate.invoice.id, record.detection_id, record.kind, record.severity, record.occurrence),
            *(record.resolution, record.balance_id, *(record.group or (None, None, None)), *_counts(record)),
        )
        for aggregate in aggregates
        for record in aggregate.opened_exceptions
    ]


def exception_changes(aggregates: Iterable[InvoiceAggregate]) -> list[ExceptionChange]:
    """Return the exceptions that were open before the step, and that it changes."""
    return [
        ExceptionChange(record.id, record.resolution, record.ended, *_counts(record))
        for aggregate in aggregates
        for changed in [
            (aggregate.recounted_groups | _ids([*aggregate.resolved_exceptions, *aggregate.ended_exceptions]))
            - _ids(aggregate.opened_exceptions)
        ]
        for record in aggregate.exceptions
        if record.id in changed
    ]


def exception_transfer_rows(aggregates: Iterable[InvoiceAggregate]) -> list[ExceptionTransferRow]:
    """Return the transfers that join or leave an exception. One that leaves has no amount there."""
    return [
        ExceptionTransferRow(
            exception_id=exception,
            detection_id=detection,
            amount=aggregate.detections[detection].amount if amount is None else amount,
            has_left=amount is None,
        )
        for aggregate in aggregates
        for (exception, detection), amount in aggregate.group_changes.items()
    ]


def _counts(record: ExceptionRecord) -> tuple[int, int, int, int]:
    return record.transfers, record.amount, record.reported_transfers, record.reported_amount


def _ids(records: Iterable[ExceptionRecord]) -> set[UUID]:
    return {record.id for record in records}


def transition_row(line: Transition) -> TransitionRow:
    """Return a transition with the transaction that it happened through."""
    detection = line.via_detection
    return TransitionRow(
        line.event_id,
        line.subject,
        line.subject_id,
        line.invoice_id,
        line.from_state,
        line.to_state,
        line.reason,
        line.cause,
        detection.rail if detection else line.rail,
        detection.tx_id if detection else line.tx_id,
        line.block_height,
        line.block_hash,
        line.confirmations,
        None if line.seen_amount is None else capped(line.seen_amount),
        None if line.confirmed_amount is None else capped(line.confirmed_amount),
        line.chain_time,
        line.evidence,
    )

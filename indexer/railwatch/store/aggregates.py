"""Loads the aggregates of a step from rows, and saves what changed in them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.exception_rules import INVOICE_KINDS
from railwatch.core.model import (
    DelayLimits,
    Destination,
    Detection,
    ExceptionRecord,
    Group,
    Invoice,
    Member,
    Refunded,
    SecondLook,
    Transition,
    UnattributedBalance,
)
from railwatch.core.policy import Policy
from railwatch.core.states import DetectionState, InvoiceState, Kind
from railwatch.core.tally import Tally, TallyKey, without
from railwatch.rail.types import AssetId
from railwatch.store.database import Connection, Row
from railwatch.store.queries import query
from railwatch.store.step_rows import (
    DetectionRow,
    ObservationRow,
    TransitionRow,
    destination_rows,
    detection_row,
    exception_changes,
    exception_rows,
    exception_transfer_rows,
    invoice_rows,
    observation_row,
    transition_row,
)

LOCK_INVOICES = query("lock_invoices")
LOAD_AGGREGATES = query("load_aggregates")
SAVE_STEP = query("save_step")
ALLOCATE_SEQS = query("allocate_seqs")

NONE = Decimal(0)

MANY = 500
"""Rows from which on COPY pays for its own preparation."""

ANY_RAIL, NO_RAIL = "*", ""
"""What `load_aggregates` leaves out: invoices in quarantine on any rail, or none."""


async def load_aggregates(
    connection: Connection,
    invoices: Iterable[UUID],
    detections: Collection[UUID] = (),
    unless_aside_on: str = ANY_RAIL,
) -> list[InvoiceAggregate]:
    """Lock those invoices to the commit, in the order of their ids, and load them with those ``detections``.

    Invoices in quarantine on the rail ``unless_aside_on`` are locked and left out. Two statements: what the second
    reads must be as new as the locks, which may have had to wait.
    """
    ids = sorted(set(invoices))
    if not ids:
        return []
    await connection.execute(LOCK_INVOICES, ids)
    rows = await connection.fetch(LOAD_AGGREGATES, ids, list(detections), INVOICE_KINDS, unless_aside_on)
    return [_aggregate(row) for row in rows]


def _aggregate(row: Row) -> InvoiceAggregate:
    invoice = Invoice(
        id=row["id"],
        state=InvoiceState(row["state"]),
        created_at=row["created_at"],
        state_since=row["state_since"],
        expires_at=row["expires_at"],
        destinations=[_destination(*each) for each in row["destinations"]],
        version=row["version"],
        time_basis=row["time_basis"],
        tolerance_bps=row["tolerance_bps"],
        held=row["held"],
        held_from=InvoiceState(row["held_from"]) if row["held_from"] else None,
        settled_at=row["settled_at"],
        refunded={
            (rail, AssetId(asset)): Refunded(int(amount), int(surplus), int(waived))
            for rail, asset, amount, surplus, waived in row["refunds"]
        },
    )
    detections = [_detection(*each) for each in row["detections"] or ()]
    members = row["members"] or ()
    named = [each[2:] for each in members]
    told = [*(row["cases"] or ()), *row["cases_of_invoice"], *row["cases_of_balances"], *row["groups"], *named]
    records = {each[0]: _exception(*each) for each in told}
    return InvoiceAggregate(
        invoice,
        {each.id: each for each in detections},
        list(records.values()),
        {each[0]: _unattributed(*each) for each in row["surpluses"]},
        without(dict(_tallies(row["destinations"])), detections),
        group_members={
            (detection, records[case].kind): Member(records[case], int(amount))
            for detection, amount, case, *_ in members
        },
    )


def _tallies(destinations: Iterable[Row]) -> Iterator[tuple[TallyKey, Tally]]:
    """Yield the sums of all that each destination received, as `destination_rows` writes them."""
    for identity, *_, tallies in destinations:
        for rail, asset, kind, state, in_time, amount, count in tallies:
            key = TallyKey(identity, rail, AssetId(asset), Kind(kind), DetectionState(state), in_time)
            yield key, Tally(int(amount), count)


def _destination(
    identity: UUID,
    rail: str,
    asset: str,
    expected: Decimal,
    policy: Mapping[str, Any],
    watch_state: str,
    stuck_after: timedelta,
    blind_after: timedelta,
    margin: timedelta,
    _: object,
) -> Destination:
    return Destination(
        id=identity,
        rail=rail,
        asset=AssetId(asset),
        expected=int(expected),
        policy=Policy.from_json(policy),
        watching=watch_state != "registered",
        closed=watch_state == "closed",
        delay_limits=DelayLimits(stuck_after, blind_after, margin),
    )


def _detection(
    identity: UUID,
    destination_id: UUID,
    rail: str,
    asset: str,
    tx_id: str,
    tx_index: str,
    amount: Decimal,
    kind: str,
    state: str,
    first_seen_at: datetime,
    block_height: int | None,
    block_hash: str | None,
    block_time: datetime | None,
    confirmed_at: datetime | None,
    in_time: bool | None,
    replaced_by: str | None,
    maturity: int,
    spends: Sequence[str],
    invoice_ended: str | None,
    version: int,
    second_look: SecondLook | None,
    looked_at_block: str | None,
    seen_waiting: bool,
) -> Detection:
    told = DetectionState(state)
    return Detection(
        id=identity,
        destination_id=destination_id,
        rail=rail,
        asset=AssetId(asset),
        tx_id=tx_id,
        tx_index=tx_index,
        amount=int(amount),
        kind=Kind(kind),
        state=told,
        first_seen_at=first_seen_at,
        block_height=block_height,
        block_hash=block_hash,
        block_time=block_time,
        confirmed_at=confirmed_at,
        in_time=in_time,
        replaced_by=replaced_by,
        maturity=maturity,
        spends=tuple(spends),
        invoice_end_state=InvoiceState(invoice_ended) if invoice_ended else None,
        reported_state=told,
        version=version,
        second_look=second_look,
        looked_at_block=looked_at_block,
        seen_waiting=seen_waiting,
    )


def _exception(
    identity: UUID,
    kind: str,
    severity: Any,
    detection_id: UUID | None,
    nth: int,
    resolution: str | None,
    resolved_at: datetime | None,
    ended_at: datetime | None,
    balance_id: UUID | None,
    destination_id: UUID | None = None,
    rail: str = "",
    asset: str = "",
    transfers: int = 0,
    amount: Decimal = NONE,
    told_transfers: int = 0,
    told_amount: Decimal = NONE,
) -> ExceptionRecord:
    settled = resolution or "resolved" if resolved_at else None
    group = Group(destination_id, rail, AssetId(asset)) if destination_id else None
    counts = transfers, int(amount), told_transfers, int(told_amount)
    return ExceptionRecord(
        identity, kind, severity, detection_id, nth, settled, ended_at is not None, balance_id, group, *counts
    )


def _unattributed(
    identity: UUID,
    destination_id: UUID,
    rail: str,
    asset: str,
    amount: Decimal,
    balance: Decimal,
    block_height: int,
    block_hash: str,
    node: str,
    second_look: str,
    second_node: str | None,
) -> UnattributedBalance:
    place = destination_id, rail, AssetId(asset)
    return UnattributedBalance(
        identity,
        *place,
        int(amount),
        int(balance),
        block_height,
        block_hash,
        node,
        second_look,
        second_node,
    )


async def save_aggregates(
    connection: Connection, aggregates: Sequence[InvoiceAggregate], horizon: int, has_finality: bool
) -> None:
    """Write what changed: detections, states and sums, exceptions, and last the transitions.

    All of it is one statement, because each costs a round trip. Many rows are copied in, which is twice as fast.
    """
    detections = [
        detection_row(aggregate, each, horizon, has_finality)
        for aggregate in aggregates
        for each in aggregate.changed_detections
    ]
    observations = [observation_row(each) for aggregate in aggregates for each in aggregate.observations]
    lines = [transition_row(line) for aggregate in aggregates for line in aggregate.transitions]
    left_out = any(
        each.suppressed_count or each.small_count for aggregate in aggregates for each in aggregate.invoice.destinations
    )
    if not (
        detections
        or lines
        or left_out
        or any(aggregate.ended_exceptions or aggregate.recounted_groups for aggregate in aggregates)
    ):
        return
    if len(observations) >= MANY:
        await _copy(connection, "observations", ObservationRow._fields, observations)
        fresh = {each for aggregate in aggregates for each in aggregate.new_detections}
        await _copy(connection, "detections", DetectionRow._fields, [row for row in detections if row.id in fresh])
        observations, detections = [], [row for row in detections if row.id not in fresh]
    few = [] if len(lines) >= MANY else lines
    await connection.execute(
        SAVE_STEP,
        observations,
        detections,
        invoice_rows(aggregates),
        destination_rows(aggregates),
        exception_rows(aggregates),
        exception_changes(aggregates),
        exception_transfer_rows(aggregates),
        few,
    )
    if len(lines) >= MANY:
        await _append(connection, lines)


async def append_transitions(connection: Connection, transitions: Sequence[Transition]) -> None:
    """Append transitions to the feed, after all else that the step writes: their seqs block every other writer."""
    await _append(connection, [transition_row(each) for each in transitions])


async def _append(connection: Connection, lines: Sequence[tuple[Any, ...]]) -> None:
    first = await connection.fetchval(ALLOCATE_SEQS, len(lines))
    numbered = [(seq, *row) for seq, row in enumerate(lines, first)]
    await _copy(connection, "transitions", ("seq", *TransitionRow._fields), numbered)


async def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    await connection.copy_records_to_table(table, schema_name="railwatch", records=rows, columns=columns)

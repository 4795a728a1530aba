"""What holds of an invoice's aggregate after every step."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.model import Detection, ExceptionRecord, Member


def snapshot(aggregate: InvoiceAggregate) -> InvoiceAggregate:
    """All of a book that a step may change in place; what is frozen, or a `Mapping`, it replaces."""
    invoice = replace(aggregate.invoice, destinations=[copy(way) for way in aggregate.invoice.destinations])
    detections = {identity: copy(each) for identity, each in aggregate.detections.items()}
    return InvoiceAggregate(invoice, detections, [copy(record) for record in aggregate.exceptions])


def nothing_changes_in_silence(old: InvoiceAggregate, new: InvoiceAggregate) -> None:
    """What a book does not list as changed, opened or resolved would be lost by the store."""
    assert set(new.detections) - set(old.detections) == new.new_detections
    for identity, detection in new.detections.items():
        assert detection.reported_state is detection.state, "a state that the feed never heard of"
        if identity not in new.new_detections:
            assert _written_once(detection) == _written_once(old.detections[identity])
            assert detection.first_seen_at <= old.detections[identity].first_seen_at, "first sight comes no later"
        if identity not in new.changed_detections:
            assert detection == old.detections[identity]
    for before, record in zip(old.exceptions, new.exceptions, strict=False):
        assert (
            before == record
            or record in [*new.resolved_exceptions, *new.ended_exceptions]
            or record.id in new.recounted_groups
        )
        if before.resolution is not None:
            kept = replace(record, ended=before.ended, transfers=before.transfers, amount=before.amount)
            assert kept == before, "a resolved row stays as it is"
    assert new.exceptions[len(old.exceptions) :] == new.opened_exceptions
    told = {(each.detection_id, each.version) for each in new.observations}
    assert len(told) == len(new.observations)
    assert {identity for identity, _ in told} >= new.new_detections
    if (
        not new.changed_detections
        and not new.transitions
        and not any(way.suppressed_count or way.small_count for way in new.invoice.destinations)
    ):
        assert new.invoice == old.invoice
    if new.invoice.version == old.invoice.version:
        assert (new.invoice.state, new.invoice.settled_at) == (old.invoice.state, old.invoice.settled_at)


def counts_add_up(members: Mapping[tuple[UUID, str], Member], records: Sequence[ExceptionRecord]) -> None:
    """Each row of a group says how many transfers it holds, and their sum."""
    for record in records:
        if record.group and not record.ended:
            mine = [each.amount for each in members.values() if each.record is record]
            assert (record.transfers, record.amount) == (len(mine), sum(mine))


def _written_once(detection: Detection) -> tuple[object, ...]:
    """What the store never writes again."""
    return (
        detection.destination_id,
        detection.rail,
        detection.asset,
        detection.tx_id,
        detection.tx_index,
        detection.seen_waiting,
        detection.invoice_end_state,
    )

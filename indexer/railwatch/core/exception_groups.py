"""Exceptions about transfers: one row for each destination, kind and asset, with a count and a sum (HAZARDS I16).

A transfer is counted in the row that was open when it came. What a person resolved goes on to hold the transfers that
it held then, so that the next one opens a row of its own. The feed gets a transition when a row opens, when its
content has doubled, and when it ends.
"""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.assessment import Received
from railwatch.core.evidence import group_evidence, transfer_evidence
from railwatch.core.exception_rules import FUNDS_KINDS, SEVERITY, has_required_funds
from railwatch.core.ids import exception_id
from railwatch.core.model import Detection, ExceptionRecord, Group, Member
from railwatch.core.transitions import Cause, transition_exception

CalledFor = Collection[tuple[UUID, str]]
"""Transfers of a book, each with a kind of exception that the facts call for."""


def leave(aggregate: InvoiceAggregate, called_for: CalledFor, received: Received) -> None:
    """Remove from their rows the transfers that do not belong there any more, and update the amounts of the others.

    What a person decided about money that has come holds in whichever block that money is (`FUNDS_KINDS`).
    """
    for (identity, kind), member in list(aggregate.group_members.items()):
        if (identity, kind) in called_for:
            _count(aggregate, member.record, identity, aggregate.detections[identity].amount - member.amount, 0)
            member.amount = aggregate.detections[identity].amount
        elif member.record.resolution is None or kind not in FUNDS_KINDS:
            del aggregate.group_members[identity, kind]
            _count(aggregate, member.record, identity, -member.amount, -1)
    if has_required_funds(aggregate.invoice, received):
        for record in aggregate.exceptions:
            # Also of transfers that were not loaded, for only the newest are.
            if record.kind == "double_spend" and record.transfers:
                record.transfers = record.amount = 0
                aggregate.recounted_groups.add(record.id)


def join(aggregate: InvoiceAggregate, called_for: CalledFor, cause: Cause) -> None:
    """Count transfers in the open row of their group, which opens if there is none."""
    fresh: defaultdict[tuple[str, Group], list[Detection]] = defaultdict(list)
    for identity, kind in sorted(set(called_for) - aggregate.group_members.keys(), key=str):
        each = aggregate.detections[identity]
        fresh[kind, Group(each.destination_id, each.rail, each.asset)].append(each)
    for (kind, group), transfers in fresh.items():
        record = _open_record(aggregate, kind, group)
        is_new = record is None
        if record is None:
            record = _new_record(aggregate, kind, group, transfers[0])
        for each in transfers:
            aggregate.group_members[each.id, kind] = Member(record, each.amount)
            _count(aggregate, record, each.id, each.amount, 1)
        _transition(aggregate, record, transfers, cause, is_new=is_new)


def _count(aggregate: InvoiceAggregate, record: ExceptionRecord, identity: UUID, amount: int, transfers: int) -> None:
    if not (amount or transfers):
        return
    record.amount += amount
    record.transfers += transfers
    aggregate.recounted_groups.add(record.id)
    is_member = (identity, record.kind) in aggregate.group_members
    aggregate.group_changes[record.id, identity] = aggregate.detections[identity].amount if is_member else None


def _open_record(aggregate: InvoiceAggregate, kind: str, group: Group) -> ExceptionRecord | None:
    return next(
        (
            record
            for record in aggregate.exceptions
            if (record.kind, record.group) == (kind, group) and record.resolution is None and not record.ended
        ),
        None,
    )


def _new_record(aggregate: InvoiceAggregate, kind: str, group: Group, first: Detection) -> ExceptionRecord:
    before = [record.occurrence for record in aggregate.exceptions if (record.kind, record.group) == (kind, group)]
    nth = max(before, default=0) + 1
    about = f"{group.destination_id}/{group.rail}/{group.asset}"
    identity = exception_id(aggregate.invoice.id, kind, about, nth)
    record = ExceptionRecord(identity, kind, SEVERITY[kind], first.id, nth, group=group)
    aggregate.exceptions.append(record)
    aggregate.opened_exceptions.append(record)
    return record


def _transition(
    aggregate: InvoiceAggregate,
    record: ExceptionRecord,
    transfers: Collection[Detection],
    cause: Cause,
    *,
    is_new: bool,
) -> None:
    """Emit a row that is new, or that has doubled since its last transition: at most once a binary digit."""
    doubled = record.transfers >= 2 * record.reported_transfers or record.amount >= 2 * record.reported_amount
    if not doubled:
        return
    record.reported_transfers = max(record.reported_transfers, record.transfers)
    record.reported_amount = max(record.reported_amount, record.amount)
    *_, newest = transfers
    grounds = {**transfer_evidence(aggregate, record.kind, newest), **group_evidence(record)}
    if is_new:
        transition_exception(aggregate, record, None, "open", cause, grounds, newest)
    else:
        mark = f"{record.reported_transfers}/{record.reported_amount}"
        transition_exception(aggregate, record, "open", "open", cause, grounds, newest, mark)

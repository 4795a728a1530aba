"""The exceptions of one invoice, kept in line with the facts, and each opening and closing emitted.

The invariant: for each thing that an exception can be about there is at most one row that has not ended, and there is
one exactly while the facts call for it. A person may resolve that row at any time. It still represents its
occurrence, so the same occurrence opens nothing again; it ends with it, so the next one opens a new row. Rows may
outlast their facts: what a hold hides, a shortfall while a top-up is on its way, and what a person decided about money
that has come (`exception_rules.FUNDS_KINDS`). `exception_groups` says which transfers a row about transfers holds.
"""

from datetime import datetime
from uuid import UUID

from railwatch.core import exception_groups, exception_rules
from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.assessment import Received
from railwatch.core.evidence import exception_evidence
from railwatch.core.ids import exception_id
from railwatch.core.model import Coverage, ExceptionRecord
from railwatch.core.states import WAITING_STATES, InvoiceState
from railwatch.core.transitions import Cause, transition_exception


def sync_exceptions(
    aggregate: InvoiceAggregate, received: Received, coverage: Coverage, now: datetime, cause: Cause
) -> None:
    """End what is over, and open what is new. Rows about transfers that were not loaded stay as they are."""
    detections = aggregate.detections.values()
    wanted = exception_rules.expected_exceptions(aggregate.invoice, detections, received, coverage, now)
    wanted |= exception_rules.balance_exceptions(aggregate.unattributed)
    called_for = exception_rules.expected_groups(aggregate.invoice, detections, received)
    if not (wanted or called_for or aggregate.exceptions):
        return
    exception_groups.leave(aggregate, called_for, received)
    for record in aggregate.exceptions:
        if not record.ended and _is_over(aggregate, record, wanted):
            _close(aggregate, record, cause)
    open_keys = {
        (record.kind, record.subject_id) for record in aggregate.exceptions if record.group is None and not record.ended
    }
    for kind, about in sorted(wanted - open_keys, key=str):
        _open(aggregate, kind, about, coverage, cause)
    exception_groups.join(aggregate, called_for, cause)


def _is_over(aggregate: InvoiceAggregate, record: ExceptionRecord, wanted: set[exception_rules.ExceptionKey]) -> bool:
    if record.group is not None:
        return not record.transfers
    return (record.kind, record.subject_id) not in wanted and not _hidden_by_hold(aggregate, record)


def _hidden_by_hold(aggregate: InvoiceAggregate, record: ExceptionRecord) -> bool:
    """Whether the state does not show what the exception is about: a hold hides it, or a top-up that is on its way.

    A shortfall that a person has resolved ends with the top-up: if it is not enough, a new exception opens.
    """
    if aggregate.invoice.state is InvoiceState.FLAGGED:
        return record.kind in exception_rules.STATE_KINDS
    return record.kind == "underpaid" and record.resolution is None and aggregate.invoice.state in WAITING_STATES


def _close(aggregate: InvoiceAggregate, record: ExceptionRecord, cause: Cause) -> None:
    if record.resolution is None:
        record.resolution, record.ended = "made good", True
        aggregate.resolved_exceptions.append(record)
        transition_exception(aggregate, record, "open", "resolved", cause, {})
    else:
        # The row stays as the person left it.
        record.ended = True
        aggregate.ended_exceptions.append(record)


def _open(aggregate: InvoiceAggregate, kind: str, about: UUID | None, coverage: Coverage, cause: Cause) -> None:
    before = [record.occurrence for record in aggregate.exceptions if (record.kind, record.subject_id) == (kind, about)]
    nth = max(before, default=0) + 1
    identity = exception_id(aggregate.invoice.id, kind, about, nth)
    detection, balance = (None, about) if about in aggregate.unattributed else (about, None)
    record = ExceptionRecord(identity, kind, exception_rules.SEVERITY[kind], detection, nth, balance_id=balance)
    aggregate.exceptions.append(record)
    aggregate.opened_exceptions.append(record)
    transition_exception(aggregate, record, None, "open", cause, exception_evidence(aggregate, kind, about, coverage))

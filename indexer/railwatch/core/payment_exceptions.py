"""The exceptions of one invoice's book, kept in line with the facts, and each opening and closing told.

The invariant: for each thing that an exception can be about there is at most one row that has not ended, and there is
one exactly while the facts call for it. A person may resolve that row at any time; it then goes on to stand for its
occurrence, so that the same occurrence opens nothing again, and ends with it, so that the next one does. Rows may
outlast their facts: what a hold hides, a shortfall while a top-up is on its way, and what a person decided about money
that has come (`cases.OF_THE_MONEY`). `groups` says which transfers a row about transfers holds.
"""

from datetime import datetime
from uuid import UUID

from railwatch.core import exception_groups, exception_rules
from railwatch.core.aggregate import Book
from railwatch.core.assessment import Received
from railwatch.core.evidence import of_case
from railwatch.core.ids import derived_id
from railwatch.core.model import Case, Coverage
from railwatch.core.states import WAITING, InvoiceState
from railwatch.core.transitions import Cause, tell_case


def settle_cases(book: Book, received: Received, coverage: Coverage, now: datetime, cause: Cause) -> None:
    """End what is over, and open what is new. Rows about transfers that were not loaded stay as they are."""
    detections = book.detections.values()
    wanted = exception_rules.standing_cases(book.invoice, detections, received, coverage, now)
    wanted |= exception_rules.of_balances(book.surpluses)
    called_for = exception_rules.grouped_cases(book.invoice, detections, received)
    if not (wanted or called_for or book.cases):
        return
    exception_groups.leave(book, called_for, received)
    for case in book.cases:
        if not case.ended and _is_over(book, case, wanted):
            _end(book, case, cause)
    standing = {(case.kind, case.about) for case in book.cases if case.group is None and not case.ended}
    for kind, about in sorted(wanted - standing, key=str):
        _open(book, kind, about, coverage, cause)
    exception_groups.join(book, called_for, cause)


def _is_over(book: Book, case: Case, wanted: set[exception_rules.CaseKey]) -> bool:
    if case.group is not None:
        return not case.transfers
    return (case.kind, case.about) not in wanted and not _is_hidden(book, case)


def _is_hidden(book: Book, case: Case) -> bool:
    """Whether the state does not show what the exception is about: a hold hides it, or a top-up that is on its way.

    A shortfall that a person has resolved ends with the top-up: if it is not enough, that is told again.
    """
    if book.invoice.state is InvoiceState.FLAGGED:
        return case.kind in exception_rules.OF_THE_STATE
    return case.kind == "underpaid" and case.resolution is None and book.invoice.state in WAITING


def _end(book: Book, case: Case, cause: Cause) -> None:
    if case.resolution is None:
        case.resolution, case.ended = "made good", True
        book.resolved.append(case)
        tell_case(book, case, "open", "resolved", cause, {})
    else:
        # The row stays as the person left it.
        case.ended = True
        book.ended.append(case)


def _open(book: Book, kind: str, about: UUID | None, coverage: Coverage, cause: Cause) -> None:
    before = [case.round for case in book.cases if (case.kind, case.about) == (kind, about)]
    nth = max(before, default=0) + 1
    identity = derived_id(f"case/{book.invoice.id}/{kind}/{about}/{nth}")
    detection, balance = (None, about) if about in book.surpluses else (about, None)
    case = Case(identity, kind, exception_rules.SEVERITY[kind], detection, nth, balance_id=balance)
    book.cases.append(case)
    book.opened.append(case)
    tell_case(book, case, None, "open", cause, of_case(book, kind, about, coverage))

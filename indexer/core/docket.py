"""The exceptions of one invoice's book, kept in line with the facts, and each opening and closing told.

The invariant: for each thing that an exception can be about there is at most one row that has not ended, and there is
one exactly while the facts call for it. A person may resolve that row at any time; it then goes on to stand for its
occurrence, so that the same occurrence opens nothing again, and ends with it, so that the next one does. Two rows may
outlast their facts: what a hold hides, and what a person decided about money that has come (`cases.OF_THE_MONEY`).
"""

from datetime import datetime
from uuid import UUID

from indexer.core import cases
from indexer.core.book import Book
from indexer.core.grounds import of_case
from indexer.core.ids import derived_id
from indexer.core.model import Case, Coverage
from indexer.core.payment import Received
from indexer.core.states import InvoiceState
from indexer.core.telling import Cause, tell_case


def settle_cases(book: Book, received: Received, coverage: Coverage, now: datetime, cause: Cause) -> None:
    """End what is over, and open what is new. Rows about transfers that were not loaded stay as they are."""
    wanted = cases.standing_cases(book.invoice, book.detections.values(), received, coverage, now)
    wanted |= cases.of_balances(book.surpluses)
    if not wanted and not book.cases:
        return
    for case in book.cases:
        if not case.ended and (case.kind, case.about) not in wanted and not _is_hidden(book, case):
            _end(book, case, cause)
    standing = {(case.kind, case.about) for case in book.cases if not case.ended}
    for kind, about in sorted(wanted - standing, key=str):
        _open(book, kind, about, coverage, cause)


def _is_hidden(book: Book, case: Case) -> bool:
    return book.invoice.state is InvoiceState.FLAGGED and case.kind in cases.OF_THE_STATE


def _end(book: Book, case: Case, cause: Cause) -> None:
    if case.resolution is None:
        case.resolution, case.ended = "made good", True
        book.resolved.append(case)
        tell_case(book, case, "open", "resolved", cause, {})
    elif case.kind not in cases.OF_THE_MONEY:
        # The row stays as the person left it. Money that is back in another block is the same occurrence.
        case.ended = True
        book.ended.append(case)


def _open(book: Book, kind: str, about: UUID | None, coverage: Coverage, cause: Cause) -> None:
    before = [case.round for case in book.cases if (case.kind, case.about) == (kind, about)]
    nth = max(before, default=0) + 1
    identity = derived_id(f"case/{book.invoice.id}/{kind}/{about}/{nth}")
    detection, balance = (None, about) if about in book.surpluses else (about, None)
    case = Case(identity, kind, cases.SEVERITY[kind], detection, nth, balance_id=balance)
    book.cases.append(case)
    book.opened.append(case)
    tell_case(book, case, None, "open", cause, of_case(book, kind, about, coverage))

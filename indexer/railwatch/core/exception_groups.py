"""Exceptions about transfers: one row for each destination, kind and asset, with a count and a sum (HAZARDS I16).

A transfer is counted in the row that was open when it came. What a person resolved goes on to hold the transfers that
it held then, so that the next one opens a row of its own. The feed is told when a row opens, when what it holds has
doubled, and when it is over.
"""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from railwatch.core.aggregate import Book
from railwatch.core.assessment import Received
from railwatch.core.evidence import of_group, of_transfer
from railwatch.core.exception_rules import OF_THE_MONEY, SEVERITY, has_its_money
from railwatch.core.ids import derived_id
from railwatch.core.model import Case, Detection, Group, Member
from railwatch.core.transitions import Cause, tell_case

CalledFor = Collection[tuple[UUID, str]]
"""Transfers of a book, each with a kind of exception that the facts call for."""


def leave(book: Book, called_for: CalledFor, received: Received) -> None:
    """Take out of their rows the transfers that do not belong there any more, and follow the amounts of the others.

    What a person decided about money that has come holds in whichever block that money is (`OF_THE_MONEY`).
    """
    for (identity, kind), member in list(book.members.items()):
        if (identity, kind) in called_for:
            _count(book, member.case, identity, book.detections[identity].amount - member.amount, 0)
            member.amount = book.detections[identity].amount
        elif member.case.resolution is None or kind not in OF_THE_MONEY:
            del book.members[identity, kind]
            _count(book, member.case, identity, -member.amount, -1)
    if has_its_money(book.invoice, received):
        for case in book.cases:
            # Also of transfers that were not loaded, for only the newest are.
            if case.kind == "double_spend" and case.transfers:
                case.transfers = case.amount = 0
                book.counted.add(case.id)


def join(book: Book, called_for: CalledFor, cause: Cause) -> None:
    """Count transfers in the open row of their group, which opens if there is none."""
    fresh: defaultdict[tuple[str, Group], list[Detection]] = defaultdict(list)
    for identity, kind in sorted(set(called_for) - book.members.keys(), key=str):
        each = book.detections[identity]
        fresh[kind, Group(each.destination_id, each.rail, each.asset)].append(each)
    for (kind, group), transfers in fresh.items():
        case = _open_case(book, kind, group)
        is_new = case is None
        if case is None:
            case = _new_case(book, kind, group, transfers[0])
        for each in transfers:
            book.members[each.id, kind] = Member(case, each.amount)
            _count(book, case, each.id, each.amount, 1)
        _tell(book, case, transfers, cause, is_new=is_new)


def _count(book: Book, case: Case, identity: UUID, amount: int, transfers: int) -> None:
    if not (amount or transfers):
        return
    case.amount += amount
    case.transfers += transfers
    book.counted.add(case.id)
    is_member = (identity, case.kind) in book.members
    book.joined[case.id, identity] = book.detections[identity].amount if is_member else None


def _open_case(book: Book, kind: str, group: Group) -> Case | None:
    return next(
        (
            case
            for case in book.cases
            if (case.kind, case.group) == (kind, group) and case.resolution is None and not case.ended
        ),
        None,
    )


def _new_case(book: Book, kind: str, group: Group, first: Detection) -> Case:
    before = [case.round for case in book.cases if (case.kind, case.group) == (kind, group)]
    nth = max(before, default=0) + 1
    about = f"{group.destination_id}/{group.rail}/{group.asset}"
    identity = derived_id(f"case/{book.invoice.id}/{kind}/{about}/{nth}")
    case = Case(identity, kind, SEVERITY[kind], first.id, nth, group=group)
    book.cases.append(case)
    book.opened.append(case)
    return case


def _tell(book: Book, case: Case, transfers: Collection[Detection], cause: Cause, *, is_new: bool) -> None:
    """Tell of a row that is new, or that holds twice what was told of it: so often at most as numbers have digits."""
    doubled = case.transfers >= 2 * case.told_transfers or case.amount >= 2 * case.told_amount
    if not doubled:
        return
    case.told_transfers = max(case.told_transfers, case.transfers)
    case.told_amount = max(case.told_amount, case.amount)
    *_, newest = transfers
    grounds = {**of_transfer(book, case.kind, newest), **of_group(case)}
    if is_new:
        tell_case(book, case, None, "open", cause, grounds, newest)
    else:
        mark = f"{case.told_transfers}/{case.told_amount}"
        tell_case(book, case, "open", "open", cause, grounds, newest, mark)

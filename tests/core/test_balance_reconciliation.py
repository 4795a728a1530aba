"""What a balance proves: the truth table of `reconcile_balance`, what always holds of it, and the exceptions that
follow.
"""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.balance_reconciliation import (
    BalanceReading,
    DetectedTotals,
    Reconciliation,
    reconcile_balance,
    small_at_most,
)
from railwatch.core.ids import balance_id
from railwatch.core.lifecycle import recheck
from railwatch.core.model import Coverage, ExceptionRecord, Invoice, UnattributedBalance
from railwatch.core.states import InvoiceState
from tests.core.builders import COIN, RAIL, TOKEN, minute

# baseline, last reading, detected above the baseline, of that above the last reading, balance: what follows
TABLE = [
    ("nothing ever came", 0, None, 0, 0, 0, Reconciliation(0, 0, 0)),
    ("what was there before", 7, None, 0, 0, 7, Reconciliation(0, 7, 0)),
    ("all of it was detected", 0, BalanceReading(0, 0), 5, 5, 5, Reconciliation(0, 5, 0)),
    ("it came unseen", 0, BalanceReading(0, 0), 0, 0, 5, Reconciliation(0, 0, 5)),
    ("some of it came unseen", 7, BalanceReading(7, 0), 3, 3, 15, Reconciliation(0, 10, 5)),
    ("it is still unseen", 0, BalanceReading(5, 0), 0, 0, 5, Reconciliation(0, 0, 5)),
    ("it was detected late", 0, BalanceReading(5, 0), 5, 0, 5, Reconciliation(0, 5, 0)),
    ("some of it was detected late", 0, BalanceReading(5, 0), 3, 0, 5, Reconciliation(0, 3, 2)),
    ("a sweep", 0, BalanceReading(5, 0), 5, 0, 0, Reconciliation(5, 0, 0)),
    ("a sweep of what was there before", 7, None, 0, 0, 0, Reconciliation(7, 0, 0)),
    ("part of it was swept", 0, BalanceReading(5, 0), 5, 0, 2, Reconciliation(3, 2, 0)),
    ("swept, and more came", 0, BalanceReading(5, 0), 9, 4, 4, Reconciliation(5, 4, 0)),
    ("unseen after a sweep", 0, BalanceReading(0, 5), 5, 0, 3, Reconciliation(5, 0, 3)),
    ("a sweep explains nothing", 0, BalanceReading(8, 0), 5, 0, 0, Reconciliation(8, -3, 3)),
    ("swept, and then detected late", 0, BalanceReading(0, 8), 8, 0, 0, Reconciliation(8, 0, 0)),
    ("unseen and more swept in between: it stays unknown", 0, BalanceReading(5, 0), 5, 0, 1, Reconciliation(4, 1, 0)),
    ("the same, once it was detected late", 0, BalanceReading(1, 4), 8, 0, 1, Reconciliation(7, 1, 0)),
    ("the last reading's block is gone: unseen", 0, None, 5, 5, 8, Reconciliation(0, 5, 3)),
    ("the last reading's block is gone: swept", 0, None, 5, 5, 0, Reconciliation(5, 0, 0)),
]


@pytest.mark.parametrize(
    ("baseline", "last", "total", "fresh", "balance", "expected"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE]
)
def test_what_a_balance_proves(
    baseline: int, last: BalanceReading | None, total: int, fresh: int, balance: int, expected: Reconciliation
) -> None:
    assert reconcile_balance(baseline, last, DetectedTotals(total, fresh), balance) == expected


@pytest.mark.parametrize(
    ("balance", "small", "least", "unattributed"),
    [(9, 9, 10, 0), (15, 9, 10, 0), (19, 9, 10, 10), (9, 0, 10, 0), (10, 0, 10, 10), (1, 0, 0, 1), (3, 5, 0, 0)],
)
def test_what_small_transfers_may_have_brought_is_not_claimed_and_dust_is_not_emitted(
    balance: int, small: int, least: int, unattributed: int
) -> None:
    result = reconcile_balance(0, BalanceReading(0, 0), DetectedTotals(0, 0, small), balance, least)
    assert result == Reconciliation(0, balance - unattributed, unattributed)


def test_small_transfers_of_another_asset_explain_little_of_this_one() -> None:
    assert small_at_most(5, 5, 10) == 5
    assert small_at_most(10**18, 2, 10) == 18
    assert small_at_most(10**18, 2, 0) == 0


MONEY = st.integers(0, 10)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(MONEY, st.lists(st.tuples(MONEY, MONEY, MONEY, MONEY), max_size=8))
def test_what_is_reported_is_never_more_than_what_came_unseen(
    baseline: int, rounds: list[tuple[int, int, int, int]]
) -> None:
    """Each round some money comes seen, some unseen, some leaves, and some of the unseen is found; then a reading."""
    balance, detected, unseen, left = baseline, 0, 0, 0
    last: BalanceReading | None = None
    for seen, hidden, wanted, searched in rounds:
        swept, found = min(wanted, balance + seen + hidden), min(searched, unseen)
        balance += seen + hidden - swept
        left += swept
        detected += seen + found
        unseen += hidden - found
        now = reconcile_balance(baseline, last, DetectedTotals(detected, seen), balance)
        assert 0 <= now.unattributed <= unseen
        assert 0 <= now.spent <= left
        assert now.expected == balance - now.unattributed
        if not left:
            assert now.unattributed == unseen, "where nothing leaves, nothing is hidden"
        last = BalanceReading(balance, now.spent)


def book(*unattributed: UnattributedBalance, records: list[ExceptionRecord] | None = None) -> InvoiceAggregate:
    """A paid invoice with that on its addresses."""
    invoice = Invoice(UUID(int=1), InvoiceState.PAID, minute(0), minute(0), minute(60), [], settled_at=minute(0))
    return InvoiceAggregate(invoice, {}, records or [], {each.id: each for each in unattributed})


def surplus(amount: int = 3, asset: str = COIN) -> UnattributedBalance:
    """Money that no block shows."""
    destination = UUID(int=2)
    return UnattributedBalance(
        balance_id(destination, COIN if asset == COIN else TOKEN),
        destination,
        RAIL,
        COIN,
        amount,
        10,
        8,
        "hash8",
        "node",
    )


def rechecked(page: InvoiceAggregate) -> InvoiceAggregate:
    """Check the exceptions, long after."""
    recheck(page, Coverage({RAIL: minute(90)}), minute(90) + timedelta(seconds=1))
    return page


def rows(page: InvoiceAggregate) -> list[tuple[str, UUID | None, int, str | None, bool]]:
    """What the table of exceptions would say."""
    return [(each.kind, each.subject_id, each.occurrence, each.resolution, each.ended) for each in page.exceptions]


def test_a_surplus_opens_its_exception_with_the_numbers_and_moves_nothing() -> None:
    there = surplus()
    page = rechecked(book(there))
    assert rows(page) == [("unattributed_balance", there.id, 1, None, False)]
    assert page.exceptions[0].detection_id is None
    assert page.invoice.state is InvoiceState.PAID
    (line,) = page.transitions
    assert (line.subject, line.to_state, line.reason, line.cause) == (
        "exception",
        "open",
        "unattributed_balance",
        "clock",
    )
    evidence: Mapping[str, object] = line.evidence
    assert (evidence["balance"], evidence["expected"], evidence["unattributed"]) == ("10", "7", "3")
    assert (evidence["block_height"], evidence["block_hash"], evidence["node"]) == (8, "hash8", "node")


def test_each_balance_has_an_exception_of_its_own() -> None:
    page = rechecked(book(surplus(), surplus(asset=TOKEN)))
    assert len({row[1] for row in rows(page)}) == 2


def test_it_is_emitted_once_however_often_it_is_read_and_however_much_it_grows() -> None:
    first = rechecked(book(surplus(3)))
    assert rechecked(book(surplus(4), records=first.exceptions)).transitions == []


def test_it_is_made_good_when_the_sums_agree_and_comes_again_as_another_occurrence() -> None:
    there = surplus()
    records = rechecked(book(there)).exceptions
    good = rechecked(book(records=records))
    assert rows(good) == [("unattributed_balance", there.id, 1, "made good", True)]
    again = rechecked(book(there, records=good.exceptions))
    assert rows(again)[1] == ("unattributed_balance", there.id, 2, None, False)
    assert again.exceptions[1].id != again.exceptions[0].id


def test_what_a_person_has_resolved_ends_once_it_is_accounted_for() -> None:
    there = surplus()
    records = rechecked(book(there)).exceptions
    records[0].resolution = "credited by ann"
    assert rechecked(book(there, records=records)).transitions == []
    ended = rechecked(book(records=records))
    assert rows(ended) == [("unattributed_balance", there.id, 1, "credited by ann", True)]


def test_a_balance_is_known_by_its_destination_and_asset() -> None:
    one, other = uuid4(), uuid4()
    assert balance_id(one, COIN) == balance_id(one, COIN)
    assert len({balance_id(one, COIN), balance_id(one, TOKEN), balance_id(other, COIN)}) == 3

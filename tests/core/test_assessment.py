"""The state of an invoice, by nothing but its terms, its transfers, what was covered, and the time."""

import pytest

from railwatch.core.assessment import accepted_range, assess, is_in_time, sum_payments
from railwatch.core.ids import derived_id
from railwatch.core.model import Coverage, Detection
from railwatch.core.states import DetectionState, InvoiceState, Kind
from tests.core.builders import COIN, RAIL, TOKEN, destination, invoice, minute

WATCHED = Coverage({RAIL: minute(10_000)})


def seen(about, amount, state="confirmed", *, way=0, first=5, block=5, confirmed=5, kind=Kind.PAYMENT):
    """A transfer as it is known; times in minutes."""
    state = DetectionState(state)
    return Detection(
        id=derived_id(f"{amount}/{state}/{way}/{first}/{block}"),
        destination_id=about.destinations[way].id,
        rail=RAIL,
        asset=COIN,
        tx_id="tx",
        tx_index="0",
        amount=amount,
        kind=kind,
        state=state,
        first_seen_at=minute(first),
        block_time=None if state is DetectionState.PENDING else minute(block),
        confirmed_at=minute(confirmed) if state in (DetectionState.CONFIRMED, DetectionState.FINAL) else None,
    )


def state_of(about, *transfers, now=10, coverage=WATCHED):
    return assess(about, transfers, coverage, minute(now)).value


ORDER = invoice(expires=60)
LATE = 61


@pytest.mark.parametrize(
    ("transfers", "state"),
    [
        ([], "created"),
        ([seen(ORDER, 100, "pending")], "detected"),
        ([seen(ORDER, 100, "included")], "confirming"),
        ([seen(ORDER, 40, "included")], "confirming"),
        ([seen(ORDER, 100)], "paid"),
        ([seen(ORDER, 100, "final")], "paid"),
        ([seen(ORDER, 60), seen(ORDER, 40)], "paid"),
        ([seen(ORDER, 101)], "overpaid"),
        ([seen(ORDER, 60), seen(ORDER, 41, "final")], "overpaid"),
        ([seen(ORDER, 99)], "underpaid"),
        ([seen(ORDER, 60), seen(ORDER, 40, "pending")], "confirming"),
        ([seen(ORDER, 100), seen(ORDER, 40, "pending")], "paid"),
        ([seen(ORDER, 100), seen(ORDER, 40, "included")], "paid"),
        ([seen(ORDER, 100, first=LATE)], "late_paid"),
        ([seen(ORDER, 60), seen(ORDER, 40, first=LATE)], "late_paid"),
        ([seen(ORDER, 100), seen(ORDER, 40, first=LATE)], "paid"),
        ([seen(ORDER, 100, "pending", first=LATE)], "detected"),
        ([seen(ORDER, 100, "included", first=LATE)], "confirming"),
        ([seen(ORDER, 60), seen(ORDER, 40, "included", first=LATE)], "confirming"),
        ([seen(ORDER, 60), seen(ORDER, 39, "included", first=LATE)], "underpaid"),
        ([seen(ORDER, 40, "included", first=LATE)], "created"),
        ([seen(ORDER, 99, first=LATE)], "created"),
        ([seen(ORDER, 100, "orphaned")], "created"),
        ([seen(ORDER, 100, "replaced")], "created"),
        ([seen(ORDER, 100, "dropped")], "created"),
        ([seen(ORDER, 100, kind=Kind.WRONG_ASSET)], "created"),
        ([seen(ORDER, 100, kind=Kind.WRONG_NETWORK)], "created"),
        ([seen(ORDER, 100, kind=Kind.UNSUPPORTED_ASSET)], "created"),
        ([seen(ORDER, 100, kind=Kind.UNEXPECTED)], "created"),
    ],
)
def test_the_money_decides(transfers, state):
    assert state_of(ORDER, *transfers) == state


# Expiry follows from data and from coverage


def test_a_closed_window_with_nothing_in_it_expires():
    assert state_of(ORDER, now=59) == "created"
    assert state_of(ORDER, now=60) == "expired"


def test_no_invoice_expires_for_a_time_that_its_rail_has_not_covered():
    assert state_of(ORDER, now=90, coverage=Coverage({RAIL: minute(59)})) == "created"
    assert state_of(ORDER, now=90, coverage=Coverage({RAIL: minute(60)})) == "expired"
    assert state_of(ORDER, now=90, coverage=Coverage({})) == "created"


def test_every_destination_must_be_covered():
    two = invoice("two", 100, destination("two"), destination("two", rail="other"), expires=60)
    assert state_of(two, now=90) == "created"
    assert state_of(two, now=90, coverage=Coverage({RAIL: minute(60), "other": minute(59)})) == "created"
    assert state_of(two, now=90, coverage=Coverage({RAIL: minute(60), "other": minute(60)})) == "expired"


def test_an_invoice_does_not_expire_before_its_address_is_watched():
    assert state_of(invoice("new", 100, destination("new", watching=False), expires=60), now=90) == "created"


def test_late_dust_does_not_keep_a_closed_window_open():
    assert state_of(ORDER, seen(ORDER, 40, first=LATE), now=90) == "expired"


def test_what_has_expired_stays_so_whatever_is_said_of_coverage_later():
    gone = invoice(expires=60, state=InvoiceState.EXPIRED)
    assert state_of(gone, now=90, coverage=Coverage({})) == "expired"


def test_money_in_time_that_was_found_after_expiry_still_pays():
    gone = invoice(expires=60, state=InvoiceState.EXPIRED)
    assert state_of(gone, seen(gone, 100), now=90) == "paid"


# Decisions that no chain fact undoes


def test_a_hold_comes_before_everything():
    held = invoice(state=InvoiceState.PAID)
    held.held = "sanctions"
    assert state_of(held, seen(held, 100)) == "flagged"


@pytest.mark.parametrize("state", [InvoiceState.CANCELLED, InvoiceState.REFUNDED])
def test_a_decision_holds_whatever_arrives(state):
    assert state_of(invoice(state=state), seen(ORDER, 100), now=90) == state


# Tolerance


@pytest.mark.parametrize(
    ("expected", "bps", "bounds"),
    [
        (100, 0, (100, 100)),
        (10_000, 50, (9_950, 10_050)),
        (10_000, 1, (9_999, 10_001)),
        (9_999, 1, (9_999, 9_999)),
        (10**40 + 1, 100, (10**40 + 1 - 10**38, 10**40 + 1 + 10**38)),
    ],
)
def test_the_tolerance_is_rounded_towards_the_exact_amount(expected, bps, bounds):
    assert accepted_range(expected, bps) == bounds


@pytest.mark.parametrize("expected", [1, 100])
def test_even_a_tolerance_of_everything_asks_for_something(expected):
    assert accepted_range(expected, 10_000)[0] == 1
    assert state_of(invoice("generous", expected, tolerance_bps=10_000)) == "created"


@pytest.mark.parametrize(
    ("amount", "state"), [(94, "underpaid"), (95, "paid"), (100, "paid"), (105, "paid"), (106, "overpaid")]
)
def test_the_bounds_are_inclusive(amount, state):
    order = invoice(tolerance_bps=500)
    assert state_of(order, seen(order, amount)) == state


# Which moment counts


@pytest.mark.parametrize(
    ("basis", "first", "block", "confirmed"),
    [("first_seen", 60, 61, 62), ("block_time", 61, 60, 62), ("confirmed", 61, 62, 60)],
)
def test_the_time_basis_decides_which_moment_counts_and_the_last_minute_is_in_time(basis, first, block, confirmed):
    order = invoice(expires=60, basis=basis)
    moments = {"first": first, "block": block, "confirmed": confirmed}
    assert state_of(order, seen(order, 100, **moments), now=90) == "paid"
    others = {name: 61 if at == 60 else 0 for name, at in moments.items()}
    assert state_of(order, seen(order, 100, **others), now=90) == "late_paid"


@pytest.mark.parametrize(("basis", "state"), [("block_time", "pending"), ("confirmed", "included")])
def test_while_that_moment_has_not_come_the_present_replaces_it(basis, state):
    order = invoice(expires=60, basis=basis)
    transfer = seen(order, 100, state)
    assert is_in_time(transfer, order, minute(60))
    assert not is_in_time(transfer, order, minute(60.1))


# Several ways to pay


@pytest.fixture
def choice():
    return invoice("choice", 100, destination("choice"), destination("choice", 500, asset=TOKEN), expires=60)


def test_amounts_are_never_summed_across_destinations(choice):
    assert state_of(choice, seen(choice, 99), seen(choice, 499, way=1)) == "underpaid"


def test_one_destination_must_be_met(choice):
    assert state_of(choice, seen(choice, 99), seen(choice, 500, way=1)) == "paid"
    assert state_of(choice, seen(choice, 501, way=1)) == "overpaid"


def test_what_waits_on_one_destination_keeps_the_other_from_being_underpaid(choice):
    assert state_of(choice, seen(choice, 99), seen(choice, 500, "pending", way=1)) == "confirming"


def test_sums_are_kept_by_destination_live_and_late_apart(choice):
    transfers = [
        seen(choice, 10),
        seen(choice, 7, "included"),
        seen(choice, 5, "pending"),
        seen(choice, 3, first=LATE),
        seen(choice, 2, "included", first=LATE),
        seen(choice, 1_000, "orphaned"),
        seen(choice, 400, way=1),
    ]
    for transfer in transfers:
        transfer.in_time = transfer.first_seen_at <= choice.expires_at
    coin, token = sum_payments(choice, transfers).payments.values()
    assert (coin.seen, coin.confirmed, coin.late, coin.late_confirmed) == (22, 10, 5, 3)
    assert (token.seen, token.confirmed, token.late, token.late_confirmed) == (400, 400, 0, 0)

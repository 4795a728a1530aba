"""What time alone opens: `stuck_confirming` and `detection_delayed`."""

from datetime import timedelta

import pytest

from railwatch.core.model import DelayLimits
from railwatch.core.policy import Policy
from railwatch.core.states import InvoiceState
from tests.core.builders import TOKEN, destination, invoice, minute, pay
from tests.core.story import Story

TEN = DelayLimits(stuck_after=timedelta(minutes=10), blind_after=timedelta(minutes=5))


def impatient(name="order", policy=None, **more):
    return invoice(name, 100, destination(name, 100, policy or Policy(3), delay_limits=TEN, **more))


# Stuck


def test_a_payment_that_waits_for_too_long_is_stuck_until_it_moves_on():
    order = impatient()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now += timedelta(minutes=9)
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.now += timedelta(minutes=1)
    story.looks_at_cases()
    assert story.open_cases(order) == ["stuck_confirming"]
    opened = story.feed[-1]
    assert (opened.subject, opened.cause) == ("exception", "clock")
    assert opened.evidence == {
        "state": "detected",
        "state_since": minute(0).isoformat(),
        "stuck_after": {"testnet": 600.0},
    }
    story.mine(pay(order, 100, "tx"))
    assert story.open_cases(order) == []
    assert story.told_cases("stuck_confirming") == ["open", "resolved"]
    story.quiet(2)
    assert order.state is InvoiceState.PAID


def test_each_wait_of_its_own_is_told_though_a_person_resolved_the_one_before():
    order = impatient()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    story.resolve(order, "stuck_confirming")
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.mine(pay(order, 100, "tx"))
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    assert story.open_cases(order) == ["stuck_confirming"]


def test_of_several_rails_that_are_waited_on_the_most_patient_counts():
    slow = destination("order", 100, Policy(3), TOKEN, delay_limits=DelayLimits(stuck_after=timedelta(minutes=30)))
    order = invoice("order", 100, destination("order", 100, Policy(3), delay_limits=TEN), slow)
    story = Story(order)
    story.sees(pay(order, 60, "quick"), pay(slow, 60, "slow"))
    story.now += timedelta(minutes=20)
    story.looks_at_cases()
    assert "stuck_confirming" not in story.open_cases(order)
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    assert "stuck_confirming" in story.open_cases(order)


def test_a_hold_hides_what_was_stuck_and_makes_it_not_good():
    order = impatient()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    order.held = "review"
    story.mine()
    assert order.state is InvoiceState.FLAGGED
    assert story.open_cases(order) == ["stuck_confirming"]
    order.held = None
    story.mine()
    assert order.state is InvoiceState.DETECTED
    assert story.open_cases(order) == []


# Delayed


def blinded(story, minutes):
    """The rail sees nothing for so long."""
    story.covered = story.covered or story.now
    story.now += timedelta(minutes=minutes)
    story.looks_at_cases()


def test_detection_is_delayed_while_the_rail_is_blind_and_until_it_sees_again():
    order = impatient()
    story = Story(order)
    story.quiet(1)
    blinded(story, 4)
    assert story.open_cases(order) == []
    blinded(story, 1)
    assert story.open_cases(order) == ["detection_delayed"]
    assert story.feed[-1].evidence == {
        "covered_until": {"testnet": minute(1).isoformat()},
        "blind_after": {"testnet": 300.0},
    }
    story.covered = None
    story.looks_at_cases()
    assert story.open_cases(order) == []
    assert story.told_cases("detection_delayed") == ["open", "resolved"]


def test_sight_that_was_lost_before_an_invoice_was_there_is_not_its_delay():
    order = impatient()
    story = Story(order)
    story.covered, story.now = minute(-600), minute(4)
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.now = minute(5)
    story.looks_at_cases()
    assert story.open_cases(order) == ["detection_delayed"]


def test_a_rail_that_has_never_seen_anything_is_blind():
    order = impatient(rail="elsewhere")
    story = Story(order)
    story.coverage = lambda: type(story).coverage(story).__class__({})
    story.now = minute(5)
    story.looks_at_cases()
    assert story.open_cases(order) == ["detection_delayed"]
    assert story.feed[-1].evidence["covered_until"] == {"elsewhere": None}


@pytest.mark.parametrize("state", [InvoiceState.EXPIRED, InvoiceState.CANCELLED, InvoiceState.REFUNDED])
def test_where_nothing_is_expected_nothing_is_delayed(state):
    order = impatient()
    order.state = state
    story = Story(order)
    blinded(story, 60)
    assert story.open_cases(order) == []


def test_where_nobody_looks_any_more_nothing_is_delayed():
    order = impatient()
    order.destinations[0].closed = True
    story = Story(order)
    blinded(story, 60)
    assert story.open_cases(order) == []


def test_a_hold_does_not_keep_a_delay_open():
    order = impatient()
    story = Story(order)
    blinded(story, 5)
    order.held, story.covered = "review", None
    story.mine()
    assert order.state is InvoiceState.FLAGGED
    assert story.open_cases(order) == []

"""Exceptions: each opens and closes by rule, and a person's word is about one occurrence and no other."""

from datetime import timedelta

import pytest

from indexer.core.model import Patience
from indexer.core.policy import Policy
from indexer.core.states import InvoiceState

from .stories import TOKEN, Story, destination, invoice, minute, pay

TEN = Patience(stuck=timedelta(minutes=10), blind=timedelta(minutes=5))


def impatient(name="order", policy=None, **more):
    return invoice(name, 100, destination(name, 100, policy or Policy(3), patience=TEN, **more))


# What a person resolved


def test_a_second_reversal_is_told_though_the_first_was_resolved_by_a_person():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    story.resolve(order, "reversed")
    story.quiet(3)
    assert story.open_cases(order) == []
    story.mine(pay(order, 100, "again"))
    story.reorg(1)
    assert story.open_cases(order) == ["reversed"]
    first, second = story.cases[order.id]
    assert (first.resolution, first.ended, first.round) == ("refunded by hand", True, 1)
    assert (second.resolution, second.ended, second.round) == (None, False, 2)


def test_a_topped_up_invoice_that_falls_short_again_is_told_again():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 60, "tx"))
    story.resolve(order, "underpaid")
    story.mine(pay(order, 50, "more"))
    assert order.state is InvoiceState.OVERPAID
    story.reorg(1)
    assert order.state is InvoiceState.UNDERPAID
    assert "underpaid" in story.open_cases(order)


def test_what_a_person_decided_about_money_holds_in_whichever_block_it_is():
    order = invoice(expires=0)
    story = Story(order)
    late = pay(order, 100, "late")
    story.mine(late)
    assert story.open_cases(order) == ["late"]
    story.resolve(order, "late")
    story.reorg(1, [], [late])
    story.reorg(2)
    story.mine(late)
    assert "late" not in story.open_cases(order)
    assert story.told_cases("late") == ["open"]


def test_a_double_spend_of_money_that_had_come_back_is_told_again():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    story.resolve(order, "double_spend")
    story.sees(pay(order, 100, "tx"))
    assert story.open_cases(order) == []
    story.hears_of_rival("tx", "another")
    assert story.open_cases(order) == ["double_spend"]


# Reversed


def test_an_invoice_that_is_cancelled_with_its_money_there_was_never_reversed():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    order.state = InvoiceState.CANCELLED
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.reorg(1)
    assert story.open_cases(order) == ["reversed"]


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
    slow = destination("order", 100, Policy(3), TOKEN, patience=Patience(stuck=timedelta(minutes=30)))
    order = invoice("order", 100, destination("order", 100, Policy(3), patience=TEN), slow)
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


# Why


def test_an_exception_says_on_what_facts_it_opened():
    order = invoice("order", 100, destination(), destination(expected=500, asset=TOKEN), expires=0)
    story = Story(order)
    story.mine(pay(order, 130, "late"), pay(order.destinations[1], 1, "other"))
    grounds = {line.reason: line.evidence for line in story.feed if line.subject == "exception"}
    assert set(grounds) == {"late", "mixed_destinations"}
    assert grounds["late"] == {
        "amount": "1",
        "asset": TOKEN,
        "state": "confirming",
        "time_basis": "first_seen",
        "expires_at": minute(0).isoformat(),
    }
    assert [each["late"] for each in grounds["mixed_destinations"]["destinations"]] == ["130", "1"]


def test_a_reversal_says_since_when_the_invoice_had_been_settled():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    [line] = [line for line in story.feed if line.reason == "reversed" and line.subject == "exception"]
    assert line.evidence["settled_at"] == minute(1).isoformat()


def test_a_line_names_the_observation_that_it_comes_from():
    order = invoice()
    story = Story(order)
    waiting, mined = pay(order, 100, "tx", evidence={"node": "a"}), pay(order, 100, "tx", evidence={"node": "b"})
    story.sees(waiting)
    story.mine(mined)
    story.reorg(1, [mined], [])
    named = [line.evidence["observation"] for line in story.feed if "observation" in line.evidence]
    seen = [(each.version, each.state.value, each.facts) for each in story.observations]
    assert seen == [
        (1, "pending", {"node": "a"}),
        (2, "included", {"node": "b"}),
        (5, "included", {"node": "b"}),
    ]
    assert named == [version for version, _, _ in seen]

"""The payment window: what is in time, what is late, and when an invoice expires."""

from datetime import timedelta

import pytest

from railwatch.core.model import DelayLimits
from tests.core.builders import RAIL, destination, invoice, minute, pay
from tests.core.story import Story


def test_enough_money_after_the_window_is_late_paid():
    order = invoice(expires=5)
    story = Story(order)
    story.passes(10)
    story.mine(pay(order, 100, "tx"))
    assert story.states(order) == ["expired", "confirming", "late_paid"]
    assert story.open_cases(order) == ["late", "unexpected_payment"]
    assert (order.destinations[0].seen, order.destinations[0].late) == (0, 100)


def test_a_top_up_after_the_window_is_late_paid():
    order = invoice(expires=5)
    story = Story(order)
    story.mine(pay(order, 60, "first"))
    story.passes(10)
    story.mine(pay(order, 40, "second"))
    assert story.states(order) == ["confirming", "underpaid", "confirming", "late_paid"]
    assert story.open_cases(order) == ["late"]


def test_late_money_in_the_mempool_that_vanishes_leaves_the_invoice_expired_again():
    order = invoice(expires=5)
    story = Story(order)
    story.passes(10)
    story.sees(pay(order, 100, "tx"))
    story.drops("tx")
    assert story.states(order) == ["expired", "detected", "created", "expired"]
    assert [line.reason for line in story.lines(order)] == ["expired", "seen", "dropped", "expired"]
    assert [line.cause for line in story.lines(order)] == ["clock", "chain", "chain", "clock"]


def test_first_seen_in_time_pays_in_time_though_its_block_is_late():
    order = invoice(expires=5)
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.passes(10)
    story.mine(pay(order, 100, "tx"))
    assert story.states(order) == ["detected", "confirming", "paid"]
    assert story.found("tx").in_time is True


def test_a_payment_that_turns_out_late_takes_the_invoice_back_and_then_the_window_closes():
    order = invoice(expires=5, basis="block_time")
    story = Story(order)
    story.sees(pay(order, 60, "dust"))
    story.passes(10)
    assert story.states(order) == ["detected", "created", "expired"]
    assert [line.reason for line in story.lines(order)] == ["seen", "late", "expired"]


@pytest.mark.parametrize("amount", [60, 100])
@pytest.mark.parametrize("history", [False, True])
def test_blocks_of_an_outage_are_judged_by_their_own_time_also_when_read_after_the_window(amount, history):
    # The time basis `confirmed` has no moment yet while a transfer is only included; then the present stands for it.
    order = invoice(expires=5, basis="confirmed")
    story = Story(order, horizon=1)
    story.covered = minute(0)
    block = story.mine()
    story.now = minute(90)
    story.content["late-read"] = [pay(order, amount, "tx")]
    read = type(block)(2, "late-read", block.hash, minute(2))
    story.take([read], story.content, history=history)
    assert story.states(order) == ["confirming", "paid" if amount == 100 else "underpaid"]


def test_a_payment_in_time_is_expected_though_its_window_was_told_to_be_over():
    order = invoice(expires=5)
    story = Story(order)
    story.passes(6)
    assert story.states(order) == ["expired"]
    story.now -= timedelta(minutes=3)  # the block that comes now is stamped with a time within the window
    story.mine(pay(order, 100, "tx"))
    assert story.states(order)[-1] == "paid"
    assert story.open_cases(order) == []


# Expiry and coverage


def test_a_window_with_nothing_in_it_expires_by_the_clock():
    order = invoice(expires=5)
    story = Story(order)
    story.passes(4)
    assert story.states(order) == []
    story.passes(1)
    (expired,) = story.lines(order)
    assert (expired.from_state, expired.to_state, expired.reason, expired.cause) == (
        "created",
        "expired",
        "expired",
        "clock",
    )
    assert expired.evidence["covered_until"] == {RAIL: minute(5).isoformat()}


def test_a_blind_rail_expires_nothing():
    order = invoice(expires=5)
    story = Story(order)
    story.covered = minute(4)
    story.passes(60)
    assert story.states(order) == []
    story.covered = minute(5)
    story.look_at_the_clock()
    assert story.states(order) == ["expired"]


def test_a_block_expires_too_but_never_before_it_has_told_what_it_brings():
    order = invoice(expires=5, basis="block_time")
    story = Story(order)
    story.now = minute(9)
    block = story.blocks[-1]
    story.take(
        [type(block)(1, "in-time", block.hash, minute(5))],
        {"in-time": [pay(order, 100, "tx")]},
    )
    assert story.states(order) == ["confirming", "paid"]


def test_a_window_that_blocks_decide_stays_open_for_the_margin():
    order = invoice("order", 100, destination(delay_limits=DelayLimits(margin=timedelta(minutes=10))), expires=5)
    story = Story(order)
    story.passes(14)
    assert story.states(order) == []
    story.passes(1)
    assert story.states(order) == ["expired"]

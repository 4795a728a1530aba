"""Transfers that are no payment: another asset, another network, or for an invoice that has ended."""

import pytest

from railwatch.core.exception_rules import UNSUPPORTED_MAX
from railwatch.core.policy import Policy
from railwatch.core.states import InvoiceState
from tests.core.builders import TOKEN, UNKNOWN, destination, invoice, pay
from tests.core.story import Story


@pytest.mark.parametrize(("asset", "kind"), [(TOKEN, "wrong_asset"), (UNKNOWN, "unsupported_asset")])
def test_another_asset_is_recorded_and_moves_nothing(asset, kind):
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx", asset=asset))
    assert story.states(order) == []
    assert story.tale("tx") == ["included", "confirmed"]
    assert story.found("tx").kind == kind
    assert story.open_cases(order) == [kind]
    assert order.destinations[0].seen == 0


def test_spam_of_unknown_tokens_is_bounded_for_each_destination_and_hides_no_payment():
    order = invoice("order", 100, destination(), destination(expected=500, asset=TOKEN))
    story = Story(order)
    spam = [pay(order, 1, f"spam-{n}", asset=UNKNOWN) for n in range(UNSUPPORTED_MAX + 5)]
    story.mine(*spam)
    story.mine(*spam[:3], pay(order, 1, "more", asset=UNKNOWN))
    assert story.open_cases(order) == ["unsupported_asset"]
    assert story.cases[order.id][0].transfers == UNSUPPORTED_MAX
    assert story.left_out == 6
    story.sees(pay(order, 1, "waiting", asset=UNKNOWN))
    assert story.left_out == 6, "a mempool shows the same again and again"
    story.mine(pay(order, 100, "tx"), pay(order, 7, "wrong", asset=TOKEN))
    assert order.state is InvoiceState.PAID
    assert story.found("wrong").kind == "wrong_asset"
    story.mine(pay(order.destinations[1], 1, "other", asset=UNKNOWN))
    assert story.found("other").kind == "unsupported_asset"


def test_another_asset_is_an_exception_only_while_it_is_in_a_block():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx", asset=TOKEN))
    assert story.open_cases(order) == []
    story.mine(pay(order, 100, "tx", asset=TOKEN))
    story.reorg(1)
    assert story.told_cases("wrong_asset") == ["open", "resolved"]


def test_the_right_asset_on_the_wrong_network_is_recorded_with_that_rails_depth_and_pays_nothing():
    order = invoice("order", 100, destination(rail="elsewhere", policy=Policy(9)))
    story = Story(order, horizon=3)
    story.mine(pay(order, 100, "tx"))
    story.quiet(2)
    assert story.states(order) == []
    assert story.tale("tx") == ["included", "confirmed", "final"]
    assert story.open_cases(order) == ["wrong_network"]


@pytest.mark.parametrize("confirmations", [1, 2])
def test_what_is_due_on_another_rail_is_left_to_that_rail(confirmations):
    order = invoice(policy=Policy(confirmations))
    here, there = Story(order), Story(order, rail="elsewhere")
    here.mine(pay(order, 100, "tx"))
    there.detections, there.cases = here.detections, here.cases
    there.quiet(100)
    assert there.feed == []


def test_a_loss_told_by_another_rails_step_has_no_depth_of_this_one():
    order = invoice("order", 100, destination(policy=Policy(3)), destination(rail="elsewhere"))
    here, there = Story(order), Story(order, rail="elsewhere")
    here.mine(pay(order, 100, "tx"))
    there.detections, there.cases = here.detections, here.cases
    there.mine(pay(order.destinations[1], 100, "other"))
    here.quiet(2)
    assert order.state is InvoiceState.PAID
    assert here.open_cases(order) == ["mixed_destinations"]
    assert there.lines(order)[-1].confirmations == 1


@pytest.mark.parametrize("state", [InvoiceState.CANCELLED, InvoiceState.REFUNDED])
def test_money_for_a_closed_invoice_is_unexpected_and_never_lost(state):
    order = invoice(state=state)
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    assert story.states(order) == []
    assert story.found("tx").kind == "unexpected"
    assert story.open_cases(order) == ["unexpected_payment"]


@pytest.mark.parametrize("state", [InvoiceState.CANCELLED, InvoiceState.REFUNDED])
def test_money_that_was_given_up_before_the_invoice_was_closed_is_unexpected_when_it_comes_back(state):
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.drops("tx")
    order.state = state
    story.mine(pay(order, 100, "tx"))
    assert order.state is state
    assert story.open_cases(order) == ["unexpected_payment"]


def test_a_refunded_payment_that_a_reorg_moves_to_another_block_is_nothing_unexpected():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    order.state = InvoiceState.REFUNDED
    story.reorg(1, [], [pay(order, 100, "tx")])
    assert story.cases[order.id] == []


def test_wrong_asset_for_a_cancelled_invoice_stays_wrong_asset():
    order = invoice(state=InvoiceState.CANCELLED)
    story = Story(order)
    story.mine(pay(order, 100, "tx", asset=TOKEN))
    assert story.open_cases(order) == ["wrong_asset"]

"""A hold hides the state, and nothing else: what is critical is told at once, and what nobody waits for stays that."""

import pytest

from railwatch.core.policy import Policy
from railwatch.core.states import InvoiceState, Kind
from tests.core.builders import COIN, TOKEN, invoice, minute, pay
from tests.core.manual_ops_model import cancel, hold, refund, release
from tests.core.story import Story


def paid(policy=None):
    order = invoice(policy=policy or Policy(1))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.quiet(1)
    assert order.state is InvoiceState.PAID
    return story, order


def grounds(story):
    """On what facts the last exception opened."""
    return [line.evidence for line in story.feed if line.to_state == "open"][-1]


# Money that comes while it is held


@pytest.mark.parametrize("how", ["cancelled", "refunded"])
def test_money_for_a_closed_invoice_that_is_held_is_as_unexpected_as_without_the_hold(how):
    order = invoice()
    story = Story(order)
    if how == "cancelled":
        assert cancel(story, order)
    else:
        story.mine(pay(order, 100, "tx"))
        assert refund(story, order)
    hold(story, order)
    story.mine(pay(order, 100, "more"))
    assert (story.found("more").kind, story.found("more").invoice_end_state) == (Kind.UNEXPECTED, how)
    assert story.open_cases(order) == ["unexpected_payment"]
    assert order.destinations[0].confirmed == (0 if how == "cancelled" else 100)
    assert grounds(story)["invoice_was"] == how
    release(story, order)
    assert order.state.value == how
    assert story.open_cases(order) == ["unexpected_payment"]


def test_what_was_given_up_and_is_back_under_a_hold_is_unexpected_too():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.drops("tx")
    assert cancel(story, order)
    hold(story, order)
    story.mine(pay(order, 100, "tx"))
    assert story.found("tx").kind is Kind.UNEXPECTED
    assert grounds(story)["invoice_was"] == "cancelled"


@pytest.mark.parametrize("held_first", [True, False])
def test_a_second_payment_is_unexpected_also_where_the_first_one_or_both_came_under_a_hold(held_first):
    order = invoice()
    story = Story(order)
    if held_first:
        hold(story, order)
    story.mine(pay(order, 100, "tx"))
    hold(story, order)
    story.mine(pay(order, 30, "more"))
    assert story.found("more").kind is Kind.PAYMENT
    assert story.open_cases(order) == ["unexpected_payment"]
    release(story, order)
    assert order.state is InvoiceState.OVERPAID


def test_an_expiry_that_was_told_before_the_hold_still_holds_and_none_comes_under_it():
    told, untold = invoice("told", expires=5), invoice("untold", expires=5)
    story = Story(told, untold)
    hold(story, untold)
    story.passes(6)
    assert told.state is InvoiceState.EXPIRED
    hold(story, told)
    story.mine(pay(told, 30, "one"), pay(untold, 30, "two"))
    assert story.open_cases(told) == ["late", "unexpected_payment"]
    assert story.open_cases(untold) == ["late"]
    release(story, told)
    release(story, untold)
    assert (told.state, untold.state) == (InvoiceState.EXPIRED, InvoiceState.EXPIRED)


# Money that vanishes while it is held


def test_a_reversal_is_told_at_once_under_a_hold_and_made_good_under_it():
    story, order = paid()
    hold(story, order)
    story.reorg(2)
    assert order.state is InvoiceState.FLAGGED
    assert story.open_cases(order) == ["reversed"]
    assert grounds(story)["settled_at"] == minute(1).isoformat()
    story.mine(pay(order, 100, "tx"))
    assert story.open_cases(order) == []
    release(story, order)
    assert order.state is InvoiceState.PAID
    assert order.settled_at == minute(1)
    assert story.told_cases("reversed") == ["open", "resolved"]


def test_a_reversal_that_is_not_made_good_outlasts_the_release():
    story, order = paid()
    hold(story, order)
    story.reorg(2)
    release(story, order)
    assert order.state is InvoiceState.CREATED
    assert story.open_cases(order) == ["reversed"]
    assert story.told_cases("reversed") == ["open"]
    story.mine(pay(order, 100, "again"))
    assert story.open_cases(order) == []


def test_a_reversal_before_the_hold_is_made_good_under_it():
    story, order = paid()
    story.reorg(2)
    hold(story, order)
    assert story.open_cases(order) == ["reversed"]
    story.mine(pay(order, 100, "tx"))
    assert story.open_cases(order) == []


def test_what_was_never_told_to_be_paid_is_not_reversed():
    order = invoice()
    story = Story(order)
    hold(story, order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    assert story.open_cases(order) == []
    story.quiet(1)
    release(story, order)
    assert (order.state, order.settled_at) == (InvoiceState.CREATED, None)


def test_a_double_spend_under_a_hold_is_told_at_once_and_made_good_by_another_payment():
    story, order = paid()
    hold(story, order)
    story.reorg(2)
    story.hears_of_rival("tx", "rival")
    assert story.open_cases(order) == ["double_spend", "reversed"]
    story.mine(pay(order, 100, "again"))
    assert story.open_cases(order) == []
    release(story, order)
    assert order.state is InvoiceState.PAID


def test_a_rival_takes_nothing_from_an_invoice_that_has_its_money_held_or_not():
    story, order = paid()
    story.sees(pay(order, 100, "second"))
    hold(story, order)
    story.hears_of_rival("second", "rival")
    assert story.open_cases(order) == []


def test_a_hold_that_the_daemon_tells_forgets_nothing_either():
    order = invoice()
    story = Story(order)
    assert cancel(story, order)
    order.held = "a policy"
    story.mine()
    assert (order.state, order.held_from) == (InvoiceState.FLAGGED, InvoiceState.CANCELLED)
    release(story, order)
    assert (order.state, order.held_from) == (InvoiceState.CANCELLED, None)


# Money that vanishes after it was given back


def test_a_refund_whose_payment_vanishes_is_a_reversal_until_it_is_back():
    story, order = paid()
    assert refund(story, order)
    assert (order.state, story.open_cases(order)) == (InvoiceState.REFUNDED, [])
    story.reorg(2)
    assert story.open_cases(order) == ["reversed"]
    assert grounds(story)["refunded"] == [{"rail": "testnet", "asset": COIN, "amount": "100"}]
    story.mine(pay(order, 100, "tx"))
    assert story.open_cases(order) == []


def test_the_same_under_a_hold():
    story, order = paid()
    assert refund(story, order)
    hold(story, order)
    story.reorg(2)
    assert story.open_cases(order) == ["reversed"]
    release(story, order)
    assert order.state is InvoiceState.REFUNDED
    assert story.open_cases(order) == ["reversed"]


def test_what_was_given_back_while_its_payment_counted_for_nothing_must_be_there_too():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 7, "mistake", asset=TOKEN))
    assert refund(story, order, TOKEN)
    story.reorg(1)
    assert story.open_cases(order) == ["reversed"]
    assert "settled_at" not in grounds(story)


def test_a_refund_of_all_that_is_left_ends_a_reversal():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 60, "tx"))
    story.mine(pay(order, 40, "rest"))
    assert order.state is InvoiceState.PAID
    story.reorg(1)
    assert (order.state, "reversed" in story.open_cases(order)) == (InvoiceState.UNDERPAID, True)
    assert refund(story, order, amount=60)
    assert (order.state, story.open_cases(order)) == (InvoiceState.REFUNDED, [])


def test_a_refund_of_what_has_vanished_ends_nothing():
    story, order = paid()
    story.reorg(2)
    hold(story, order)
    assert refund(story, order)
    assert (order.state, story.open_cases(order)) == (InvoiceState.REFUNDED, ["reversed"])


def test_a_refund_of_what_waits_for_its_depth_is_none_of_what_has_vanished():
    order = invoice(policy=Policy(3))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    assert not refund(story, order), "it does not count yet"
    hold(story, order)
    assert refund(story, order)
    assert (order.state, story.open_cases(order)) == (InvoiceState.REFUNDED, [])

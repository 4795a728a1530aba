"""Reorgs: what leaves with its block, what comes back, and what a person must know of it."""

from dataclasses import replace

import pytest

from railwatch.core.lifecycle import apply_reorg
from railwatch.core.policy import Policy
from railwatch.core.states import DetectionState, IllegalMove, InvoiceState
from railwatch.core.step import InvoiceUpdate, apply_step
from railwatch.rail.types import NO_RECIPIENT, Transfer
from tests.core.builders import COIN, invoice, minute, pay
from tests.core.story import Story


def test_a_reorg_after_paid_that_brings_the_payment_back_is_told_and_made_good():
    order = invoice(policy=Policy(2))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.mine()
    story.reorg(2, [pay(order, 100, "tx")], [], [])
    assert story.states(order) == ["confirming", "paid", "created", "confirming", "paid"]
    assert story.lines(order)[2].reason == "reversed"
    assert story.tale("tx") == ["included", "confirmed", "orphaned", "included", "confirmed"]
    assert story.told_cases("reversed") == ["open", "resolved"]
    assert story.open_cases(order) == []


def test_a_reorg_after_paid_that_does_not_bring_it_back_stays_critical():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    story.quiet(10)
    assert story.states(order) == ["confirming", "paid", "created"]
    assert story.lines(order)[-1].reason == "reversed"
    assert [(record.kind, record.severity) for record in story.cases[order.id]] == [("reversed", "critical")]
    assert story.open_cases(order) == ["reversed"]
    assert order.destinations[0].confirmed == 0


def test_a_reversed_payment_that_comes_back_much_later_is_the_same_detection():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    story.sees(pay(order, 100, "tx"))
    story.mine(pay(order, 100, "tx"))
    assert story.tale("tx") == ["included", "confirmed", "orphaned", "pending", "included", "confirmed"]
    assert story.states(order)[-3:] == ["detected", "confirming", "paid"]
    assert story.open_cases(order) == []


def test_a_reorg_after_the_window_that_brings_the_payment_back_never_says_expired():
    order = invoice(expires=5)
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.passes(10)
    story.reorg(1, [pay(order, 100, "tx")], [])
    assert story.states(order) == ["confirming", "paid", "created", "confirming", "paid"]


def test_a_reorg_after_the_window_that_takes_the_payment_ends_in_expired():
    order = invoice(expires=5)
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.passes(10)
    story.reorg(1)
    assert [(line.to_state, line.reason, line.cause) for line in story.lines(order)[-2:]] == [
        ("created", "reversed", "chain"),
        ("expired", "expired", "clock"),
    ]


def test_a_reorg_while_confirming_is_orphaned_and_no_alarm():
    order = invoice(policy=Policy(6))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    assert story.states(order) == ["confirming", "created"]
    assert story.lines(order)[-1].reason == "orphaned"
    assert story.cases[order.id] == []


def test_every_inclusion_above_the_fork_is_told_not_only_the_tips():
    order = invoice(policy=Policy(6))
    story = Story(order)
    story.mine(pay(order, 30, "one"))
    story.mine(pay(order, 30, "two"))
    story.mine(pay(order, 40, "three"))
    story.reorg(3)
    assert [story.tale(tx)[-1] for tx in ("one", "two", "three")] == ["orphaned"] * 3


def test_a_reorg_above_the_payment_leaves_it_alone():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.quiet(2)
    told = list(story.feed)
    story.reorg(2)
    assert story.feed == told


def test_an_orphaned_transfer_has_no_moment_of_confirmation_any_more():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    assert story.found("tx").confirmed_at == minute(1)
    story.reorg(1)
    assert story.found("tx").confirmed_at is None


def test_a_reorg_above_the_payment_leaves_its_moment_of_confirmation():
    order = invoice(policy=Policy(2), basis="confirmed", expires=2)
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.mine()
    story.reorg(1, [], [])
    assert story.found("tx").confirmed_at == minute(2)
    assert story.states(order) == ["confirming", "paid"]


def test_a_shorter_way_to_confirmation_on_the_new_branch_is_counted_anew():
    order = invoice(policy=Policy(3))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.quiet(2)
    story.reorg(3, [], [], [], [pay(order, 100, "tx")])
    assert story.states(order)[-2:] == ["created", "confirming"]
    assert story.found("tx").confirmed_at is None
    story.quiet(2)
    assert story.states(order)[-1] == "paid"


def test_a_new_branch_that_holds_a_rival_reverses_and_alarms_twice():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1, [Transfer("rival", "", NO_RECIPIENT, COIN, 0, None, rivals=("tx",))], [])
    assert story.tale("tx") == ["included", "confirmed", "orphaned", "replaced"]
    assert story.lines(order)[-1].reason == "reversed"
    assert story.open_cases(order) == ["double_spend", "reversed"]
    assert story.found("tx").replaced_by == "rival"


def test_a_reorg_of_one_of_two_overpaying_transfers_goes_back_to_paid():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "one"))
    story.mine(pay(order, 5, "two"))
    story.reorg(1)
    assert story.states(order) == ["confirming", "paid", "overpaid", "paid"]
    assert story.lines(order)[-1].reason == "reversed"
    assert story.open_cases(order) == []


def test_a_final_transfer_cannot_be_orphaned():
    order = invoice()
    story = Story(order, horizon=2)
    story.mine(pay(order, 100, "tx"))
    story.quiet(3)
    aggregates = story._books([order.id])
    with pytest.raises(IllegalMove, match="from final to orphaned"):
        apply_step(aggregates, {order.id: InvoiceUpdate(orphaned=[story.found("tx").id])}, story.moment())


def test_a_final_transfer_is_orphaned_where_a_person_has_accepted_another_chain():
    order = invoice()
    story = Story(order, horizon=1)
    story.mine(pay(order, 100, "tx"))
    story.quiet(2)
    found = story.found("tx")
    assert found.state is DetectionState.FINAL
    [aggregate] = story._books([order.id])
    apply_reorg(aggregate, [found.id], replace(story.moment(), accepts_chain=True))
    assert (found.state, order.state) == (DetectionState.ORPHANED, InvoiceState.CREATED)

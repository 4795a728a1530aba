"""The book of one invoice, chapter by chapter: what happens on the chain, and what the feed then says."""

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest

from railwatch.core.exception_rules import UNSUPPORTED_MAX
from railwatch.core.lifecycle import apply_reorg
from railwatch.core.model import DelayLimits
from railwatch.core.policy import Policy, Threshold
from railwatch.core.states import DetectionState, IllegalMove, InvoiceState
from railwatch.core.step import InvoiceUpdate, apply_step
from railwatch.core.thresholds import confirmation_threshold, next_threshold, second_look_threshold
from railwatch.rail.types import NO_RECIPIENT, Transfer
from tests.core.builders import COIN, RAIL, TOKEN, UNKNOWN, Story, destination, invoice, minute, pay

# From nothing to paid


def test_an_exact_payment_is_seen_included_and_paid():
    order = invoice(policy=Policy(3))
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.mine(pay(order, 100, "tx"))
    story.mine()
    assert story.states(order) == ["detected", "confirming"]
    story.mine()
    assert story.states(order) == ["detected", "confirming", "paid"]
    assert [line.reason for line in story.lines(order)] == ["seen", "included", "confirmed"]
    assert story.tale("tx") == ["pending", "included", "confirmed"]
    assert story.open_cases(order) == []


def test_a_line_says_through_what_and_on_what_grounds_it_came():
    order = invoice(policy=Policy(2))
    story = Story(order)
    block = story.mine(pay(order, 100, "tx"))
    story.mine()
    confirming, paid = story.lines(order)
    assert (confirming.confirmations, confirming.seen_amount, confirming.confirmed_amount) == (1, 100, 0)
    assert (paid.confirmations, paid.seen_amount, paid.confirmed_amount) == (2, 100, 100)
    assert (paid.block_hash, paid.block_height, paid.chain_time) == (block.hash, 1, minute(1))
    assert (paid.cause, paid.from_state) == ("chain", "confirming")
    policy = {"confirmations": 2}
    sums = {"expected": "100", "least": "100", "most": "100", "seen": "100", "confirmed": "100", "late": "0"}
    assert paid.evidence == {
        "rule": "least <= confirmed <= most",
        "cursor": 2,
        "finalized": -1,
        "tip": 2,
        "time_basis": "first_seen",
        "expires_at": minute(1_000).isoformat(),
        "tolerance_bps": 0,
        "destinations": [{"rail": RAIL, "asset": COIN, "policy": policy, **sums}],
        "policy": policy,
        "expected": "100",
    }
    included, confirmed = [line for line in story.feed if line.subject == "detection"]
    assert included.evidence == {"observation": 1}
    assert confirmed.evidence == {"basis": "depth", "due": 2, "reached": 2, "maturity": 1}


def test_one_block_can_include_and_pay_but_tells_both():
    order = invoice(policy=Policy(1))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    assert story.states(order) == ["confirming", "paid"]
    assert story.tale("tx") == ["included", "confirmed"]


def test_a_block_that_touches_nothing_tells_nothing():
    order = invoice(policy=Policy(9))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    told = list(story.feed)
    story.quiet(7)
    assert story.feed == told


def test_a_payment_becomes_final_at_the_horizon_and_not_before():
    order = invoice()
    story = Story(order, horizon=4)
    story.mine(pay(order, 100, "tx"))
    story.quiet(2)
    assert story.tale("tx") == ["included", "confirmed"]
    story.quiet(1)
    assert story.tale("tx") == ["included", "confirmed", "final"]
    assert story.states(order) == ["confirming", "paid"]


def test_told_finality_decides_where_the_rail_has_it():
    order = invoice(policy=Policy(None, plus=1))
    story = Story(order, horizon=1, has_finality=True)
    story.mine(pay(order, 100, "tx"))
    story.quiet(5)
    story.finalize(1)
    assert story.states(order) == ["confirming"]
    story.finalize(2)
    assert story.tale("tx") == ["included", "confirmed", "final"]
    assert story.states(order) == ["confirming", "paid"]


def test_a_coinbase_is_not_paid_before_it_matures_whatever_the_policy_says():
    order = invoice(policy=Policy(1))
    story = Story(order)
    story.mine(pay(order, 100, "coinbase", maturity=100))
    story.quiet(98)
    assert story.states(order) == ["confirming"]
    story.quiet(1)
    assert story.states(order) == ["confirming", "paid"]


def test_one_transaction_pays_several_invoices_and_each_has_its_own_book():
    one, two = invoice("one"), invoice("two", 50)
    story = Story(one, two)
    story.mine(pay(one, 100, "batch", index="vout:0"), pay(two, 50, "batch", index="vout:1"))
    assert story.states(one) == story.states(two) == ["confirming", "paid"]
    assert {
        line.invoice_id for line in story.feed if line.via_detection and line.via_detection.tx_index == "vout:1"
    } == {two.id}


def test_several_outputs_to_one_address_add_up():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 60, "tx", index="vout:0"), pay(order, 40, "tx", index="vout:1"))
    assert story.states(order) == ["confirming", "paid"]


# Too little, too much, too late


def test_an_underpaid_invoice_that_is_topped_up_is_paid_and_made_good():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 60, "first"))
    assert story.states(order) == ["confirming", "underpaid"]
    assert story.open_cases(order) == ["underpaid"]
    story.sees(pay(order, 40, "second"))
    story.mine(pay(order, 40, "second"))
    assert story.states(order) == ["confirming", "underpaid", "confirming", "paid"]
    assert story.open_cases(order) == []
    assert story.told_cases("underpaid") == ["open", "resolved"]


def test_what_is_too_much_is_overpaid_and_stands_as_an_exception():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 101, "tx"))
    assert story.states(order) == ["confirming", "overpaid"]
    assert story.open_cases(order) == ["overpaid"]


def test_a_second_payment_to_a_paid_invoice_is_unexpected_and_overpays():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "first"))
    story.mine(pay(order, 100, "second"))
    assert story.states(order) == ["confirming", "paid", "overpaid"]
    assert story.open_cases(order) == ["overpaid", "unexpected_payment"]


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


def test_the_moment_of_confirmation_is_that_of_the_block_that_brought_it_however_many_came_at_once():
    one, many = invoice(policy=Policy(3), basis="confirmed"), invoice(policy=Policy(3), basis="confirmed")
    slow, fast = Story(one), Story(many)
    slow.mine(pay(one, 100, "tx"))
    slow.quiet(5)
    fast.span([[pay(many, 100, "tx")], *[[]] * 5])
    assert slow.found("tx").confirmed_at == fast.found("tx").confirmed_at == minute(3)


def test_where_the_rail_skips_the_due_height_the_next_block_brings_the_confirmation():
    order = invoice(policy=Policy(3), basis="confirmed")
    story = Story(order)
    first = story.mine(pay(order, 100, "tx"))
    blocks = [type(first)(height, f"gap-{height}", "", minute(height)) for height in (2, 5, 6, 9)]
    story.now = minute(9)
    story.take(blocks, {block.hash: [] for block in blocks})
    assert story.found("tx").confirmed_at == minute(5)


# Time and coverage


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


# Reorgs


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


# The mempool


def test_a_pending_transfer_that_a_rival_replaced_is_a_double_spend():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    assert story.states(order) == ["detected", "created"]
    assert story.lines(order)[-1].reason == "replaced"
    assert story.open_cases(order) == ["double_spend"]
    assert story.feed[-2].subject == "invoice"
    replaced = next(line for line in story.feed if line.to_state == "replaced")
    assert replaced.evidence == {"cursor": 0, "replaced_by": "rival"}


def test_a_fee_bump_that_still_pays_is_no_alarm():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "cheap"))
    story.sees(pay(order, 100, "dear", rivals=("cheap",)))
    assert story.tale("cheap") == ["pending", "replaced"]
    assert story.states(order)[-1] == "detected"
    assert story.told_cases("double_spend") == []
    story.mine(pay(order, 100, "dear"))
    assert story.states(order)[-1] == "paid"
    assert story.told_cases("double_spend") == []


def test_a_fee_that_is_bumped_twice_and_still_pays_is_no_alarm():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "cheap"))
    story.sees(pay(order, 100, "dear", rivals=("cheap",)))
    story.sees(pay(order, 100, "dearest", rivals=("dear",)))
    assert story.told_cases("double_spend") == []


def test_a_bump_that_is_itself_double_spent_is_an_alarm_for_both():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "cheap"))
    story.sees(pay(order, 100, "dear", rivals=("cheap",)))
    story.hears_of_rival("dear", "elsewhere")
    assert story.open_cases(order) == ["double_spend"]
    assert story.cases[order.id][0].transfers == 2


def test_transactions_that_replaced_one_another_are_an_alarm_and_no_endless_question():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "one"), pay(order, 100, "two"))
    story.hears_of_rival("one", "two")
    story.hears_of_rival("two", "one")
    assert story.open_cases(order) == ["double_spend"]
    assert story.cases[order.id][0].transfers == 2


def test_a_double_spend_is_made_good_by_another_payment():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    story.mine(pay(order, 100, "honest"))
    assert story.open_cases(order) == []


def test_a_dropped_transfer_that_is_back_is_the_same_detection():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.drops("tx")
    story.sees(pay(order, 100, "tx"))
    story.drops("tx")
    story.mine(pay(order, 100, "tx"))
    assert story.tale("tx") == ["pending", "dropped", "pending", "dropped", "included", "confirmed"]
    assert [line.reason for line in story.lines(order)][:3] == ["seen", "dropped", "seen"]
    assert len(story.detections[order.id]) == 1
    assert story.cases[order.id] == []


def test_a_replaced_transfer_that_is_mined_after_all_counts():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    story.mine(pay(order, 100, "tx"))
    assert story.states(order)[-1] == "paid"
    assert story.found("tx").replaced_by is None


def test_a_dropped_transfer_may_turn_out_to_have_been_replaced():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.drops("tx")
    story.hears_of_rival("tx", "rival")
    assert story.tale("tx") == ["pending", "dropped", "replaced"]
    assert story.open_cases(order) == ["double_spend"]


def test_the_same_news_twice_is_told_once():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    story.hears_of_rival("tx", "rival")
    story.mine(pay(order, 100, "tx"))
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    story.take([], {})
    assert story.tale("tx") == ["pending", "replaced", "included", "confirmed"]


def test_a_transfer_in_a_block_is_found_once_also_when_it_is_looked_back_for():
    order = invoice()
    story = Story(order)
    block = story.mine(pay(order, 100, "tx"))
    told = list(story.feed)
    story._write(story._gather(story._inside([block])), ())
    assert story.feed == told


# What is no payment


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


def test_payments_at_two_destinations_are_mixed():
    order = invoice("order", 100, destination(), destination(expected=500, asset=TOKEN))
    story = Story(order)
    story.mine(pay(order, 60, "coin"), pay(order.destinations[1], 200, "token"))
    assert story.states(order) == ["confirming", "underpaid"]
    assert story.open_cases(order) == ["mixed_destinations", "underpaid"]


# Held by a person


def test_a_held_invoice_is_flagged_and_goes_on_from_the_facts_when_released():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    order.held = "sanctions"
    story.mine()
    assert story.states(order)[-1] == "flagged"
    assert story.lines(order)[-1].reason == "held"
    order.held = None
    story.mine()
    assert story.states(order)[-1] == "paid"


# History: spans that were final before they were read


def test_history_tells_final_in_one_line_while_the_invoice_still_passes_confirming():
    order = invoice(policy=Policy(2))
    story = Story(order, horizon=3)
    story.span([[pay(order, 100, "tx")], [], [], []], history=True)
    assert story.tale("tx") == ["final"]
    assert story.states(order) == ["confirming", "paid"]


def test_history_is_told_in_full_to_whoever_had_heard_of_the_transfer():
    order = invoice()
    story = Story(order, horizon=3)
    story.sees(pay(order, 100, "tx"))
    story.span([[pay(order, 100, "tx")], [], [], []], history=True)
    assert story.tale("tx") == ["pending", "included", "confirmed", "final"]


@pytest.mark.parametrize("policy", [Policy(5), Policy(9)])
def test_history_whose_policy_or_finality_is_not_met_yet_is_told_step_by_step(policy):
    order = invoice(policy=policy)
    story = Story(order, horizon=6)
    story.span([[pay(order, 100, "tx")], [], [], [], []], history=True)
    assert story.tale("tx")[0] == "included"
    story.quiet(4)
    assert story.tale("tx") == ["included", "confirmed", "final"]


def test_a_mempool_transfer_is_never_history():
    order = invoice()
    story = Story(order)
    story._save(story._books([order.id]), lambda books, moment: _sight(story, books, moment, order), (), history=True)
    assert story.tale("tx") == ["pending"]


def _sight(story, books, moment, order):
    apply_step(books, story._gather([pay(order, 100, "tx")]), moment)


# Exceptions


def test_what_comes_again_opens_a_new_round():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    assert [(record.kind, record.occurrence, record.resolution) for record in story.cases[order.id]] == [
        ("reversed", 1, "made good"),
        ("reversed", 2, None),
    ]
    assert len({record.id for record in story.cases[order.id]}) == 2


def test_what_a_person_resolved_stays_resolved_while_the_facts_stand():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 60, "tx"))
    story.resolve(order, "underpaid")
    story.quiet(3)
    story.passes(5)
    assert story.open_cases(order) == []
    assert story.told_cases("underpaid") == ["open"]
    assert [record.resolution for record in story.cases[order.id]] == ["refunded by hand"]


# Ids


def a_long_story(order):
    story = Story(order, horizon=8)
    story.sees(pay(order, 60, "one"))
    story.drops("one")
    story.sees(pay(order, 60, "one"))
    story.drops("one")
    story.mine(pay(order, 60, "one"))
    story.mine(pay(order, 60, "two"))
    story.reorg(2, [pay(order, 60, "two")], [], [pay(order, 60, "one")])
    story.reorg(1, [], [Transfer("rival", "", NO_RECIPIENT, COIN, 0, None, rivals=("one",))])
    story.mine(pay(order, 40, "three"), pay(order, 1, "four", asset=TOKEN))
    story.quiet(9)
    return story


def test_event_ids_are_the_same_on_every_replay():
    order = invoice(policy=Policy(2))
    first = a_long_story(deepcopy(order))
    again = a_long_story(deepcopy(order))
    assert first.feed == again.feed


def test_event_ids_are_unique_within_a_run():
    story = a_long_story(invoice(policy=Policy(2)))
    ids = [line.event_id for line in story.feed]
    assert len(ids) > 20
    assert len(set(ids)) == len(ids)


# What a transfer waits for


def test_the_next_due_height_is_that_of_the_policy_then_that_of_finality_then_none():
    order = invoice(policy=Policy(2))
    story = Story(order, horizon=5)
    policies = {order.destinations[0].id: order.destinations[0].policy}
    story.sees(pay(order, 100, "tx"))
    assert next_threshold(story.found("tx"), policies, 5, False) is None
    story.mine(pay(order, 100, "tx"))
    assert next_threshold(story.found("tx"), policies, 5, False) == Threshold("depth", 2)
    story.mine()
    assert next_threshold(story.found("tx"), policies, 5, False) is None, "it waits for its second look"
    assert second_look_threshold(story.found("tx"), policies, 5, False) == Threshold("depth", 5)
    story.found("tx").second_look, story.found("tx").looked_at_block = "verified", story.found("tx").block_hash
    assert second_look_threshold(story.found("tx"), policies, 5, False) is None
    assert next_threshold(story.found("tx"), policies, 5, False) == Threshold("depth", 5)
    assert next_threshold(story.found("tx"), policies, 5, True) == Threshold("finalized", 1)
    story.quiet(3)
    assert next_threshold(story.found("tx"), policies, 5, False) is None


def test_what_is_no_payment_waits_for_no_policy():
    order = invoice(policy=Policy(None, 50))
    story = Story(order)
    story.mine(pay(order, 100, "tx", asset=TOKEN))
    policies = {order.destinations[0].id: order.destinations[0].policy}
    assert confirmation_threshold(story.found("tx"), policies) == Threshold("depth", 1)


# Defects are loud


def test_a_final_transfer_cannot_be_orphaned():
    order = invoice()
    story = Story(order, horizon=2)
    story.mine(pay(order, 100, "tx"))
    story.quiet(3)
    aggregates = story._books([order.id])
    with pytest.raises(IllegalMove, match="from final to orphaned"):
        apply_step(aggregates, {order.id: InvoiceUpdate(orphaned=[story.found("tx").id])}, story.moment())


@pytest.mark.parametrize("said", ["verified", "unverified"])
def test_nothing_is_final_before_it_was_read_a_second_time(said):
    order = invoice()
    story = Story(order, horizon=4)
    story.looks = False
    story.mine(pay(order, 100, "tx"))
    story.quiet(6)
    assert story.tale("tx") == ["included", "confirmed"]
    story.look_again(said)
    story.quiet(1)
    assert story.tale("tx") == ["included", "confirmed", "final"]


def test_what_a_second_look_contradicts_is_an_exception_and_stays_as_it_is():
    order = invoice()
    story = Story(order, horizon=4)
    story.looks = False
    story.mine(pay(order, 100, "tx"))
    story.quiet(3)
    story.look_again("mismatch")
    story.looks = True
    story.quiet(5)
    assert story.tale("tx") == ["included", "confirmed"]
    assert story.open_cases(order) == ["content_mismatch"]
    policies = {order.destinations[0].id: order.destinations[0].policy}
    assert next_threshold(story.found("tx"), policies, 4, False) is None, "so no step loads it again and again"
    # In another block it is another reading.
    story.reorg(9, [pay(order, 100, "tx")])
    story.quiet(12)
    assert story.tale("tx")[-1] == "final"
    assert story.open_cases(order) == []


def test_what_is_contradicted_before_its_policy_is_met_is_not_confirmed():
    order = invoice(policy=Policy(None))
    story = Story(order, has_finality=True)
    story.looks = False
    story.mine(pay(order, 100, "tx"))
    story.finalized = 1
    story.look_again("mismatch")
    story.quiet(3)
    assert story.states(order) == ["confirming"]
    assert story.open_cases(order) == ["content_mismatch"]


def test_a_payment_in_time_is_expected_though_its_window_was_told_to_be_over():
    order = invoice(expires=5)
    story = Story(order)
    story.passes(6)
    assert story.states(order) == ["expired"]
    story.now -= timedelta(minutes=3)  # the block that comes now is stamped with a time within the window
    story.mine(pay(order, 100, "tx"))
    assert story.states(order)[-1] == "paid"
    assert story.open_cases(order) == []


def test_a_window_that_blocks_decide_stays_open_for_the_margin():
    order = invoice("order", 100, destination(delay_limits=DelayLimits(margin=timedelta(minutes=10))), expires=5)
    story = Story(order)
    story.passes(14)
    assert story.states(order) == []
    story.passes(1)
    assert story.states(order) == ["expired"]


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

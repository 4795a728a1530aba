"""The way of one invoice from nothing to paid, and what the feed then says."""

from copy import deepcopy

from railwatch.core.policy import Policy
from railwatch.rail.types import NO_RECIPIENT, Transfer
from tests.core.builders import COIN, RAIL, TOKEN, invoice, minute, pay
from tests.core.story import Story


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


# Too little, too much


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

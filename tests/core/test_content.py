"""What a transaction pays may depend on the block that it is in; what an invoice received is kept as sums."""

from dataclasses import replace
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.core.ids import EVENT_NAMESPACE, derived_id
from railwatch.core.model import Invoice, Refunded
from railwatch.core.states import DetectionState, InvoiceState, Kind
from railwatch.core.tally import added, totals, without
from tests.core.builders import COIN, TOKEN, destination, invoice, minute, pay
from tests.core.manual_ops_model import refund
from tests.core.model_settings import model_settings
from tests.core.story import Story


def test_another_amount_in_another_block_is_taken_over_and_told():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx", maturity=1))
    assert order.state is InvoiceState.PAID
    story.reorg(1, [pay(order, 60, "tx", maturity=4, spends=("coin",))], [])
    found = story.found("tx")
    assert (found.amount, found.maturity, found.spends) == (60, 4, ("coin",))
    assert order.state is InvoiceState.CONFIRMING
    included = [line for line in story.feed if line.subject == "detection" and line.to_state == "included"]
    assert included[-1].evidence == {"observation": found.version, "amount": "60", "amount_was": "100"}
    assert "amount" not in included[0].evidence
    story.quiet(2)
    assert order.state is InvoiceState.UNDERPAID


def test_an_inclusion_that_is_seen_in_another_block_without_a_reorg_is_taken_back_first():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.mine(pay(order, 100, "tx"))
    assert story.tale("tx") == ["included", "confirmed", "orphaned", "included", "confirmed"]
    assert story.states(order)[-1] == "paid"
    assert story.found("tx").block_hash == story.blocks[-1].hash


@pytest.mark.parametrize("back", [False, True])
def test_the_block_that_holds_a_payment_decides_whether_it_is_older_than_its_invoice(back):
    old, new = [minute(-30), minute(5)][:: -1 if back else 1]
    order, kinds = invoice(), [Kind.UNEXPECTED, Kind.PAYMENT][:: -1 if back else 1]
    story = Story(order)
    story.now = old
    story.mine(pay(order, 100, "tx"))
    assert story.found("tx").kind is kinds[0]
    story.now = new
    story.reorg(1, [pay(order, 100, "tx")], [])
    assert story.found("tx").kind is kinds[1]
    assert order.state is (InvoiceState.CREATED if back else InvoiceState.PAID)
    assert story.open_cases(order) == (["reversed", "unexpected_payment"] if back else [])
    included = [line for line in story.feed if line.subject == "detection" and line.to_state == "included"]
    assert (included[-1].evidence["kind"], included[-1].evidence["kind_was"]) == (kinds[1], kinds[0])


def test_what_was_seen_waiting_first_is_never_older_than_its_invoice():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now = minute(-30)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1, [pay(order, 100, "tx")], [])
    assert story.found("tx").kind is Kind.PAYMENT
    assert order.state is InvoiceState.PAID


@pytest.mark.parametrize("state", [InvoiceState.CANCELLED, InvoiceState.REFUNDED])
def test_a_block_of_another_time_makes_no_money_expected_that_nobody_waits_for(state):
    order = invoice(state=state)
    story = Story(order)
    story.now = minute(-30)
    story.mine(pay(order, 100, "tx"))
    story.now = minute(5)
    story.reorg(1, [pay(order, 100, "tx")], [])
    assert story.found("tx").kind is Kind.UNEXPECTED


def test_what_another_block_shows_of_another_kind_stays_of_that_kind():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx", asset=TOKEN))
    story.reorg(1, [pay(order, 100, "tx", asset=TOKEN)], [])
    assert story.found("tx").kind is Kind.WRONG_ASSET


def test_first_sight_in_a_block_is_that_of_the_earliest_block_and_first_sight_while_it_waits_is_ours():
    one, two = invoice("one", expires=10), invoice("two", expires=10)
    story = Story(one, two)
    story.now = minute(11)
    story.sees(pay(two, 100, "seen"))
    story.mine(pay(one, 100, "late"), pay(two, 100, "seen"))
    assert (one.state, two.state) == (InvoiceState.LATE_PAID, InvoiceState.LATE_PAID)
    story.now = minute(5)
    story.reorg(1, [pay(one, 100, "late"), pay(two, 100, "seen")], [])
    assert (one.state, two.state) == (InvoiceState.PAID, InvoiceState.LATE_PAID)
    story.now = minute(20)
    story.reorg(2, [pay(one, 100, "late"), pay(two, 100, "seen")], [], [])
    assert (one.state, two.state) == (InvoiceState.PAID, InvoiceState.LATE_PAID)


def test_what_the_transaction_paid_before_is_replaced_by_itself():
    one, two = invoice("one"), invoice("two")
    story = Story(one, two)
    story.mine(pay(one, 100, "tx"))
    story.reorg(1, [pay(two, 100, "tx")], [])
    assert (one.state, two.state) == (InvoiceState.CREATED, InvoiceState.PAID)
    assert story.tale("tx")[:4] == ["included", "confirmed", "orphaned", "replaced"]
    assert story.open_cases(one) == ["double_spend", "reversed"]


def test_a_transfer_that_is_too_small_is_counted_and_moves_nothing():
    order = invoice()
    story = Story(order, least={order.destinations[0].asset: 50})
    story.mine(pay(order, 49, "small"), pay(order, 40, "small", index="vout:1"))
    assert order.state is InvoiceState.CREATED
    assert story.small == [(2, 89)]
    assert story.feed == []
    story.mine(pay(order, 100, "tx"))
    assert order.state is InvoiceState.PAID


def test_a_blind_rail_tells_what_it_sees_and_confirms_nothing():
    order = invoice()
    story = Story(order)
    story.blind = True
    story.mine(pay(order, 100, "tx"))
    story.quiet(3)
    assert order.state is InvoiceState.CONFIRMING
    story.blind = False
    story.quiet(1)
    assert order.state is InvoiceState.PAID


def test_what_was_given_back_before_the_order_was_settled_is_owed_again():
    assert Refunded(100, surplus=30, waived=20).owed_again == 50


@given(st.lists(st.tuples(st.sampled_from([40, 60]), st.sampled_from(list(DetectionState)), st.booleans()), max_size=8))
@model_settings(100)
def test_the_sums_of_some_and_of_the_others_are_the_sums_of_all(facts):
    order = invoice("order", 100, destination())
    story = Story(order)
    story.mine(pay(order, 1, "tx"))
    first = story.found("tx")
    known = [
        replace(first, id=derived_id(str(place)), amount=amount, state=state, in_time=in_time)
        for place, (amount, state, in_time) in enumerate(facts)
    ]
    tallies = added(totals(known))
    for cut in range(len(known) + 1):
        assert added(totals(known[:cut], without(tallies, known[:cut]))) == tallies
    assert without(tallies, known) == {}


@given(st.text())
@model_settings(100)
def test_a_derived_id_is_the_uuid_of_its_name(name):
    assert derived_id(name) == uuid5(EVENT_NAMESPACE, name)


def test_what_a_step_does_not_touch_still_counts():
    order = invoice()
    story = Story(order, lazy=True)
    story.mine(pay(order, 60, "first"))
    assert order.state is InvoiceState.UNDERPAID
    story.mine(pay(order, 40, "second"))
    assert order.state is InvoiceState.PAID


# Settled means that the merchant has it (HAZARDS I14)


def paid(*amounts: int, **terms: object) -> tuple[Story, Invoice]:
    """A story in which an order for 100 received ``amounts``, each in a block of its own."""
    order = invoice(**terms)  # type: ignore[arg-type]
    story = Story(order)
    for place, amount in enumerate(amounts):
        story.mine(pay(order, amount, f"tx{place}"))
    return story, order


def test_after_a_refund_of_the_surplus_a_payment_that_a_reorg_takes_leaves_too_little():
    story, order = paid(100, 100)
    refund(story, order, amount=100)
    assert order.state is InvoiceState.OVERPAID
    story.reorg(1, [], [])
    assert order.state is InvoiceState.UNDERPAID
    assert (story.lines(order)[-1].reason, story.open_cases(order)) == ("reversed", ["reversed", "underpaid"])
    story.mine(pay(order, 100, "tx1"))
    assert order.state is InvoiceState.OVERPAID
    assert "reversed" not in story.open_cases(order)


def test_what_was_given_back_before_the_order_was_settled_is_asked_for_again():
    story, order = paid(60)
    refund(story, order, amount=50)
    story.mine(pay(order, 40, "more"))
    assert order.state is InvoiceState.UNDERPAID
    story.mine(pay(order, 50, "rest"))
    assert order.state is InvoiceState.PAID


def paid_twice() -> tuple[Story, Invoice]:
    """An order for 100 in either of two assets, which was paid in the first one and then in the other too."""
    order = invoice("order", 100, destination(), destination(asset=TOKEN))
    story = Story(order)
    for place, way in enumerate(order.destinations):
        story.mine(pay(way, 100, f"tx{place}"))
    return story, order


@pytest.mark.parametrize("parts", [(100,), (40, 60)])
def test_settled_means_the_merchant_has_it_what_came_twice_in_another_asset_is_given_back(parts: tuple[int, ...]):
    """Given back is what came twice, and no choice: a reorg that takes the other payment leaves nothing."""
    story, order = paid_twice()
    for amount in parts:
        assert refund(story, order, COIN, amount)
    story.quiet(1)
    assert order.state is InvoiceState.PAID
    story.reorg(2, [], [])
    assert order.state not in (InvoiceState.PAID, InvoiceState.OVERPAID)
    assert "reversed" in story.open_cases(order)


def test_settled_means_the_merchant_has_it_also_where_a_part_was_given_back_by_choice_before_it_came_twice():
    order = invoice("order", 100, destination(), destination(asset=TOKEN))
    story = Story(order)
    story.mine(pay(order, 100, "tx0"))
    refund(story, order, COIN, 40)
    story.mine(pay(order.destinations[1], 100, "tx1"))
    refund(story, order, COIN, 60)
    assert order.state is InvoiceState.PAID
    story.reorg(1, [], [])
    assert order.state is not InvoiceState.PAID
    assert "reversed" in story.open_cases(order)


def test_what_is_given_back_by_choice_is_compared_with_the_way_that_was_paid_and_not_with_a_cheaper_one():
    order = invoice("order", 100, destination(), destination("cheap", 50))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    refund(story, order, COIN, 30)
    story.quiet(1)
    assert (order.state, story.open_cases(order)) == (InvoiceState.PAID, [])


def test_what_is_given_back_of_a_settled_order_by_choice_is_not_asked_for_again():
    story, order = paid(100)
    refund(story, order, amount=30)
    story.quiet(1)
    assert order.state is InvoiceState.PAID
    story.reorg(2, [], [], [])
    assert order.state is InvoiceState.CREATED
    story.mine(pay(order, 100, "tx0"))
    assert order.state is InvoiceState.PAID


def test_what_is_given_back_by_choice_is_compared_with_the_way_that_was_paid_in_time_and_not_with_one_paid_late():
    order = invoice("order", 100, destination(), destination("cheap", 50), expires=30)
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.quiet(1)
    story.passes(120)
    story.mine(pay(order.destinations[1], 50, "late"))
    story.quiet(2)
    assert (order.state, story.open_cases(order)) == (
        InvoiceState.PAID,
        ["late", "mixed_destinations", "unexpected_payment"],
    )
    refund(story, order, COIN, 100)
    story.quiet(1)
    assert order.state is InvoiceState.PAID, order.refunded

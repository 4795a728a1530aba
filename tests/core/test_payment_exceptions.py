"""Exceptions: each opens and closes by rule, and a person's word is about one occurrence and no other."""

from railwatch.core.states import InvoiceState
from tests.core.builders import TOKEN, destination, invoice, minute, pay
from tests.core.story import Story

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
    assert (first.resolution, first.ended, first.occurrence) == ("refunded by hand", True, 1)
    assert (second.resolution, second.ended, second.occurrence) == (None, False, 2)


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
        "transfers": 1,
        "sum": "1",
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


def test_payments_at_two_destinations_are_mixed():
    order = invoice("order", 100, destination(), destination(expected=500, asset=TOKEN))
    story = Story(order)
    story.mine(pay(order, 60, "coin"), pay(order.destinations[1], 200, "token"))
    assert story.states(order) == ["confirming", "underpaid"]
    assert story.open_cases(order) == ["mixed_destinations", "underpaid"]

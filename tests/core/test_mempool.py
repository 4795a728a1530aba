"""The mempool: transfers that are replaced, dropped, and seen again."""

from tests.core.builders import invoice, pay
from tests.core.story import Story


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

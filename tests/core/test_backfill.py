"""History: spans that were final before they were read."""

import pytest

from railwatch.core.policy import Policy
from railwatch.core.step import apply_step
from tests.core.builders import invoice, pay
from tests.core.story import Story


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

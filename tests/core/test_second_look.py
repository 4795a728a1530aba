"""The second look: what it verifies, what it contradicts, and a person's verdict on that."""

from dataclasses import replace

import pytest

from railwatch.core.policy import Policy
from railwatch.core.states import DetectionState, InvoiceState
from railwatch.core.thresholds import next_threshold
from tests.core.builders import destination, invoice, pay
from tests.core.story import Story


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


# A person's verdict on what it contradicted


@pytest.mark.parametrize("policy", [Policy(2), Policy(None)])
@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_a_verdict_makes_a_contradicted_payment_final_or_drops_it(policy, verdict):
    order = invoice("order", 100, policy=policy)
    story = Story(order, has_finality=True)
    story.looks = False
    block = story.mine(pay(order, 100, "tx"))
    story.quiet(3)
    story.finalized = block.height
    story.look_again("mismatch")
    story.quiet(1)
    assert "content_mismatch" in story.open_cases(order)
    found = story.found("tx")
    assert found.state is not DetectionState.FINAL
    story.resolve(order, "content_mismatch")
    found.second_look = verdict
    story.quiet(1)
    if verdict == "accepted":
        assert (found.state, order.state) == (DetectionState.FINAL, InvoiceState.PAID)
        assert story.open_cases(order) == []
        return
    assert (found.state, order.state) == (DetectionState.DROPPED, InvoiceState.CREATED)
    line = next(line for line in reversed(story.feed) if line.subject == "detection")
    assert (line.to_state, line.reason, line.cause) == ("dropped", "rejected", "operator")
    again = pay(order, 100, "tx")
    story._write(story._gather([replace(again, block=block)]), ())
    assert found.state is DetectionState.DROPPED
    story.mine(again)
    assert found.state is DetectionState.INCLUDED


def test_a_verdict_is_about_its_own_rail():
    order = invoice("order", 100, destination(), destination(rail="elsewhere"))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    found = story.found("tx")
    found.second_look, found.looked_at_block = "rejected", found.block_hash
    story.rail = "elsewhere"
    story.quiet(1)
    assert found.state is not DetectionState.DROPPED

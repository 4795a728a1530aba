"""What a transfer waits for: the height of its policy, of its second look, and of finality."""

from railwatch.core.policy import Policy, Threshold
from railwatch.core.thresholds import confirmation_threshold, next_threshold, second_look_threshold
from tests.core.builders import TOKEN, invoice, minute, pay
from tests.core.story import Story


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

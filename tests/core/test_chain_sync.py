"""What to do next on a chain: nothing, ask, go back, or go on."""

from datetime import UTC, datetime
from math import log2

import pytest

from railwatch.core.chain_sync import DeepReorg, Idle, Limits, NodeView, Probe, Rewind, Scan, final_height, next_step
from railwatch.core.policy import Policy, Progress, finality_threshold
from railwatch.rail.types import BlockRef, Heads, Span
from tests.core.chains import Chain, chain, plan

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)

# Level with the node, or ahead of it


def test_at_the_nodes_head_there_is_nothing_to_do():
    node = chain(5)
    assert plan(node.head, node.these(0), node) == (Idle(), [])


def test_a_lower_head_on_our_own_chain_is_lag():
    ours = chain(9)
    assert plan(ours.head, ours.these(0, 4), chain(7)) == (Idle(lagging=True), [4])


def test_a_lower_head_that_is_a_checkpoint_needs_no_question():
    ours = chain(9)
    assert plan(ours.head, ours.these(0, 7), chain(7)) == (Idle(lagging=True), [])


def test_a_head_below_the_anchor_is_lag_whatever_it_is():
    ours = chain(9)
    assert plan(ours.head, ours.these(5), Chain(name="z").grow(1, 2)) == (Idle(lagging=True), [])


def test_a_lower_head_on_another_branch_is_a_reorg_once_a_checkpoint_fell():
    ours = chain(9)
    node = ours.fork(4, 5, 6, 7)
    step, _ = plan(ours.head, ours.these(0, 4, 6), node)
    assert step == Rewind(ours.at(4), Span(ours.at(4), node.head))


def test_another_block_at_the_cursors_height_is_a_reorg():
    ours = chain(9)
    node = ours.fork(8, 9)
    assert plan(ours.head, ours.these(0, 8), node) == (Rewind(ours.at(8), Span(ours.at(8), node.head)), [8])


def test_a_lower_head_on_another_branch_above_the_last_checkpoint_waits_as_lag():
    # Nothing was found above block 4, so nothing can be wrong until the branch outgrows the cursor.
    ours = chain(9)
    assert plan(ours.head, ours.these(0, 4), ours.fork(5, 6, 7))[0] == Idle(lagging=True)


# Going on


def test_a_head_that_names_the_cursor_as_parent_is_taken_at_once():
    node = chain(6)
    assert plan(node.at(5), node.these(0), node) == (Scan(Span(node.at(5), node.head)), [])


def test_a_child_of_the_cursor_is_taken_also_in_doubt():
    node = chain(6)
    assert plan(node.at(5), node.these(0), node, doubt=True) == (Scan(Span(node.at(5), node.head)), [])


def test_a_head_a_few_blocks_on_is_reached_in_one_span_without_a_question():
    node = chain(9)
    assert plan(node.at(5), node.these(0), node) == (Scan(Span(node.at(5), node.head)), [])


def test_in_doubt_the_cursor_is_asked_for_before_anything_is_built_on_it():
    node = chain(9)
    assert next_step(node.at(5), node.these(0), NodeView(node.heads(), verify_cursor=True), Limits(100, 1000)) == Probe(
        5
    )
    assert plan(node.at(5), node.these(0), node, doubt=True) == (Scan(Span(node.at(5), node.head)), [5])


def test_in_doubt_a_cursor_that_fell_leads_to_the_fork():
    ours = chain(9)
    node = ours.fork(7, 8, 9, 10, 11)
    step, probes = plan(ours.head, ours.these(0, 7, 8), node, doubt=True)
    assert step == Rewind(ours.at(7), Span(ours.at(7), node.head))
    assert probes == [9, 8, 0, 7]


def test_a_span_is_no_longer_than_the_rail_allows():
    node = chain(50)
    assert plan(node.at(5), node.these(0), node, span_max=10) == (Scan(Span(node.at(5), node.at(15))), [15])


def test_spans_up_to_finality_are_settled_and_end_there():
    node = chain(50)
    step, probes = plan(node.at(5), node.these(0), node, finalized=30)
    assert step == Scan(Span(node.at(5), node.at(30), finalized=True))
    assert probes == []


def test_spans_above_finality_are_not_settled():
    node = chain(50)
    assert plan(node.at(30), node.these(0), node, finalized=30)[0] == Scan(Span(node.at(30), node.head))


def test_without_told_finality_the_horizon_says_what_is_settled():
    node = chain(50)
    assert plan(node.at(5), node.these(0), node, horizon=10)[0] == Scan(Span(node.at(5), node.at(41), finalized=True))


def test_a_chain_shorter_than_the_horizon_has_nothing_settled():
    assert final_height(chain(3).heads(), horizon=100) == -1


def test_told_finality_is_believed():
    assert final_height(chain(50).heads(finalized=20), horizon=1) == 20


@pytest.mark.parametrize("horizon", [1, 2, 6, 100])
def test_what_the_ledger_calls_final_is_what_the_chain_calls_settled(horizon):
    # Otherwise a reorg could pass the anchor's test and still take a final transfer away.
    head = chain(150).head
    settled = final_height(Heads(head), horizon)
    for height in range(1, 151):
        due = finality_threshold(Policy(1).threshold(height), height, horizon, has_finality=False)
        assert Progress(cursor=head.height, finalized=-1).has_reached(due) == (height <= settled)


# Skipped heights


def test_a_span_ends_at_the_nearest_block_below_a_skipped_height():
    node = Chain().grow(0, 1, 2, 3, 4, 8, 9, 20)
    assert plan(node.at(2), node.these(0), node, span_max=10) == (Scan(Span(node.at(2), node.at(9))), [12])


def test_a_gap_longer_than_a_span_is_passed():
    node = Chain().grow(0, 1, 2, 60, 61, 62)
    step, probes = plan(node.at(2), node.these(0), node, span_max=10)
    assert step == Scan(Span(node.at(2), node.at(62)))
    assert probes == [12, 22, 32, 42, 52]


def test_a_gap_that_ends_at_a_lone_head_is_passed():
    node = Chain().grow(0, 1, 2, 40)
    assert plan(node.at(1), node.these(0), node, span_max=10)[0] == Scan(Span(node.at(1), node.at(2)))
    assert plan(node.at(2), node.these(0), node, span_max=10)[0] == Scan(Span(node.at(2), node.head))


def test_a_gap_up_to_finality_leads_on_above_it_and_still_in_spans():
    node = Chain().grow(0, 1, 2, *range(30, 60))
    step, probes = plan(node.at(2), node.these(0), node, span_max=10, horizon=40)
    assert step == Scan(Span(node.at(2), node.at(30)))
    assert probes == [12, 20, 30]


def test_a_checkpoint_at_a_height_that_the_branch_skips_has_fallen():
    ours = chain(9)
    node = ours.fork(5, 7, 10, 11)
    step, _ = plan(ours.head, ours.these(0, 5, 6, 8), node, doubt=True)
    assert step == Rewind(ours.at(5), Span(ours.at(5), node.head))


# The fork point


def test_the_fork_is_sought_at_1_2_4_checkpoints_back_and_then_by_halving():
    ours = chain(100)
    node = ours.fork(80, *range(81, 103))
    step, probes = plan(ours.head, ours.these(*range(100)), node, doubt=True)
    assert step == Rewind(ours.at(80), Span(ours.at(80), node.head))
    assert probes == [100, 99, 97, 93, 85, 69, 77, 81, 79, 80]


@pytest.mark.parametrize("depth", [1, 2, 3, 30, 700, 1_500, 2_999])
def test_the_number_of_questions_grows_with_the_logarithm_of_the_depth(depth):
    ours = chain(3_000)
    node = ours.fork(3_000 - depth, *range(3_001 - depth, 3_002))
    step, probes = plan(ours.head, ours.these(*range(3_000)), node, doubt=True, span_max=10_000)
    assert isinstance(step, Rewind)
    assert step.fork.height == 3_000 - depth
    assert len(probes) <= 2 * log2(depth) + 4


def test_between_sparse_checkpoints_the_highest_that_stands_is_the_fork():
    ours = chain(100)
    node = ours.fork(57, *range(58, 103))
    step, _ = plan(ours.head, ours.these(0, 16, 32, 48, 64, 80, 96), node, doubt=True)
    assert step == Rewind(ours.at(48), Span(ours.at(48), node.head))


def test_a_branch_longer_than_a_span_is_begun_with_one_span():
    ours = chain(20)
    node = ours.fork(10, *range(11, 60))
    step, _ = plan(ours.head, ours.these(0, 10), node, doubt=True, span_max=15)
    assert step == Rewind(ours.at(10), Span(ours.at(10), node.at(25)))


def test_a_branch_that_begins_with_a_gap_longer_than_a_span_still_has_a_block_to_take():
    ours = chain(12)
    node = ours.fork(10, 40, 41)
    step, _ = plan(ours.head, ours.these(0, 10), node, doubt=True, span_max=5)
    assert step == Rewind(ours.at(10), Span(ours.at(10), node.at(40)))


# Deeper than we can undo


def test_a_chain_without_the_anchor_is_a_deep_reorg_and_says_so_by_name():
    ours = chain(20)
    node = ours.fork(3, *range(4, 30))
    with pytest.raises(DeepReorg, match=r"DeepReorg.*head 29 b29.*block 5 a5") as raised:
        plan(ours.head, ours.these(5, 10, 15), node, doubt=True)
    assert (raised.value.oldest, raised.value.latest) == (ours.at(5), node.head)


def test_a_fork_right_at_the_anchor_is_still_undone():
    ours = chain(20)
    node = ours.fork(5, *range(6, 30))
    assert plan(ours.head, ours.these(5, 10, 15), node, doubt=True)[0] == Rewind(
        ours.at(5), Span(ours.at(5), node.head)
    )


def test_without_checkpoints_the_cursor_is_its_own_anchor():
    ours = chain(5)
    assert plan(ours.head, [], chain(9), doubt=True)[0] == Scan(Span(ours.head, chain(9).head))
    with pytest.raises(DeepReorg):
        plan(ours.head, [], ours.fork(4, 5, 6, 7), doubt=True)
    with pytest.raises(DeepReorg):
        plan(ours.head, [], ours.fork(4, 5))


def test_without_checkpoints_a_lower_head_is_lag():
    assert plan(chain(5).head, [], chain(3)) == (Idle(lagging=True), [])


def test_a_new_branch_is_taken_whole_however_short_the_steps_are() -> None:
    """Else a payment far up the branch would be told as reversed by one step and as back by the next."""
    old = [BlockRef(height, f"a{height}", f"a{height - 1}", EPOCH) for height in range(11)]
    head = BlockRef(30, "b30", "b29", EPOCH)
    view = NodeView(Heads(head), {10: BlockRef(10, "b10", "b9", EPOCH), 5: old[5]}, verify_cursor=True)
    step = next_step(old[10], [old[5]], view, Limits(span_max=4, horizon=100, branch_max=1_000))
    assert step == Rewind(old[5], Span(old[5], head))

"""What a follower remembers of its chain, over any course of steps, reorgs and look-backs."""

from collections.abc import Collection
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.core.sync_state import SyncState
from railwatch.rail import BlockRef, Heads

HORIZON = 6


def block(height: int, branch: int = 0) -> BlockRef:
    return BlockRef(height, f"{branch}/{height}", f"{branch}/{height - 1}", datetime(2026, 1, 1, tzinfo=UTC))


def heads(finalized: BlockRef | None) -> Heads:
    return Heads(latest=block(100), finalized=finalized)


moves: st.SearchStrategy[list[tuple[str, int, int, Collection[int]]]] = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 9), st.integers(0, 9), st.sets(st.integers(0, 8))),
        st.tuples(st.just("rewind"), st.integers(0, 20), st.integers(0, 3), st.just(frozenset())),
        st.tuples(st.just("admit"), st.integers(0, 12), st.integers(0, 12), st.sets(st.integers(0, 12))),
    ),
    max_size=40,
)


@given(moves, st.booleans())
def test_over_any_course_the_checkpoints_ascend_have_a_bound_and_begin_with_the_anchor(
    course: list[tuple[str, int, int, set[int]]], has_finality: bool
) -> None:
    state = SyncState().advance(block(10), block(10) if has_finality else None, [block(10)], HORIZON)
    anchors = [state.anchor.height]
    for kind, first, second, offsets in course:
        rewinds, branch = state.rewinds, state.rewinds
        if kind == "advance":
            before = state.head.height
            cursor = block(before + first, branch)
            finalized = state.finality(cursor, heads(block(before - second))) if has_finality else None
            kept = [block(before + 1 + offset, branch) for offset in sorted(offsets) if offset < first]
            state = state.advance(cursor, finalized, kept, HORIZON)
        elif kind == "rewind":
            known = state.reorg_points or (state.head,)
            fork = known[first % len(known)]
            assert all(each.height > fork.height for each in state.orphaned_by(fork))
            state = state.rewind(fork)
            assert (state.rewinds, state.head) == (rewinds + 1, fork)
            upto = block(fork.height + second, branch + 1) if second else fork
            state = state.advance(upto, state.finalized, [], HORIZON)
        else:
            lowest = state.anchor.height
            found = [block(lowest + 1 + offset, branch) for offset in sorted(offsets)]
            state = state.admit(found, above=lowest + 1 + first if second > 6 else None)
        heights = [point.height for point in state.checkpoints]
        assert heights == sorted(set(heights))
        assert all(height <= state.head.height for height in heights)
        assert state.reorg_points[:1] in ((), (state.anchor,))
        if has_finality:
            assert state.anchor == state.finalized
        else:
            assert len(state.prune(HORIZON).checkpoints) <= HORIZON
            assert state.anchor in (*state.checkpoints, state.head)
        anchors.append(state.anchor.height)
    assert anchors == sorted(anchors), "a reorg or a look-back never lowers what no reorg may pass"


def test_a_rail_without_a_past_has_no_cursor() -> None:
    with pytest.raises(RuntimeError, match="the rail has not begun"):
        _ = SyncState().anchor


def test_the_anchor_is_the_final_block_else_the_oldest_checkpoint_else_the_cursor() -> None:
    state = SyncState(block(9), checkpoints=(block(4), block(7), block(9)))
    assert (state.anchor, state.anchor_height) == (block(4), 4)
    assert SyncState(block(9), block(6), (block(4), block(7))).reorg_points == (block(6), block(7))
    alone = SyncState(block(9))
    assert (alone.anchor, alone.anchor_height) == (block(9), None)


def test_finality_never_decreases_and_never_passes_the_cursor() -> None:
    state = SyncState(block(9), block(6))
    assert state.finality(block(9), heads(None)) == block(6)
    assert state.finality(block(9), heads(block(5))) == block(6)
    assert state.finality(block(9), heads(block(8))) == block(8)
    assert state.finality(block(10), heads(block(50))) == block(10)
    assert SyncState(block(9)).finality(block(9), heads(block(3))) == block(3)


def test_a_person_may_accept_a_chain_that_leaves_ours_below_finality():
    state = SyncState(block(9), block(6), (block(7),)).without_finality()
    assert state.finality(block(4), heads(None)) is None
    assert state.reorg_points == (block(7),)


def test_a_rewind_forgets_what_is_above_the_fork() -> None:
    state = SyncState(block(9), checkpoints=(block(4), block(7), block(8)))
    assert state.orphaned_by(block(7)) == (block(8), block(9))
    assert state.rewind(block(7)) == SyncState(block(7), checkpoints=(block(4), block(7)), rewinds=1)


def test_a_block_that_was_read_again_replaces_the_one_that_was_stored_at_its_height() -> None:
    state = SyncState(block(9), checkpoints=(block(4), block(7)))
    assert state.admit([block(7, 1), block(5, 1)]).checkpoints == (block(4), block(5, 1), block(7, 1))
    assert state.admit([block(8), block(10)], above=7).checkpoints == (block(4), block(8))

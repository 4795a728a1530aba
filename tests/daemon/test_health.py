"""Whether heads can be believed: their age, the age of finality, and a chain's own rhythm."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from railwatch.daemon.follow.health import CaughtUp, Reach, Rhythm, fresh_within, trouble
from railwatch.known_chains import paces
from railwatch.rail import BlockRef, Heads

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def head(height: int, age: float = 0) -> BlockRef:
    return BlockRef(height, f"block-{height}", f"block-{height - 1}", NOW - timedelta(seconds=age))


def test_a_head_is_believed_up_to_its_age_and_one_that_is_stamped_ahead_too() -> None:
    for age, stalled in ((-7200, False), (0, False), (60, False), (61, True)):
        assert bool(trouble(Heads(head(9, age)), NOW, 60, None, Rhythm())) is stalled
    assert trouble(Heads(head(9, 1e9)), NOW, 0, None, Rhythm()) is None, "0: never"


def test_a_head_that_is_stamped_ahead_is_as_old_as_its_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    rhythm, ahead = Rhythm(), head(9, -7200)
    rhythm.note(ahead)
    clock = 61
    rhythm.note(ahead)
    assert trouble(Heads(ahead), NOW + timedelta(seconds=61), 60, None, rhythm) is not None
    rhythm.note(head(8, -7300))
    assert trouble(Heads(head(8, -7300)), NOW + timedelta(seconds=61), 60, None, rhythm) is None


def test_finality_is_measured_between_two_blocks_and_never_by_a_clock() -> None:
    for behind, stalled in ((0, False), (100, False), (101, True)):
        heads = Heads(head(99, 5_000), finalized=head(9, 5_000 + behind))
        assert bool(trouble(heads, NOW, None, 100, Rhythm())) is stalled
    assert trouble(Heads(head(9)), NOW, None, 100, Rhythm()) == "the node reports no finalized block"


def test_an_unknown_chain_is_known_by_its_rhythm(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    rhythm = Rhythm()
    for height in range(19):
        rhythm.note(head(height))
        clock += 200
    assert rhythm.longest_silence is None
    rhythm.note(head(19))
    rhythm.note(head(18))
    assert rhythm.longest_silence == 1200
    clock += 1199
    assert trouble(Heads(head(19)), NOW, None, None, rhythm) is None
    clock += 2
    assert "set stall_after" in str(trouble(Heads(head(19)), NOW, None, None, rhythm))
    assert trouble(Heads(head(19)), NOW, 0, None, rhythm) is None


def test_chains_for_development_may_be_silent_and_known_ones_have_their_paces() -> None:
    assert paces("eip155:31337")["stall_after"] == 0
    assert paces("eip155:1")["finality_stall_after"] == 2400
    assert paces("fake:shop") == {}


def test_time_is_covered_once_what_was_claimed_then_is_reached() -> None:
    reach = Reach()
    assert reach.seen(1.0, 5, Heads(head(5))) == 1.0
    assert reach.seen(2.0, 5, Heads(head(5), claimed_height=7)) is None
    assert reach.waits
    assert reach.seen(3.0, 6, Heads(head(6), claimed_height=8)) is None
    assert reach.seen(4.0, 7, Heads(head(7), claimed_height=9)) == 2.0
    assert reach.seen(5.0, 9, Heads(head(9), claimed_height=9)) == 4.0
    reach.forget()
    assert reach.held_for == 0.0


def test_a_chain_that_may_be_silent_needs_no_fresh_block_and_others_need_one_of_three_paces() -> None:
    assert fresh_within(0, 12.0) is None
    assert fresh_within(None, None) is None
    assert fresh_within(600, None) == 60.0
    assert fresh_within(600, 12.0) == 60.0
    assert fresh_within(None, 600.0) == 1800.0


def test_a_node_has_caught_up_once_it_has_shown_a_fresh_block_since_it_was_followed_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = 0.0
    monkeypatch.setattr("railwatch.daemon.follow.health.time.monotonic", lambda: running + 1.0)
    old, fresh = Heads(head(5)), Heads(head(6))
    now = fresh.latest.time + timedelta(seconds=60)
    late = old.latest.time + timedelta(seconds=61)
    node = CaughtUp()
    assert not node.check(old, late, 60.0)
    assert node.check(fresh, now, 60.0)
    assert node.check(old, late, 60.0), "it is known from then on"
    node.forget()
    assert not node.check(old, late, 60.0)
    running = 601.0
    assert node.check(old, late, 60.0), "a chain that stamps its blocks late is not blind for ever"

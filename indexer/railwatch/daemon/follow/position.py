"""Determines where a step leaves its rail, and whether the nodes' reports can be believed there."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from railwatch.core.step import Position
from railwatch.core.sync_state import SyncState
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.health import CaughtUp, Reach, Rhythm, followed_pace, fresh_within, trouble
from railwatch.daemon.follow.mempool_poller import MempoolPoller
from railwatch.daemon.follow.options import FollowOptions
from railwatch.daemon.follow.planner import PlannedStep
from railwatch.daemon.follow.steadiness import Branches, Tip
from railwatch.daemon.server_clock import ServerClock
from railwatch.rail import BlockRef, Heads, RailAdapter, Traits

Health = tuple[str, str | None]
"""A rail's state, and the reason that operators read."""


@dataclass(slots=True)
class PositionBuilder:
    """The positions of one rail. ``traits``: the rail's; those of ``node`` are the active node's."""

    node: RailAdapter
    traits: Traits
    options: FollowOptions
    tip: Tip
    mempool: MempoolPoller
    branches: Branches = field(default_factory=Branches)
    clock: ServerClock = field(default_factory=ServerClock)
    _reach: Reach = field(default_factory=Reach)
    _caught_up: CaughtUp = field(default_factory=CaughtUp)
    _rhythm: Rhythm = field(default_factory=Rhythm)

    def build(
        self, sync: SyncState, cursor: BlockRef, heads: Heads, *, reached: bool, seen: float | None = None
    ) -> Position:
        """Return the position that a step to ``cursor`` leaves.

        ``reached``: the cursor is the head. ``seen``: up to when (monotonic clock, seconds) the tables hold all that
        was mined, None: not known.
        """
        state, reason = self.health(sync, heads, caught_up=reached)
        if missing := self.missing_reason(cursor):
            state, reason = "stalled", missing
        is_covered = seen is not None and state == "live" and self.mempool.gap is None
        seen_at = self.clock.at(seen) if seen is not None and is_covered else None
        return Position(cursor, heads.latest.height, sync.finality(cursor, heads), seen_at, state, reason)

    def missing_reason(self, cursor: BlockRef) -> str | None:
        """Return why ``cursor`` cannot be the head: the node reported higher blocks; None if it can be."""
        heights = self.tip.missing(cursor.height)
        return _reversal_reason(heights) if heights else None

    def seen(self, sync: SyncState, plan: PlannedStep, cursor: BlockRef) -> float | None:
        """Return up to when (monotonic clock, seconds) the tables hold all that was mined; None: not known."""
        seen = self._reach.seen(plan.asked, cursor.height, plan.heads)
        within = fresh_within(self.options.stall_after, self._block_seconds(sync))
        return seen if self._caught_up.check(plan.heads, _now(), within) else None

    def health(self, sync: SyncState, heads: Heads, *, caught_up: bool) -> Health:
        """Return the rail's state and its reason, given what the node reports (HAZARDS E22, "Nodes")."""
        self._rhythm.block_seconds = self._block_seconds(sync)
        self._rhythm.note(heads.latest)
        if reason := self._stall_reason(heads):
            return "stalled", reason
        traits = self.node.traits
        gaps = [gap for gap in (None if traits.native_complete else traits.native_gap, self.mempool.gap) if gap]
        return ("live" if caught_up else "syncing"), "; ".join(gaps) or None

    def forget(self) -> None:
        """Start coverage anew, after the node could not be followed."""
        self._reach.forget()
        self._caught_up.forget()

    @property
    def is_held(self) -> bool:
        """Return True while one node is ahead of the others, which most often lasts moments."""
        return self._reach.waits and self._reach.held_for < steadiness.LAG_MAX_SECONDS

    def _stall_reason(self, heads: Heads) -> str | None:
        if self.branches.flaps:
            return self.branches.reason
        if self._reach.held_for > steadiness.LAG_MAX_SECONDS and heads.claimed_height is not None:
            return (
                f"too few of the rail's nodes have reached block {heads.claimed_height}; more than half are at "
                f"{heads.latest.height}. Run `railwatch check`: one of the nodes is stuck, or makes blocks up"
            )
        finality = self.options.finality_stall_after if self.traits.has_finalized else None
        return trouble(heads, _now(), self.options.stall_after, finality, self._rhythm)

    def _block_seconds(self, sync: SyncState) -> float | None:
        """Return the seconds between two blocks, by the node's traits or by the blocks that were followed."""
        followed = [*sync.checkpoints, sync.cursor] if sync.cursor else sync.checkpoints
        return self.node.traits.block_seconds or followed_pace(followed)


def _reversal_reason(heights: int) -> str:
    return (
        f"the node reports {heights} blocks above the cursor, and withdraws them when they are requested: several "
        "nodes may answer behind its address. Run `railwatch check`, or add another node to the rail's `nodes`"
    )


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)

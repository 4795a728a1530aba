"""Whether a rail can be believed now: how old its head and its finality are, and up to when all of it has been seen.

A rail that cannot be believed is blind: it promotes nothing and expires nothing until it can (HAZARDS E22, "Nodes").
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from railwatch.rail import BlockRef, Heads

RHYTHM_HEADS = 20
"""Heads after which a chain's own rhythm is known."""

RHYTHM_TIMES = 6
"""How many times its longest pause among those a chain may be silent. Proof-of-work blocks come at random: a pause of
six times the longest of twenty happens less than once in a million years."""

RHYTHM_BLOCKS = 50
"""How many times the average time between its blocks a chain may be silent: at random, once in e^50 blocks."""

RHYTHM_LEAST = 600.0
"""Seconds of silence that any chain may have."""

FRESH_BLOCKS = 3
"""How many times the time between two blocks the newest one may be old to show that its node has caught up."""

FRESH_LEAST = 60.0
"""Seconds by which the newest block of any chain may be old to show that, and of a chain whose pace is not known."""

FRESH_TRIES = 10
"""After how many times that age a rail is covered without a fresh block: a chain may stamp all its blocks late."""


@dataclass(slots=True)
class Rhythm:
    """How often a chain that nothing is known of has blocks, as this process sees them come."""

    _came: deque[float] = field(default_factory=lambda: deque(maxlen=RHYTHM_HEADS))
    _newest: int = -1
    _head: tuple[str, float] | None = None
    """The head's hash, and when a node first reported it."""
    block_seconds: float | None = None
    """Seconds between two blocks by their own times, where the node's blocks, or those that were followed, show it."""

    def note(self, head: BlockRef) -> None:
        """Note a head; only a higher one says something about the rhythm."""
        if self._head is None or self._head[0] != head.hash:
            self._head = (head.hash, time.monotonic())
        if head.height > self._newest:
            self._newest = head.height
            self._came.append(time.monotonic())

    @property
    def head_age(self) -> float:
        """Return the seconds since a node first reported the head."""
        return time.monotonic() - self._head[1] if self._head else 0.0

    @property
    def silence(self) -> float:
        """Seconds since the last head came."""
        return time.monotonic() - self._came[-1] if self._came else 0.0

    @property
    def longest_silence(self) -> float | None:
        """Seconds of silence after which something is wrong; None while too little has been seen to know."""
        if len(self._came) < RHYTHM_HEADS:
            # Their own times give the pace from the first head on; as an average they need more room.
            return None if self.block_seconds is None else max(RHYTHM_LEAST, RHYTHM_BLOCKS * self.block_seconds)
        times = list(self._came)
        pause = max(later - earlier for earlier, later in pairwise(times))
        return max(RHYTHM_LEAST, RHYTHM_TIMES * pause)


def followed_pace(blocks: Sequence[BlockRef]) -> float | None:
    """Return the average seconds between two ``blocks`` of one chain, oldest first; None for too few blocks.

    So a chain that nothing is known of is suspected from the first head after a restart on, and not after twenty more.
    """
    heights = blocks[-1].height - blocks[0].height if blocks else 0
    if heights < RHYTHM_HEADS:
        return None
    return max(0.0, (blocks[-1].time - blocks[0].time).total_seconds()) / heights


def fresh_within(stall_after: float | None, block_seconds: float | None) -> float | None:
    """Return the seconds by which the newest block of a node that has caught up may be old; None: no bound is known.

    ``stall_after`` 0: the chain may be silent. None: it is known by its pace alone, if at all.
    """
    if stall_after == 0 or (stall_after is None and block_seconds is None):
        return None
    return max(FRESH_LEAST, FRESH_BLOCKS * (block_seconds or 0.0))


@dataclass(slots=True)
class CaughtUp:
    """Whether the rail's node has shown, since the rail was last followed anew, that it holds the present chain.

    A node that has just come back reports the block at which it stopped as its tip. Until it has fetched what was mined
    meanwhile, nothing is covered: an invoice whose payment is in those blocks must not expire (HAZARDS I12).
    """

    _is_shown: bool = False
    _since: float | None = None

    def check(self, heads: Heads, now: datetime, within: float | None) -> bool:
        """Return True once a head was at most ``within`` seconds old at ``now``, or none was for too long."""
        if not self._is_shown:
            self._since = self._since or time.monotonic()
            age = (now - heads.latest.time).total_seconds()
            self._is_shown = within is None or age <= within or time.monotonic() - self._since > FRESH_TRIES * within
        return self._is_shown

    def forget(self) -> None:
        """Begin anew: the node was not followed for a while, or another one is followed."""
        self._is_shown, self._since = False, None


@dataclass(slots=True)
class Reach:
    """The time up to which everything that any node had reported is in the tables.

    While a node claims blocks that a majority has not reached, the present is not covered: they may hold a payment. It
    is once those that were claimed then have been reached, so that a chain whose nodes always differ by a block or two
    is covered with a small delay.
    """

    _claimed: tuple[float, int] | None = None

    def seen(self, asked: float, cursor_height: int, heads: Heads) -> float | None:
        """Return up to when (monotonic clock) all is seen, given when the heads were requested; None: not known."""
        if heads.claimed_height is None:
            self._claimed = None
            return asked
        before = self._claimed
        if before is not None and cursor_height < before[1]:
            return None
        self._claimed = (asked, heads.claimed_height)
        return None if before is None else before[0]

    @property
    def waits(self) -> bool:
        """Whether something was claimed and is not reached."""
        return self._claimed is not None

    @property
    def held_for(self) -> float:
        """Seconds since that was claimed."""
        return 0.0 if self._claimed is None else time.monotonic() - self._claimed[0]

    def forget(self) -> None:
        """Start anew: the nodes are asked again."""
        self._claimed = None


def trouble(
    heads: Heads, now: datetime, stall_after: float | None, finality_stall_after: float | None, rhythm: Rhythm
) -> str | None:
    """Why the heads are not to be believed; None if they are.

    ``stall_after``, ``finality_stall_after``: as `railwatch.daemon.follow.options.FollowOptions` has them. The age of
    finality is measured between two blocks of the chain, so that no clock of ours and no restart enters into it, and a
    chain that mines on demand is not blamed for its pauses.
    """
    # A block that is stamped ahead of its arrival must not hide for so much longer that no other one comes.
    age = max((now - heads.latest.time).total_seconds(), rhythm.head_age)
    if stall_after and age > stall_after:
        return f"the newest block is older than {stall_after:.0f} s; does the node have peers?"
    allowed = rhythm.longest_silence if stall_after is None else None
    if allowed is not None and rhythm.silence > allowed:
        return (
            f"no block has come for more than {allowed:.0f} s, and they came more often before; does the node have "
            "peers? (set stall_after for this rail, or 0 if its chain may be silent)"
        )
    if finality_stall_after:
        return _finality_trouble(heads, finality_stall_after)
    return None


def _finality_trouble(heads: Heads, allowed: float) -> str | None:
    if heads.finalized is None:
        return "the node reports no finalized block"
    behind = heads.latest.time - heads.finalized.time
    if behind <= timedelta(seconds=allowed):
        return None
    return (
        f"finality has stopped at block {heads.finalized.height} of {heads.finalized.time:%Y-%m-%d %H:%M:%S} UTC, "
        f"{behind.total_seconds():.0f} s behind the head at {heads.latest.height}; does the chain finalize?"
    )

"""Notices a node that answers and yet cannot be followed, so that no rail is `live` while its cursor does not move.

Several nodes behind one address differ in height and in branch, and each request reaches another one (HAZARDS E19,
"Nodes"). Such an endpoint fails at nothing: it withdraws blocks, returns to a branch that was left, or needs so long
that the chain has gone on meanwhile. Each of these is counted here, and has a name that a person can read.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from railwatch.rail import BlockRef, Heads, RailUnavailable

LAG_MAX_SECONDS = 30.0
"""Seconds that a node may be behind us, or a majority behind one node, or a step may last, before the rail is called
stalled."""

DEEP_SECONDS = 5.0
"""Seconds for which every answer must lead below the oldest checkpoint before the rail is halted for it."""

FAULT_SECONDS = 10.0
"""Seconds for which all nodes must say that a block cannot be read before the rail is halted for it: a gateway, a cache
or a node that is being upgraded spoils an answer for a while, and the next one is well."""

UNSTEADY_SECONDS = 60.0
"""How long a return, or a head that went back, is remembered."""

RETURNS_MAX = 3
"""Returns to a block that was left, within `UNSTEADY_SECONDS`, of which the last is refused. A race of two miners
returns once; a chain that does so again and again is two chains."""

SETBACKS_MAX = 5
"""Heads that went back within `UNSTEADY_SECONDS`, of which the last shows that several nodes answer."""

QUARRELS_MAX = 3
"""Times within `UNSTEADY_SECONDS` at which two nodes began to report different chains, after they had agreed."""

NEAR = 2
"""Heights by which nodes of one chain differ for a moment, and which are no setback."""

REMEMBERED = 4_096
"""Blocks that were left and are remembered."""


class NodeLagging(RailUnavailable):
    """The node answers, but cannot be followed. Another one might."""


@dataclass(slots=True)
class Streak:
    """For how long a condition has held without interruption."""

    _since: float | None = None

    def seconds(self) -> float:
        """Note that the condition holds now, and return for how many seconds it has held."""
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since

    def end(self) -> None:
        """Note that the condition no longer holds."""
        self._since = None


@dataclass(slots=True)
class Often:
    """Whether something has happened so many times within `UNSTEADY_SECONDS`."""

    times: int
    _when: deque[float] = field(default_factory=deque)

    def note(self) -> None:
        """Note that it has happened."""
        self._when.append(time.monotonic())
        while len(self._when) > self.times:
            self._when.popleft()

    def __bool__(self) -> bool:
        """Return True if it has happened so often, within the time."""
        return len(self._when) == self.times and time.monotonic() - self._when[0] <= UNSTEADY_SECONDS


@dataclass(slots=True)
class Branches:
    """The branches that a rail has left, and how often its node led it back to one of them."""

    _left: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _returns: Often = field(default_factory=lambda: Often(RETURNS_MAX))

    def check(self, cursor: BlockRef, branch: Sequence[BlockRef]) -> None:
        """Check a rewind from ``cursor`` to ``branch`` (blocks, oldest first), before it is made.

        Raises `NodeLagging` if the node goes back and forth. A longer branch is followed all the same: the rail ends up
        on the longest one that any of the nodes reports, and stays there.
        """
        if any(block.hash in self._left for block in branch):
            self._returns.note()
        if self.flaps and branch[-1].height <= cursor.height:
            raise NodeLagging(f"{self.reason}; the rail stays at {cursor.height} {cursor.hash}")

    def leave(self, blocks: Iterable[BlockRef]) -> None:
        """Remember blocks that a rewind has orphaned."""
        for block in blocks:
            self._left[block.hash] = None
            self._left.move_to_end(block.hash)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)

    @property
    def flaps(self) -> bool:
        """Whether the node goes back and forth between branches."""
        return bool(self._returns)

    @property
    def reason(self) -> str:
        """What a person reads of it."""
        return (
            f"the node goes back and forth between two branches, {RETURNS_MAX} times within {UNSTEADY_SECONDS:.0f} s: "
            "several nodes on different branches answer behind its address"
        )


@dataclass(slots=True)
class Tip:
    """The highest block that the node reported, and since when the rail has not reached it."""

    _height: int = -1
    _reported_at: float = 0.0
    _unreached: tuple[float, int] | None = None

    def note(self, head: BlockRef) -> None:
        """Note a reported head.

        A height that is not reported again for `LAG_MAX_SECONDS` is forgotten: it was made up, or undone.
        """
        now = time.monotonic()
        if head.height >= self._height or now - self._reported_at > LAG_MAX_SECONDS:
            self._height, self._reported_at = head.height, now

    def is_above(self, head: BlockRef) -> bool:
        """Return True if the node reported a block above ``head`` a while ago."""
        return self._height > head.height

    def claimed(self, heads: Heads) -> Heads:
        """Add to ``heads`` a higher earlier report: that block may hold a payment, so nothing is covered yet."""
        claim = max(self._height, heads.claimed_height or -1)
        return replace(heads, claimed_height=claim) if claim > heads.latest.height else heads

    def missing(self, reached: int) -> int:
        """Return how far ``reached`` is below a report of more than `LAG_MAX_SECONDS` ago; 0: the rail follows."""
        now, mark = time.monotonic(), self._unreached
        if mark is None or not reached < mark[1] <= self._height:
            mark = self._unreached = None if self._height <= reached else (now, self._height)
        return 0 if mark is None or now - mark[0] <= LAG_MAX_SECONDS else mark[1] - reached

    def forget(self) -> None:
        """Another branch is followed now, and may be shorter."""
        self._height, self._unreached = -1, None


@dataclass(slots=True)
class Setbacks:
    """How often one node's head went back, or became another block of the same height.

    ``often``: by however little. ``far``: by more than nodes of one chain differ for a moment.
    """

    often: Often = field(default_factory=lambda: Often(SETBACKS_MAX))
    far: Often = field(default_factory=lambda: Often(SETBACKS_MAX))
    _last: BlockRef | None = None

    def note(self, heads: Heads) -> None:
        """Compare the node's newest head with the one before."""
        last, now = self._last, heads.latest
        self._last = now
        if last is None or now.hash == last.hash or now.height > last.height:
            return
        self.often.note()
        if now.height < last.height - NEAR:
            self.far.note()

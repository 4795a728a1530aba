"""What the rest of the daemon reads of a follower: the rail's state and reason, and when it last advanced."""

import time
from dataclasses import dataclass, field

from railwatch.core.step import Position


@dataclass(slots=True)
class FollowStatus:
    """The status of one rail. Times are seconds of the monotonic clock.

    ``asking_since``: since when the node has been asked for one step; None while it is not asked.
    ``external_writes``: how often another task wrote the rail's state, so that the row may differ from ours.
    """

    state: str = "starting"
    reason: str | None = None
    tip_height: int = 0
    progressed_at: float = field(default_factory=time.monotonic)
    asking_since: float | None = None
    external_writes: int = 0
    _answered_writes: int = 0

    @property
    def is_followed(self) -> bool:
        """Return True if the rail reads its newest blocks."""
        return self.state in ("live", "syncing")

    def note(self, position: Position) -> None:
        """Adopt the state and reason of a committed position."""
        self.state, self.reason = position.state, position.reason

    def stall(self, reason: str) -> None:
        """Mark the rail as stalled."""
        self.state, self.reason = "stalled", reason

    def is_stale(self, position: Position) -> bool:
        """Return True if the rail's row may differ from ``position`` in its state or its reason."""
        changed = (position.state, position.reason) != (self.state, self.reason)
        return changed or self.external_writes != self._answered_writes

    def answer_writes(self, count: int) -> None:
        """Note that a step has written the state after ``count`` writes of other tasks."""
        self._answered_writes = count

"""What the database's clock showed at a moment of ours: how far a rail was watched is written by that clock.

Time may pass between the moment at which the nodes were asked and the statement that writes of it: a wait for a
connection, a paused process, a machine that slept. None of it was watched (HAZARDS "Expiry"), so a moment is never
reckoned back from the time at which the statement runs, only forward from what the database's clock showed before.
"""

from collections import deque
from datetime import datetime, timedelta

READINGS_KEPT = 64
"""With a reading a second, a moment of the last minute has one before it."""


class ServerClock:
    """Pairs of the database's clock and of ours, oldest first."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, datetime]] = deque(maxlen=READINGS_KEPT)

    def note(self, shown: datetime, answered: float) -> None:
        """Remember that the database's clock showed ``shown``, no later than ``answered`` (our monotonic clock, s)."""
        if self._readings and shown < self._readings[-1][1]:
            self._readings.clear()  # It was set back, or another server answers.
        self._readings.append((answered, shown))

    def at(self, moment: float) -> datetime | None:
        """Return what the database's clock showed at ``moment``, or less; None where it was not read before that."""
        for answered, shown in reversed(self._readings):
            if answered <= moment:
                return shown + timedelta(seconds=moment - answered)
        return None

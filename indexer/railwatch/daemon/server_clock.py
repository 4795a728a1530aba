"""The database's clock at a moment of our monotonic clock. Coverage is written in the database's time.

Time may pass between the query to the nodes and the statement that records it: a wait for a connection, a paused
process, a suspended machine. The rail covered none of it (HAZARDS "Expiry"). So a moment is never derived backwards
from the time of the statement, only forwards from an earlier reading of the database's clock.
"""

from collections import deque
from datetime import datetime, timedelta

READINGS_KEPT = 64
"""Readings to keep: at one a second, each moment of the last minute has an earlier one."""


class ServerClock:
    """Readings of the database's clock with our monotonic time, oldest first."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, datetime]] = deque(maxlen=READINGS_KEPT)

    def note(self, shown: datetime, answered: float) -> None:
        """Remember that the database's clock showed ``shown``, no later than ``answered`` (our monotonic clock, s)."""
        if self._readings and shown < self._readings[-1][1]:
            self._readings.clear()  # The clock was set back, or another server answers.
        self._readings.append((answered, shown))

    def at(self, moment: float) -> datetime | None:
        """Return the database's time at ``moment``, or less; None without an earlier reading."""
        for answered, shown in reversed(self._readings):
            if answered <= moment:
                return shown + timedelta(seconds=moment - answered)
        return None

"""Expires invoices whose window is over and covered to its end, while the rail is known to be at its tip."""

import time
from dataclasses import dataclass

from railwatch.core.step import Position
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.server_clock import ServerClock
from railwatch.store.steps import FIRST_WINDOW, WindowCursor

EXPIRY_CHECK_SECONDS = 0.5
"""Seconds between two checks for windows that are over."""


@dataclass(slots=True)
class ExpiryChecker:
    """The expiries of one rail.

    ``caught_up_at``: up to when (monotonic clock, seconds) the tables hold all that the nodes reported; None: not
    known, and then nothing expires.
    """

    committer: Committer
    clock: ServerClock
    caught_up_at: float | None = None
    _checked_at: float = 0.0
    _page: WindowCursor = FIRST_WINDOW
    """Where the walk over windows goes on. Many may wait for a rail that is unavailable, so each check reads some."""

    def note(self, position: Position, seen: float | None) -> None:
        """Adopt what a committed position covers."""
        self.caught_up_at = seen if position.state == "live" else None

    async def check(self, rewinds: int) -> None:
        """Expire what is due, at most once in `EXPIRY_CHECK_SECONDS`. Raises what the store raises."""
        if self.caught_up_at is None or time.monotonic() - self._checked_at < EXPIRY_CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        await self.extend_coverage(self.caught_up_at)
        page = self._page
        expired, self._page = await self.committer.steps.closed_windows(page)
        if expired:
            await self.committer.commit_expiries(rewinds, page)

    async def extend_coverage(self, seen: float | None = None) -> None:
        """Write that the rail was watched up to ``seen`` (monotonic clock, seconds), and read the database's clock."""
        shown = await self.committer.steps.extend_coverage(None if seen is None else self.clock.at(seen))
        self.clock.note(shown, time.monotonic())

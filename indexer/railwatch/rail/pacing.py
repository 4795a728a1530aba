"""How fast one endpoint may be asked: as fast as it answers, until it says no; then by what it says.

A node of one's own never pushes back, and is never slowed. A hosted plan has a limit a second and a limit a day, and
says so with 429, ``Retry-After`` or words. The pace of an endpoint outlives a connection: a daemon that left a node and
comes back has not earned a fresh allowance.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from railwatch.rail.errors import RailUnavailable

__all__ = ["TOO_MANY", "Batching", "Paused", "RequestPace", "forget_paces", "pace_of", "pushed_back_by", "retry_after"]

PAUSE_FIRST, PAUSE_MOST = 0.5, 900.0
"""Seconds of a pause of which the endpoint does not say how long: doubled each time, up to this. A day's quota that is
used up says so again after it."""
WAIT_MOST = 2.0
"""Seconds that a request waits for its turn. A longer pause is raised at once, so that the caller can plan."""
WINDOW = 5.0
"""Seconds over which the rate that was too fast is measured."""
FIRST, SLOWEST = 4.0, 0.5
"""Requests a second after the first push-back, at least, and at last: below it a chain cannot be followed."""


class Paused(RailUnavailable):
    """The endpoint asked for a pause that is not over. Nothing was sent. ``pause``: what is left of it, in seconds."""

    def __init__(self, message: str, pause: float) -> None:
        super().__init__(message)
        self.pause = pause


@dataclass(slots=True)
class RequestPace:
    """One endpoint's pace. ``rate``: requests a second, None while it has never pushed back."""

    rate: float | None = None
    _next: float = 0.0
    _until: float = 0.0
    _why: str = ""
    _failures: int = 0
    _sent: deque[float] = field(default_factory=lambda: deque(maxlen=4096))

    async def turn(self, name: str) -> None:
        """Return when a request may be sent. Raises `Paused` if the endpoint asked for a longer pause."""
        now = time.monotonic()
        if (left := self._until - now) > WAIT_MOST:
            raise Paused(f"{name} asked for a pause, {left:.0f} s of it are left: {self._why}", left)
        at = max(now, self._until)
        if self.rate is not None:
            at = max(at, self._next)
            if at - now > WAIT_MOST:
                raise Paused(f"{name} is asked at {self.rate:.1f} requests a second: {self._why}", at - now)
            self._next = at + 1 / self.rate
        self._sent.append(at)
        if at > now:
            await asyncio.sleep(at - now)

    def answered(self) -> None:
        """Speed up a little after an accepted request, and drop a limit that the requests never reach."""
        self._failures = 0
        if self.rate is not None:
            self.rate = self.rate * 1.03 + 0.02
            if self.rate > 1_000:
                self.rate = None

    def pushed_back(self, why: str, pause: float | None) -> None:
        """Slow down after a refusal of the rate: half of the recent rate, after the pause that was asked for."""
        now = time.monotonic()
        lately = sum(1 for sent in self._sent if sent > now - WINDOW) / WINDOW
        if now >= self._until:
            # Requests that were under way together are refused together; that is one push-back.
            self.rate = max(FIRST, lately / 2) if self.rate is None else max(SLOWEST, self.rate / 2)
            self._failures += 1
        wait = PAUSE_FIRST * 2 ** min(self._failures - 1, 12) if pause is None else pause
        self._until = max(self._until, now + min(max(wait, 0.0), PAUSE_MOST))
        self._why = why


TOO_MANY, UNAVAILABLE = 429, 503


def pushed_back_by(pace: RequestPace, status: int, retry: str | None, why: str) -> bool:
    """Slow down if an answer says that the rate was too high: status 429, or 503 with ``Retry-After`` (RFC 9110).

    Returns whether it does. ``retry`` is that header, ``why`` the words to quote while the pause lasts.
    """
    pause = retry_after(retry)
    if status == TOO_MANY or (status == UNAVAILABLE and pause is not None):
        pace.pushed_back(why, pause)
        return True
    return False


ENDPOINTS_MOST = 1_000
_paces: dict[str, RequestPace] = {}


def pace_of(url: str) -> RequestPace:
    """Return the pace of the endpoint at ``url``, which outlives every connection of this process to it."""
    if url not in _paces and len(_paces) >= ENDPOINTS_MOST:
        _paces.clear()
    return _paces.setdefault(url, RequestPace())


def forget_paces() -> None:
    """Forget every endpoint, for tests: one may get the port of another, and would wait for that one's pause."""
    _paces.clear()


RETRY_AFTER_MOST = 7 * 86_400.0
"""Seconds. A longer one is a mistake, and who plans with it bounds it again."""


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header (RFC 9110: a number, or a date); None if it is neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(RETRY_AFTER_MOST, float(value.strip()[:9]))
    try:
        return min(RETRY_AFTER_MOST, max(0.0, parsedate_to_datetime(value[:64]).timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError):
        return None


@dataclass(slots=True)
class Batching:
    """How many calls one request may hold, as the endpoint taught us.

    ``limit``: calls that the client ever sends at once. After ``retry_seconds`` without a refusal it sends more again.
    """

    most: int = 100
    limit: int = 100
    retry_seconds: float = 600.0
    _retry_at: float = 0.0

    def size(self) -> int:
        """Return the calls of the next request, at most."""
        if self.most < self.limit and time.monotonic() >= self._retry_at:
            self.most = min(self.limit, self.most * 2)
            self._retry_at = time.monotonic() + self.retry_seconds
        return self.most

    def refused(self, count: int) -> None:
        """Learn that the endpoint refused a request of ``count`` calls as a whole: send half as many next time."""
        self.most = max(1, min(self.most, count // 2))
        self._retry_at = time.monotonic() + self.retry_seconds

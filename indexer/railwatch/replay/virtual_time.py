"""Time that passes only when nothing is left to do: an event loop that jumps from one timer to the next.

While a replay runs, `time.time` and `time.monotonic` read this clock too, in the whole process: the daemon measures by
them. No time passes while Postgres works, and what is ready runs before any answer of Postgres is read: the order
of all that happens depends on nothing but the recording.
"""

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = 1_000_000.0
"""What the monotonic clock reads at the beginning: far from 0, which may mean "never"."""
BUSY_TURNS = 10_000
"""Turns of the loop without a pause after which answers are read all the same."""
ANSWER_SECONDS = 60.0
"""Seconds of real time within which Postgres must answer."""


class _Selector(selectors.DefaultSelector):
    """Reads sockets only while an answer is awaited; otherwise it lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.awaited = 0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the loop calls it: with 0 while something is ready to run, else with the time to the next timer."""
        if timeout is not None and timeout <= 0:
            self._turns += 1
            if self._turns % BUSY_TURNS:
                return []
            return super().select(0)
        self._turns = 0
        if self.awaited or timeout is None:
            events = super().select(ANSWER_SECONDS)
            if not events:
                raise TimeoutError(f"Postgres gave no answer for {ANSWER_SECONDS:.0f} s")
            return events
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the loop's time in seconds."""
        return self._virtual.now

    def passed(self) -> float:
        """Return the seconds since the loop began."""
        return self._virtual.now - BEGIN

    @contextmanager
    def awaiting(self) -> Iterator[None]:
        """Stop the time while an answer from outside is on its way."""
        self._virtual.awaited += 1
        try:
            yield
        finally:
            self._virtual.awaited -= 1

    def run_in_executor(  # type: ignore[override]  # the overridden one is typed by variadic generics of 3.11
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Do the work at once, and not in a thread, whose end would come at another moment each time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the waiter of the future handles it
            future.set_exception(error)
        return future


@contextmanager
def recorded_time(loop: VirtualLoop, started_at: datetime) -> Iterator[Callable[[], datetime]]:
    """Let the process read the loop's time, which begins at ``started_at``; yields what reads it as a datetime.

    Chance is the same each time as well.
    """
    real_time, real_monotonic, chance = time.time, time.monotonic, random.getstate()
    begun = started_at.timestamp()
    time.time = lambda: begun + loop.passed()
    time.monotonic = loop.time
    random.seed(0)
    try:
        yield lambda: started_at.astimezone(UTC) + timedelta(seconds=loop.passed())
    finally:
        time.time, time.monotonic = real_time, real_monotonic
        random.setstate(chance)

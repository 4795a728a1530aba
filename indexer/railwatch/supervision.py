"""Tasks of a process that starts once and runs for months: one that fails is logged, counted and restarted.

Code that starts a task which lives as long as its process does so here, or says in `tests/security/test_supervision.py`
who else hears of its end.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import structlog

from railwatch.cancellation import in_own_task
from railwatch.reasons import describe

PAUSE_FIRST, PAUSE_LONGEST = 1.0, 60.0
"""Seconds before a task that failed starts again: at first, and at most."""

Act = Callable[[], Awaitable[None]]
Failed = Callable[[str], None]


async def keep_running(name: str, act: Act, failed: Failed = lambda _: None, **about: str) -> NoReturn:
    """Run ``act`` until cancelled. However it ends, it starts again, after a pause that grows while it fails at once.

    ``failed`` is called with the task's name, so that failures are counted.
    """
    pauses = _Pauses()
    while True:
        if await _ends_in_order(name, act, pauses, **about):
            structlog.get_logger().error("task.ended", task=name, restarts_in=pauses.next, **about)
        failed(name)
        await asyncio.sleep(pauses.take())


async def run_to_end(
    name: str, act: Act, stopping: asyncio.Event, failed: Failed = lambda _: None, **about: str
) -> None:
    """Run ``act`` until it ends in order; after a failure again, as `keep_running` does, unless ``stopping`` is set."""
    pauses = _Pauses()
    while not stopping.is_set():
        if await _ends_in_order(name, act, pauses, **about):
            return
        failed(name)
        with suppress(TimeoutError):
            async with asyncio.timeout(pauses.take()):
                await stopping.wait()


async def _ends_in_order(name: str, act: Act, pauses: "_Pauses", **about: str) -> bool:
    """Run ``act`` once, and log its failure. The one place where a task's unknown failure ends."""
    pauses.begin()
    try:
        await in_own_task(act())
    except Exception as defect:
        log = structlog.get_logger()
        log.exception("task.failed", task=name, reason=describe(defect), restarts_in=pauses.next, **about)
        return False
    return True


class _Pauses:
    """Seconds between two starts: twice as long each time, and short again after a start that lasted."""

    def __init__(self) -> None:
        self._pause, self._began = PAUSE_FIRST, time.monotonic()

    def begin(self) -> None:
        self._began = time.monotonic()

    @property
    def next(self) -> float:
        return PAUSE_FIRST if time.monotonic() - self._began > PAUSE_LONGEST else self._pause

    def take(self) -> float:
        pause = self.next
        self._pause = min(PAUSE_LONGEST, pause * 2)
        return pause

"""The story's clock, and the daemon's pauses cut short: an hour passes in a story within a millisecond.

The database's `now()`, the chain's block times and the daemon's clocks all read the same story time: real time plus
what the story let pass. The daemon's own pauses (polls, retries, renewals) stay in real time, and are shortened.
"""

import asyncio
import functools
import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from types import ModuleType
from typing import Any

from railwatch.store import database
from tests.model.sessions import Sessions

SCALE = 6
"""The literal sleeps of the rail's loops are this much shorter."""

PAUSES: dict[str, dict[str, float]] = {
    "railwatch.daemon.exception_monitor": {"CHECK_INTERVAL": 0.32},
    "railwatch.daemon.nodes.cross_check": {"COMPARE_SECONDS": 0.8},
    "railwatch.daemon.open_database": {"RETRY_EVERY": 0.2, "CONNECTIONS": 3},
    "railwatch.daemon.follow.expiry": {"EXPIRY_CHECK_SECONDS": 0.2},
    "railwatch.daemon.follow.follower": {"HELD_POLL_SECONDS": 0.08},
    "railwatch.daemon.follow.isolation": {"ASIDE_MIN_SECONDS": 0.2, "ASIDE_MAX_SECONDS": 0.4},
    "railwatch.daemon.nodes.node": {"BACKOFF_MIN_SECONDS": 0.04, "BACKOFF_MAX_SECONDS": 0.2},
    "railwatch.daemon.nodes.second_opinion": {"REREAD_SECONDS": 0.8},
    "railwatch.daemon.nodes.voting": {"SECONDARY_TIMEOUT_SECONDS": 0.8},
    "railwatch.daemon.follow.readmission": {"POLL_INTERVAL": 0.2},
    "railwatch.daemon.watch.rescan": {"RETRY_MIN_SECONDS": 0.2, "RETRY_MAX_SECONDS": 0.4},
    "railwatch.daemon.retry": {"BACKOFF_MAX_SECONDS": 0.8},
    "railwatch.daemon.supervisor": {"CLOSE_INTERVAL": 0.32, "COUNT_INTERVAL": 600.0},
    "railwatch.store.quarantine": {"RETRY_FIRST": 0.4, "RETRY_LONGEST": 0.8},
    "railwatch.supervision": {"PAUSE_FIRST": 0.2, "PAUSE_LONGEST": 0.4},
}
"""Seconds, by module and constant; shorter ones only make a story dearer. A constant that was renamed fails at once."""


SEARCH_PATH = "model, pg_catalog, pg_temp"
"""In which `now()` is found: the schema `model` has one that reads the story's clock."""


class Naps:
    """The literal sleeps of the rails' loops, which end early when the harness says that there is work."""

    def __init__(self) -> None:
        self._sleepers: set[asyncio.Event] = set()

    async def nap(self, seconds: float) -> None:
        """Sleep for ``seconds`` of real time, or until `end`."""
        woken = asyncio.Event()
        self._sleepers.add(woken)
        try:
            async with asyncio.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            self._sleepers.discard(woken)

    def end(self) -> None:
        """Wake every loop that sleeps now."""
        for each in self._sleepers:
            each.set()


class StoryClock:
    """Real time plus ``passed`` seconds."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.naps = Naps()

    def now(self) -> datetime:
        """Return the story's time, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.passed)


class _Time:
    """The module `time` as the daemon sees it."""

    def __init__(self, clock: StoryClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return time.monotonic() + self._clock.passed

    def time(self) -> float:
        return time.time() + self._clock.passed

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class _Asyncio:
    """The module `asyncio` as a rail's loop sees it: the same, with short sleeps."""

    def __init__(self, naps: Naps) -> None:
        self._naps = naps

    async def sleep(self, seconds: float) -> None:
        await (self._naps.nap(seconds / SCALE) if seconds > 0 else asyncio.sleep(0))

    @staticmethod
    def timeout(seconds: float) -> asyncio.Timeout:
        return asyncio.timeout(seconds / SCALE if seconds <= 1 else seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


def _listener_of(original: Any) -> Any:
    class ShortListener(original):
        async def wait(self, seconds: float) -> None:
            await super().wait(seconds / SCALE)

    return ShortListener


def _datetime_of(clock: StoryClock) -> type[datetime]:
    class StoryDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock.now().astimezone(tz)

    return StoryDatetime


@contextmanager
def story_time(clock: StoryClock, sessions: Sessions) -> Iterator[None]:
    """Let the daemon's modules read ``clock``, pause for less and take ``sessions``, until the context ends."""
    import railwatch.daemon.supervisor  # noqa: F401  # all modules of the daemon, before they are patched

    saved: list[tuple[ModuleType, str, Any]] = []

    def put(module: ModuleType, name: str, value: Any) -> None:
        saved.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    story_datetime = _datetime_of(clock)
    for name, module in list(sys.modules.items()):
        if name.startswith("railwatch.daemon."):
            if module.__dict__.get("time") is time:
                put(module, "time", _Time(clock))
            if module.__dict__.get("datetime") is datetime:
                put(module, "datetime", story_datetime)
    for name, constants in PAUSES.items():
        module = importlib.import_module(name)
        for constant, seconds in constants.items():
            put(module, constant, seconds)
    registry = importlib.import_module("railwatch.daemon.registry")
    put(
        registry, "entry_points", functools.cache(registry.entry_points)
    )  # each daemon's start looks through all packages
    for name in ("rail_runner", "rail_tasks"):
        put(importlib.import_module(f"railwatch.daemon.{name}"), "asyncio", _Asyncio(clock.naps))
    tasks = importlib.import_module("railwatch.daemon.rail_tasks")
    put(tasks, "Listener", _listener_of(tasks.Listener))
    put(database, "asyncpg", sessions)
    paths = [database.BOUNDS, database.SESSION]
    usual = [settings["search_path"] for settings in paths]
    for settings in paths:
        settings["search_path"] = SEARCH_PATH
    try:
        yield
    finally:
        for settings, path in zip(paths, usual, strict=True):
            settings["search_path"] = path
        for module, name, value in reversed(saved):
            setattr(module, name, value)

"""Being woken by a node: what every adapter's `wait_for_change` has in common.

A rail brings a `Subscription`: one life of a subscription, a long poll, a socket. The channel begins it at the first
wait, and again after a growing pause when it has failed. A push only wakes the daemon.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from railwatch.rail.errors import RailUnavailable

__all__ = ["PushChannel", "PushListener", "Subscription"]

IDLE_SECONDS = 30.0
"""Seconds of one wait at most, on a chain where nothing happens."""

BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


class PushListener(Protocol):
    """What a `Subscription` rings."""

    def on_subscribed(self) -> None:
        """Wake the waiter once after subscribing, for changes before the subscription."""

    def on_push(self) -> None:
        """Wake the waiter after a push, and forget earlier failures."""


Subscription: TypeAlias = Callable[[PushListener], Awaitable[RailUnavailable]]
"""Follows a node's pushes until they fail, and returns how they did. May raise `RailUnavailable` instead."""


class PushChannel:
    """The pushes of one node (`PushListener`). It opens at the first wait."""

    def __init__(self, follow: Subscription) -> None:
        self._subscription = follow
        self._changed = asyncio.Event()
        self._task: asyncio.Task[RailUnavailable] | None = None
        self._failures = 0

    async def wait(self) -> None:
        """Return at the next push, or after `IDLE_SECONDS`. Raises `RailUnavailable` when the push has failed.

        What came between two waits is not lost. Several may wait; each is woken.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._changed.wait()
        self._changed.clear()
        task = self._task
        if task is not None and task.done():
            self._task = None
            raise await task

    async def close(self) -> None:
        """End the following, and release who waits. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def on_subscribed(self) -> None:
        """Note that the node accepted the subscription."""
        self._changed.set()

    def on_push(self) -> None:
        """Note that a push came."""
        self._failures = 0
        self._changed.set()

    async def _listen(self) -> RailUnavailable:
        """One life of the following, and how it ended. The next wait begins another."""
        try:
            await asyncio.sleep(BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)])
            self._failures += 1
            return await self._subscription(self)
        except RailUnavailable as error:
            return error
        finally:
            self._changed.set()

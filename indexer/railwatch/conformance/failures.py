"""What leaves an adapter when something fails inside: at each await, whatever it was waiting for.

The daemon knows three errors and what to do after each. A fourth one ends a rail until a person comes, and a
cancellation that is treated as a fault lets a daemon hang at its end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness
from railwatch.rail import RailAdapter, RailError, Span

POINTS = 16
"""Awaits at which a method is made to fail, one after the other, unless it has fewer."""

FAILURES: tuple[Callable[[], BaseException], ...] = (
    lambda: OSError("injected"),
    lambda: TimeoutError("injected"),
    lambda: ValueError("injected"),
    lambda: KeyError("injected"),
)
WAIT_SECONDS = 0.05
METHODS = ("enter", "leave", "heads", "block_at", "scan", "look_back", "pending", "wait")


class Failing:
    """Awaits ``work``, and throws ``failure`` into it in place of what its ``at``-th await would have brought.

    A cancellation is one of the task that awaits this.
    """

    def __init__(self, work: Awaitable[Any], at: int, failure: BaseException) -> None:
        self._work, self._at, self._failure = work, at, failure
        self._awaits = 0

    @property
    def injected(self) -> bool:
        """Whether it came to that await."""
        return self._awaits >= self._at

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive the work by hand, one suspension at a time."""
        inner = self._work.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                waiting = inner.send(None) if thrown is None else inner.throw(thrown)
            except StopIteration as end:
                return end.value
            thrown, self._awaits = None, self._awaits + 1
            is_cancellation = self._awaits == self._at and isinstance(self._failure, asyncio.CancelledError)
            if is_cancellation and (task := asyncio.current_task()) is not None:
                task.cancel()  # As a daemon does it: at this await, and by way of the task.
            try:
                yield waiting
            except BaseException as error:  # noqa: BLE001 (it is handed on)
                thrown = error
            if self._awaits == self._at and not isinstance(self._failure, asyncio.CancelledError):
                # Only now: what is abandoned in the middle of a library's own await leaves the loop itself broken.
                thrown = self._failure


class FailureChecks(Conformance):
    """The three errors, and nothing else."""

    @pytest.mark.parametrize("method", METHODS)
    async def test_only_the_three_errors_leave(self, story: ChainHarness, method: str) -> None:
        """And the adapter is as usable as before, once the fault has passed."""
        for at in range(1, POINTS + 1):
            # Each kind in its turn, and all of them at the first await, which every method has.
            for failure in FAILURES if at == 1 else (FAILURES[at % len(FAILURES)],):
                error, injected = await self._fail(story, method, at, failure())
                assert error is None or isinstance(error, RailError), f"{error!r} left {method} at await {at}"
            if not injected:
                break
        assert (await story.rail.heads()).latest.height >= story.start.height

    @pytest.mark.parametrize("method", METHODS)
    async def test_a_cancellation_leaves_as_one(self, story: ChainHarness, method: str) -> None:
        """A fault is tried again, so a cancellation that is raised as one is never obeyed."""
        for at in range(1, POINTS + 1):
            error, injected = await self._fail(story, method, at, asyncio.CancelledError())
            if not injected:
                break
            assert error is None or isinstance(error, asyncio.CancelledError), f"{error!r} left {method} at await {at}"
        assert (await story.rail.heads()).latest.height >= story.start.height

    async def _fail(
        self, story: ChainHarness, method: str, at: int, failure: BaseException
    ) -> tuple[BaseException | None, bool]:
        """Return what left the method, and whether the failure was reached."""
        rail = story.sim.open_adapter() if method in ("enter", "leave") else story.rail
        if method == "leave":
            await rail.__aenter__()
        failing = Failing(await _work(story, rail, method), at, failure)
        task = asyncio.ensure_future(_run(failing))
        try:
            await asyncio.wait({task}, timeout=WAIT_SECONDS if method == "wait" else self.patience)
            if not task.done():
                # A wait goes on where nothing is pushed.
                return None if method == "wait" else TimeoutError("it does not end"), failing.injected
            return asyncio.CancelledError() if task.cancelled() else task.exception(), failing.injected
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if rail is not story.rail:
                await rail.__aexit__(None, None, None)


async def _run(work: Awaitable[Any]) -> None:
    await work


async def _work(story: ChainHarness, rail: RailAdapter, method: str) -> Awaitable[Any]:
    """One call of the method, not begun."""
    head = (await story.rail.heads()).latest
    watches = story.watch()
    match method:
        case "enter":
            return rail.__aenter__()
        case "leave":
            return rail.__aexit__(None, None, None)
        case "heads":
            return rail.heads()
        case "block_at":
            return rail.block_at(head.height)
        case "pending":
            return rail.pending(watches)
        case "wait":
            return rail.wait_for_change()
        case _:
            if head == story.start:
                await story.sim.mine(2)
                head = (await story.rail.heads()).latest
            watches = story.watch(await story.address())
            return rail.scan(Span(story.start, head, sparse=method == "look_back"), watches)

"""Lets a daemon stand still, as SIGSTOP does: between any two steps of its tasks, with whatever it holds at Postgres.

A task of a daemon is driven by one of ours, which asks before each step whether the daemon stands still. What reaches
it meanwhile (an answer, the end of a timeout, a cancellation) reaches it when it goes on. The other daemons, the nodes
and Postgres go on.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any


class Standstill:
    """Of one daemon. ``is_in_transaction``: whether it holds something at Postgres now."""

    def __init__(self, is_in_transaction: Callable[[], bool]) -> None:
        self._is_in_transaction = is_in_transaction
        self._is_stopped, self._within = False, False
        self._goes_on = asyncio.Event()
        self._left: int | None = None
        self._task = ""

    def stop_after(self, steps: int, *, within: bool, task: str = "") -> None:
        """Let the daemon's tasks take so many steps more, in all, and none then.

        ``within``: only steps within transactions are counted, so that it stops in one. ``task``: only the task of
        that name is counted, and stops, as one does that waits for a session while others go on.
        """
        self._left, self._within, self._task = steps, within, task
        self._goes_on.clear()

    def go_on(self) -> None:
        """Let the daemon go on where it stood, or forget that it is to stop."""
        self._left, self._is_stopped = None, False
        self._goes_on.set()

    @property
    def is_to_stop(self) -> bool:
        """Whether all of it stands still, or is about to."""
        return self._left is not None and not self._task

    async def has_stopped(self) -> bool:
        """Whether it stands still, if it was to."""
        return self._is_stopped or self._left is None

    def takes_a_step(self) -> bool:
        """Whether a task may go on; counts the step."""
        if self._left is None or (self._task and _chore.get() != self._task):
            return True
        if self._within and not self._is_stopped and not self._is_in_transaction():
            return True
        if self._left > 0:
            self._left -= 1
            return True
        self._is_stopped = True
        return False

    async def is_over(self) -> None:
        """Wait until the daemon may go on."""
        await self._goes_on.wait()


_of_this_daemon: ContextVar[Standstill | None] = ContextVar("standstill", default=None)
_chore: ContextVar[str] = ContextVar("chore", default="")
"""The name of a rail's task (`story.lookback`) in that task and in all that it starts."""


def start_with(standstill: Standstill, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a task that stands still when ``standstill`` says so, and with it every task that it starts."""
    asyncio.get_running_loop().set_task_factory(_task)
    context = copy_context()
    context.run(_of_this_daemon.set, standstill)
    return asyncio.create_task(work, name=name, context=context)


def _task(loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None, **more: Any) -> asyncio.Task[Any]:
    standstill = _of_this_daemon.get() if context is None else context.get(_of_this_daemon)
    driven = work if standstill is None else Driven(work, standstill)
    return asyncio.Task(driven, loop=loop, context=context, **more)


class Driven(Coroutine[Any, Any, Any]):
    """A coroutine that drives ``work``, a step at a time."""

    def __init__(self, work: Coroutine[Any, Any, Any], standstill: Standstill) -> None:
        self.work = work
        self._steps = _steps(work, standstill)
        self._has_begun = False

    def send(self, value: Any) -> Any:
        """Take the next step."""
        self._has_begun = True
        return self._steps.send(value)

    def throw(self, *failure: Any) -> Any:
        """Take the next step with a failure; before the first one it ends ``work``, which nobody has awaited yet."""
        return (self._steps if self._has_begun else self.work).throw(*failure)

    def close(self) -> None:
        """Give up."""
        self._steps.close()
        self.work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps


def _steps(work: Coroutine[Any, Any, Any], standstill: Standstill) -> Generator[Any, Any, Any]:
    failure: BaseException | None = None
    task = asyncio.current_task()
    if task is not None and "." in task.get_name():
        _chore.set(task.get_name())
    while True:
        while not standstill.takes_a_step():
            try:
                yield from standstill.is_over().__await__()
            except asyncio.CancelledError as cancelled:
                failure = cancelled
        try:
            awaited = work.send(None) if failure is None else work.throw(failure)
        except StopIteration as end:
            return end.value
        failure = None
        try:
            yield awaited
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the task's
            failure = raised

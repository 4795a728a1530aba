"""A request to end that is not lost, whatever fails at the same moment."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def in_own_task(work: Awaitable[Result]) -> Result:
    """Run ``work`` in a task of its own, and return its result or raise its failure.

    A cancellation of the caller ends ``work``, and is always raised. Before Python 3.13 an `asyncio.TaskGroup` one of
    whose tasks fails while it is cancelled raises that failure alone, and leaves `Task.cancelling` wrong: code that
    handles the failure and goes on would run for ever, and could not even ask whether it was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # It is raised below, unless a cancellation goes on: then it is discarded.
    return task.result()


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait until it has ended. Raises what it raised, but no cancellation except the caller's own."""
    task.cancel()
    # Not `await task`: its cancellation could not be distinguished from our own, which must go on.
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()

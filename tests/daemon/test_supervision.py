"""Tasks that start again whatever fails in them, and end when they are asked to."""

import asyncio

import pytest

from railwatch.supervision import keep_running


async def fails_when_it_is_cancelled() -> None:
    """Fail when cancelled, as the task of a lease does that is lost at that moment."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise ValueError("lost") from None


async def a_group() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fails_when_it_is_cancelled())


async def test_a_task_that_fails_while_it_is_asked_to_end_ends() -> None:
    """Before Python 3.13 a task group forgets the request and raises the failure alone."""
    work = asyncio.create_task(keep_running("work", a_group))
    await asyncio.sleep(0.01)
    work.cancel()
    done, _ = await asyncio.wait({work}, timeout=3)
    try:
        assert done == {work}
        assert work.cancelled()
    finally:
        while not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=0.2)


async def test_a_task_that_fails_starts_again_and_is_counted() -> None:
    counted: list[str] = []
    runs_again = asyncio.Event()

    async def act() -> None:
        if counted:
            runs_again.set()
            await asyncio.sleep(3600)
        raise ValueError("once")

    work = asyncio.create_task(keep_running("work", act, counted.append))
    async with asyncio.timeout(10):
        await runs_again.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert counted == ["work"]


async def test_a_failure_that_is_handled_leaves_nothing_like_a_request_to_end() -> None:
    """A rail whose lease was lost goes on: the group's own cancellations are not those of its caller."""
    counted: list[str] = []
    runs_again = asyncio.Event()

    async def group() -> None:
        if counted:
            runs_again.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails_when_it_is_cancelled())
            tasks.create_task(fails_at_once())

    async def fails_at_once() -> None:
        raise KeyError("lost")

    work = asyncio.create_task(keep_running("work", group, counted.append))
    async with asyncio.timeout(10):
        await runs_again.wait()
    assert work.cancelling() == 0
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

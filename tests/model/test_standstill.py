"""A daemon that stands still loses nothing of what reaches it meanwhile, and does nothing."""

import asyncio

from tests.model.standstill import Standstill, start_with


async def test_what_reaches_a_task_that_stands_still_reaches_it_when_it_goes_on() -> None:
    standstill, done, goes = Standstill(lambda: False), list[str](), asyncio.Event()
    told = asyncio.Event()

    async def child() -> None:
        try:
            async with asyncio.timeout(0.01):
                await goes.wait()
        except TimeoutError:
            done.append("timed out")
            raise ValueError("after that") from None

    async def work() -> None:
        try:
            await asyncio.create_task(child())
        except ValueError as failure:
            done.append(str(failure))
            told.set()
        await asyncio.sleep(3600)

    task = start_with(standstill, work(), "daemon")
    await asyncio.sleep(0)
    standstill.stop_after(0, within=False)
    await asyncio.sleep(0.02)
    assert await standstill.has_stopped()
    assert done == []
    standstill.go_on()
    await told.wait()
    assert done == ["timed out", "after that"]
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()

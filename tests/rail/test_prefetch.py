"""Prefetching: in order, bounded, and cancelled with its reader."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from railwatch.rail import BlockRef, RailUnavailable, Span
from railwatch.rail.prefetch import in_order, stretches


class Fetches:
    """Fetches that end when the test lets them."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.gates = {number: asyncio.Event() for number in range(10)}

    async def fetch(self, number: int) -> int:
        self.started.append(number)
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return number


async def test_chunks_come_in_order_however_they_end() -> None:
    fetches = Fetches()
    for gate in reversed(fetches.gates.values()):
        gate.set()
    assert [number async for number in in_order(range(10), fetches.fetch, 4)] == list(range(10))


async def test_no_more_are_under_way_than_allowed() -> None:
    fetches = Fetches()
    async with aclosing(in_order(range(10), fetches.fetch, 3)) as chunks:
        reading = asyncio.create_task(anext(chunks))
        await asyncio.sleep(0.01)
        assert fetches.started == [0, 1, 2]
        fetches.gates[0].set()
        assert await reading == 0
        assert fetches.started == [0, 1, 2]


async def test_a_reader_that_leaves_cancels_what_is_under_way() -> None:
    fetches = Fetches()
    fetches.gates[0].set()
    async with aclosing(in_order(range(10), fetches.fetch, 3)) as chunks:
        assert await anext(chunks) == 0
    assert fetches.cancelled == [1, 2]


async def test_a_cancelled_reader_cancels_what_is_under_way() -> None:
    fetches = Fetches()

    async def read() -> None:
        async with aclosing(in_order(range(10), fetches.fetch, 2)) as chunks:
            await anext(chunks)

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert fetches.cancelled == [0, 1]


async def test_a_failure_is_raised_in_its_turn() -> None:
    async def fetch(number: int) -> int:
        if number == 2:
            raise RailUnavailable("unavailable")
        return number

    async with aclosing(in_order(range(10), fetch, 4)) as chunks:
        assert [await anext(chunks), await anext(chunks)] == [0, 1]
        with pytest.raises(RailUnavailable):
            await anext(chunks)


def test_stretches_cover_a_span_at_the_width_of_the_moment() -> None:
    def block(height: int) -> BlockRef:
        return BlockRef(height, f"{height}", f"{height - 1}", datetime.now(UTC))

    widths = iter([1, 4, 100])
    assert list(stretches(Span(block(9), block(20)), lambda: next(widths))) == [(10, 10), (11, 14), (15, 20)]

"""Prefetching for long spans: fetch the next chunks while the caller decodes the present one."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from railwatch.rail.types import Span

__all__ = ["in_order", "stretches"]

Item = TypeVar("Item")
Chunk = TypeVar("Chunk")


async def in_order(
    items: Iterable[Item], fetch: Callable[[Item], Coroutine[Any, Any, Chunk]], ahead: int
) -> AsyncGenerator[Chunk, None]:
    """Yield what ``fetch`` returns for each item, in order, with at most ``ahead`` chunks under way or not yet used.

    An item is drawn only when its fetch starts, so it may depend on earlier chunks. A failed fetch raises in its turn.
    Close the generator (`contextlib.aclosing`) to cancel the fetches that are left.
    """
    left = iter(items)
    waiting: deque[asyncio.Task[Chunk]] = deque()
    try:
        while True:
            waiting.extend(asyncio.create_task(fetch(item)) for item in islice(left, ahead - len(waiting)))
            if not waiting:
                return
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def stretches(span: Span, width: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """Yield the heights of a span in stretches (first, last), each as wide as ``width`` says when it is drawn."""
    low = span.after.height + 1
    while low <= span.upto.height:
        high = min(span.upto.height, low + width() - 1)
        yield low, high
        low = high + 1

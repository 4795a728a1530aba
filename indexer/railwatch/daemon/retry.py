"""The retry policy of a rail's work: growing, jittered pauses while a node or Postgres is unavailable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from railwatch.rail import BlockGone, RailUnavailable
from railwatch.store.errors import BranchChanged, StoreUnavailable

Result = TypeVar("Result")

RETRYABLE = (RailUnavailable, BlockGone, StoreUnavailable, BranchChanged)
"""Errors that end by themselves."""

BACKOFF_MIN_SECONDS, BACKOFF_MAX_SECONDS = 0.1, 5.0
"""Upper bounds of the pause after the first failure, and of every pause."""


async def retry(
    work: Callable[[], Awaitable[Result]],
    before_pause: Callable[[BaseException], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """Return the result of ``work``, which runs again after each error in `RETRYABLE`; other errors end it.

    ``before_pause`` receives each of these errors. The pause after it is random, up to a bound that doubles each time.
    """

    async def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert error is not None
        await before_pause(error)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(RETRYABLE),
        wait=wait_random_exponential(multiplier=BACKOFF_MIN_SECONDS, max=BACKOFF_MAX_SECONDS),
        before_sleep=report,
        sleep=sleep,
    )
    async for attempt in retrying:
        with attempt:
            return await work()
    raise AssertionError("a retry ends only with a result or an error")

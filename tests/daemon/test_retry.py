"""The retry policy: which errors it retries, for how long it pauses, and what it reports."""

import asyncio

import pytest

from railwatch.daemon.retry import BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS, RETRYABLE, retry
from railwatch.rail import BlockGone, RailFault, RailUnavailable
from railwatch.store.errors import BranchChanged, LeaseLost, StoreUnavailable


class Work:
    """Work that raises the given errors in turn, and then returns 7."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.reported: list[BaseException] = []
        self.pauses: list[float] = []

    async def run(self) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 7

    async def report(self, error: BaseException) -> None:
        self.reported.append(error)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def retried(self) -> int:
        """Return the result of a retry that notes its pauses instead of waiting."""
        return await retry(self.run, self.report, self.sleep)


@pytest.mark.parametrize("kind", RETRYABLE)
async def test_an_error_that_ends_by_itself_is_reported_and_retried(kind: type[Exception]) -> None:
    first, second = kind("first"), kind("second")
    work = Work(first, second)
    assert await work.retried() == 7
    assert work.reported == [first, second]
    assert len(work.pauses) == 2


@pytest.mark.parametrize("error", [RailFault("undecodable"), LeaseLost("another daemon"), ValueError("defect")])
async def test_every_other_error_ends_the_work_at_once(error: Exception) -> None:
    work = Work(RailUnavailable("down"), error)
    with pytest.raises(type(error)) as raised:
        await work.retried()
    assert raised.value is error
    assert len(work.reported) == len(work.pauses) == 1


async def test_pauses_are_random_below_a_bound_that_doubles_up_to_a_maximum() -> None:
    work = Work(*[StoreUnavailable("down") for _ in range(40)])
    await work.retried()
    for attempt, pause in enumerate(work.pauses):
        assert 0 <= pause <= min(BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS * 2**attempt)
    assert len(set(work.pauses)) > 30
    assert max(work.pauses) > BACKOFF_MAX_SECONDS / 4


async def test_no_error_means_no_pause() -> None:
    work = Work()
    assert await work.retried() == 7
    assert (work.pauses, work.reported) == ([], [])


async def test_a_cancellation_ends_the_pause() -> None:
    work = Work(BlockGone("gone"), BranchChanged("rewound"))
    paused = asyncio.Event()

    async def report(error: BaseException) -> None:
        paused.set()

    async def slow() -> int:
        await asyncio.sleep(0)
        return await work.run()

    task = asyncio.create_task(retry(slow, report))
    await paused.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

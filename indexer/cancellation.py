"""A request to end that is not lost, whatever fails at the same moment."""

import asyncio


def heed_cancellation() -> None:
    """Raise `asyncio.CancelledError` if this task was asked to end and has not done so.

    Before Python 3.13 an `asyncio.TaskGroup` one of whose tasks fails while the group is cancelled raises that failure
    alone. Code that handles the failure and goes on would then run for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

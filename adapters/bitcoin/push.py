"""Being woken: by ZMQ where the node publishes, else by a long poll for blocks. Nothing that is pushed is believed.

ZMQ drops messages without a word (HAZARDS B15), and its counters begin anew with the node. A gap is therefore one more
reason to look, and nothing else: each look asks the node for all that counts.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from adapters.bitcoin.rpc import NodeRefused, Rpc
from indexer.rail import RailUnavailable

IDLE_SECONDS = 30.0
"""The longest that one wait takes on a chain where nothing happens."""

BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)

POLL_SECONDS = 2.0
"""How long the node is asked to hold one `waitfornewblock`: it does so to the end, also when nobody listens any more,
and it has few threads to hold it with."""

Follow = Callable[[Callable[[], None]], Awaitable[RailUnavailable]]
"""Follows the node's pushes, calling its argument at each, until they fail; says how. May raise `RailUnavailable`."""


class Tip(msgspec.Struct):
    """`waitfornewblock`: the newest block, whether it is new or the time is up."""

    hash: str


_tip = msgspec.json.Decoder(Tip)


class Push:
    """One following of a node, begun when somebody first waits, and again, after a pause, when it has failed."""

    def __init__(self, follow: Follow) -> None:
        self._follow = follow
        self._changed = asyncio.Event()
        self._task: asyncio.Task[RailUnavailable] | None = None
        self._failures = 0

    async def wait(self) -> None:
        """Return at the next push, or after `IDLE_SECONDS`. Raises `RailUnavailable` when the push has failed.

        What came between two waits is not lost. Several may wait; each is woken.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._changed.wait()
        self._changed.clear()
        task = self._task
        if task is not None and task.done():
            self._task = None
            raise await task

    async def close(self) -> None:
        """End the following, and release who waits. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _heard(self) -> None:
        self._failures = 0
        self._changed.set()

    async def _listen(self) -> RailUnavailable:
        """One life of the following, and how it ended. The next wait begins another."""
        try:
            await asyncio.sleep(BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)])
            self._failures += 1
            return await self._follow(self._heard)
        except RailUnavailable as error:
            return error
        finally:
            self._changed.set()


def long_poll(rpc: Rpc) -> Follow:
    """Blocks by `waitfornewblock`, for nodes that publish nothing. What waits in the mempool is found by the poll."""

    async def follow(heard: Callable[[], None]) -> RailUnavailable:
        seen = ""
        while True:
            try:
                answer = await rpc.call("waitfornewblock", int(POLL_SECONDS * 1000), longer=POLL_SECONDS)
                tip = answer.read(_tip).hash
            except NodeRefused as refused:
                return RailUnavailable(f"{rpc.name}: no zmq is configured, and {refused}")
            if tip != seen:
                # Also a block that came between two questions: it shows when the second one's time is up.
                seen = tip
                heard()

    return follow

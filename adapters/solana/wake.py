"""Being woken: ``slotSubscribe`` over a websocket of our own, never trusted with data.

It tells of slots as the node processes them, before they are confirmed; what comes in only sets an event, and blocks
are always asked for over HTTP. Pubsub cannot say which chain it is on: that too is asked over HTTP, with each `heads`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from adapters.solana.node import SolanaNode
from indexer.rail import RailUnavailable

PING_SECONDS = 5.0
SILENCE_SECONDS = 1.5
"""After so long without a push the slot is asked for over HTTP; if it moves and no push comes, it is a stall (E22)."""
IDLE_SECONDS = 30.0
"""The longest that one wait takes on a chain where nothing happens."""
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}'


class _Message(msgspec.Struct):
    """A reply has ``id`` and ``result``, a push has a method."""

    id: int | None = None
    result: int | None = None
    method: str = ""


_decoder = msgspec.json.Decoder(_Message)


class SlotPush:
    """One websocket, opened when somebody first waits and again, after a pause, when it has failed.

    ``slot`` asks for the newest confirmed slot over HTTP; raises `RailUnavailable`.
    """

    def __init__(self, node: SolanaNode, slot: Callable[[], Awaitable[int]]) -> None:
        self._url, self._name, self._timeout = node.ws or "", node.name, node.timeout
        self._slot = slot
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
        """End the websocket. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> RailUnavailable:
        """One life of the websocket, and how it ended. The next wait begins another."""
        try:
            await asyncio.sleep(BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)])
            self._failures += 1
            async with connect(
                self._url,
                open_timeout=self._timeout,
                close_timeout=1,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                max_size=None,
                proxy=None,
            ) as socket:
                await self._subscribe(socket)
                # A slot may have come before the subscription did.
                self._changed.set()
                return await self._follow(socket)
        except RailUnavailable as error:
            return error
        except (WebSocketException, OSError, TimeoutError, msgspec.DecodeError, ValueError) as error:
            # Its own words could hold the URL, and with it an API key.
            return RailUnavailable(f"{self._name}: the websocket failed: {type(error).__name__}")
        finally:
            self._changed.set()

    async def _subscribe(self, socket: ClientConnection) -> None:
        await socket.send(SUBSCRIBE, text=True)
        async with asyncio.timeout(self._timeout):
            while (message := _decoder.decode(await socket.recv())).id != 1:
                pass
        if message.result is None:
            raise RailUnavailable(f"{self._name}: the websocket refused slotSubscribe")

    async def _follow(self, socket: ClientConnection) -> RailUnavailable:
        """Set the event at each push, until slots are confirmed and nothing is pushed (E22); says so.

        A slot is pushed before it is confirmed. So if the first look after a silence finds one slot and the next
        another, that one's push should have been here long ago.
        """
        seen: int | None = None
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = _decoder.decode(await socket.recv())
            except TimeoutError:
                slot = await self._slot()
                if seen is not None and slot != seen:
                    return RailUnavailable(f"{self._name}: the websocket is silent, slot {slot} came after {seen}")
                seen = slot
                continue
            self._failures, seen = 0, None
            if message.method:
                self._changed.set()

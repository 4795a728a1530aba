"""Being woken: ``newHeads`` over a websocket of our own, never trusted with data.

web3's WebSocketProvider is not used: its concurrent requests return each other's results, and its reconnect gives up.
What comes in only sets an event; blocks are always fetched over HTTP.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from adapters.evm.node import EvmNode, check_chain
from indexer.rail import ChainId, RailUnavailable

PING_SECONDS = 5.0
SILENCE_SECONDS = 1.5
"""After so long without a push the head is asked for over HTTP; twice in a row, and it moved, is a stall (E22)."""
IDLE_SECONDS = 30.0
"""The longest that one wait takes on a chain where nothing happens."""
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


class _Head(msgspec.Struct):
    number: str


class _Params(msgspec.Struct):
    result: _Head


class _Message(msgspec.Struct):
    """A reply has ``id`` and ``result``, a push has ``params``."""

    id: int | None = None
    result: str | None = None
    params: _Params | None = None


_decoder = msgspec.json.Decoder(_Message)


class HeadPush:
    """One websocket, opened when somebody first waits and again, after a pause, when it has failed.

    ``height`` asks for the head over HTTP; raises `RailUnavailable`.
    """

    def __init__(self, node: EvmNode, chain_id: ChainId, height: Callable[[], Awaitable[int]]) -> None:
        self._url, self._name, self._timeout = node.ws or "", node.name, node.timeout
        self._chain_id, self._height = chain_id, height
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
                # A block may have come before the subscription did.
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
        """Compare the chain's id on this very connection (E23), then ask for heads."""
        check_chain(self._name, await self._call(socket, 1, "eth_chainId", []), self._chain_id)
        await self._call(socket, 2, "eth_subscribe", ["newHeads"])

    async def _call(self, socket: ClientConnection, number: int, method: str, params: list[str]) -> str:
        await socket.send(msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        async with asyncio.timeout(self._timeout):
            while (message := _decoder.decode(await socket.recv())).id != number:
                pass
        if message.result is None:
            raise RailUnavailable(f"{self._name}: the websocket refused {method}")
        return message.result

    async def _follow(self, socket: ClientConnection) -> RailUnavailable:
        """Set the event at each push, until the chain moves and nothing is pushed (E22); says so."""
        seen = await self._height()
        suspected = False
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = _decoder.decode(await socket.recv())
            except TimeoutError:
                height = await self._height()
                if height != seen and suspected:
                    return RailUnavailable(
                        f"{self._name}: the websocket is silent, and the head is {height} after {seen}"
                    )
                # The push of a block that came this very moment may still be on its way: look twice.
                suspected = height != seen
                continue
            self._failures, suspected = 0, False
            if message.params is not None:
                seen = int(message.params.result.number, 16)
            self._changed.set()

"""Being woken: ``slotSubscribe`` over a websocket of our own, never trusted with data.

It announces slots as the node processes them, before they are confirmed; what comes in only sets an event, and blocks
are always asked for over HTTP. Pubsub cannot say which chain it is on: that too is asked over HTTP, with each `heads`.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from railwatch.rail import RailUnavailable
from railwatch.rail.push import PushListener, Subscription
from railwatch.rail.transport import Socket
from railwatch.rail.websocket import websocket_subscription
from railwatch_solana.options import SolanaOptions

SILENCE_SECONDS = 1.5
"""After so long without a push the slot is asked for over HTTP; if it moves and no push comes, it is a stall (E22)."""
SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}'


class _Message(msgspec.Struct):
    """A reply has ``id`` and ``result``, a push has a method."""

    id: int | None = None
    result: int | None = None
    method: str = ""


_decoder = msgspec.json.Decoder(_Message)


class Slots:
    """The subscription to a node's slots. ``slot`` asks for the newest confirmed one; raises `RailUnavailable`."""

    def __init__(self, node: SolanaOptions, slot: Callable[[], Awaitable[int]]) -> None:
        self._url, self._name, self._timeout, self._options = node.ws or "", node.name, node.timeout, node.options
        self._slot = slot

    @property
    def follow(self) -> Subscription:
        """For `railwatch.rail.push.Push`."""
        return websocket_subscription(self._url, self._name, self._options, self._subscribe, self._read)

    async def _subscribe(self, socket: Socket) -> None:
        await socket.send(SUBSCRIBE, text=True)
        async with asyncio.timeout(self._timeout):
            while (message := _decoder.decode(await socket.recv())).id != 1:
                pass
        if message.result is None:
            raise RailUnavailable(f"{self._name}: the websocket refused slotSubscribe")

    async def _read(self, socket: Socket, listener: PushListener) -> RailUnavailable:
        """Ring at each push, until slots are confirmed and nothing is pushed (E22); says so.

        A slot is pushed before it is confirmed. So if the first check after a silence finds one slot and the next
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
            seen = None
            if message.method:
                listener.on_push()

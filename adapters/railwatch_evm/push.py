"""Being woken: ``newHeads`` over a websocket of our own, never trusted with data.

web3's WebSocketProvider is not used: its concurrent requests return each other's results, and its reconnect gives up.
What comes in only sets an event; blocks are always fetched over HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from railwatch.rail import ChainId, RailUnavailable
from railwatch.rail.decoding import bound_recursion, read_quantity
from railwatch.rail.push import PushListener, Subscription
from railwatch.rail.transport import Socket
from railwatch.rail.websocket import websocket_subscription
from railwatch_evm.options import EvmOptions, check_chain

SILENCE_SECONDS = 1.5
"""After so long without a push the head is asked for over HTTP; twice in a row, and it moved, is a stall (E22)."""


class _Head(msgspec.Struct):
    number: str | None = None


class _Params(msgspec.Struct):
    result: _Head | None = None


class _Message(msgspec.Struct):
    """A reply has ``id`` and ``result``, a push has ``params``."""

    id: int | None = None
    result: str | None = None
    params: _Params | None = None


_decoder = msgspec.json.Decoder(_Message)


class NewHeadsPush:
    """The subscription to a node's heads. ``height`` asks for the head over HTTP; raises `RailUnavailable`."""

    def __init__(self, node: EvmOptions, chain_id: ChainId, height: Callable[[], Awaitable[int]]) -> None:
        self._url, self._name, self._timeout, self._options = node.ws or "", node.name, node.timeout, node.options
        self._chain_id, self._height = chain_id, height

    @property
    def follow(self) -> Subscription:
        """For `railwatch.rail.push.Push`."""
        return websocket_subscription(self._url, self._name, self._options, self._subscribe, self._read)

    async def _subscribe(self, socket: Socket) -> None:
        """Compare the chain's id on this very connection (E23), then ask for heads."""
        check_chain(self._name, await self._call(socket, 1, "eth_chainId", []), self._chain_id)
        await self._call(socket, 2, "eth_subscribe", ["newHeads"])

    async def _call(self, socket: Socket, number: int, method: str, params: list[str]) -> str:
        await socket.send(msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        async with asyncio.timeout(self._timeout):
            while (message := _decoder.decode(await socket.recv())).id != number:
                pass
        if message.result is None:
            raise RailUnavailable(f"{self._name}: the websocket refused {method}")
        return message.result

    async def _read(self, socket: Socket, listener: PushListener) -> RailUnavailable:
        """Ring at each push, until the chain moves and nothing is pushed (E22); says so."""
        bound_recursion()
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
                # The push of a block that came this very moment may still be on its way: check twice.
                suspected = height != seen
                continue
            suspected = False
            if message.params is not None:
                head = message.params.result
                # What a push leaves out is asked for: it is a hint and no more.
                seen = read_quantity(head.number, f"{self._name}: a pushed head") if head and head.number else -1
                seen = seen if seen >= 0 else await self._height()
            listener.on_push()

"""One websocket: requests in, answers and notifications out, in order and without holding up anybody else."""

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import WSMsgType, web

from adapters.solana.devnode.errors import PARSE, RpcError
from adapters.solana.devnode.pubsub import Subscriber
from adapters.solana.devnode.rpc import answered, failure

BEHIND_MAX = 10_000
"""Messages that a reader may be behind before it is cut off."""


class Connection:
    """A client's socket. What is sent waits in a queue, so that a slow reader slows down only itself."""

    def __init__(
        self, socket: web.WebSocketResponse, subscribe: Callable[[Callable[[bytes], None]], Subscriber]
    ) -> None:
        self._socket = socket
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue(BEHIND_MAX + 1)
        self.subscriber = subscribe(self._put)

    async def serve(self) -> None:
        """Answer until the client goes, or falls too far behind."""
        writer = asyncio.create_task(self._write())
        try:
            async for message in self._socket:
                if message.type == WSMsgType.TEXT:
                    self._put(self._answer(message.data))
                    self.subscriber.after_answer()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def close(self) -> None:
        """Hang up."""
        await self._socket.close()

    def _answer(self, text: str) -> bytes:
        try:
            request = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return msgspec.json.encode(failure(None, RpcError(PARSE, "Parse error")))
        return msgspec.json.encode(answered(request, self.subscriber.methods))

    def _put(self, message: bytes) -> None:
        if self._out.qsize() < BEHIND_MAX:
            self._out.put_nowait(message)
        elif self._out.qsize() == BEHIND_MAX:
            self._out.put_nowait(None)

    async def _write(self) -> None:
        """Send what waits. A reader that is gone ends the reading side too, so nothing is to be done about it here."""
        try:
            while (message := await self._out.get()) is not None:
                await self._socket.send_str(message.decode())
        except ConnectionError:
            return
        await self._socket.close()

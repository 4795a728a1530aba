"""One websocket: requests in, answers and notifications out, in order and without delaying other connections."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
from aiohttp import WSMsgType, web

from railwatch_solana.dev.devnode.errors import RpcError
from railwatch_solana.dev.devnode.pubsub import Subscriber
from railwatch_solana.dev.devnode.rpc import answered, failure, parsed

CLOSE_SECONDS = 1.0


class Connection:
    """A client's socket. What is sent waits in a queue, so that a slow reader slows down only itself.

    ``behind_max`` is in bytes: a reader that is further behind is cut off, as by a real node.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        subscribe: Callable[[Callable[[bytes], None]], Subscriber],
        behind_max: int,
    ) -> None:
        self._socket, self._transport, self._behind_max = socket, transport, behind_max
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._behind = 0
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
        """Hang up, politely if the client listens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
        self._cut_off()

    def _answer(self, text: str) -> bytes:
        try:
            request = parsed(text.encode(errors="replace"))
        except RpcError as error:
            return msgspec.json.encode(failure(None, error))
        return msgspec.json.encode(answered(request, self.subscriber.methods))

    def _put(self, message: bytes) -> None:
        if self._behind > self._behind_max:
            self._cut_off()
            return
        self._behind += len(message)
        self._out.put_nowait(message)

    def _cut_off(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _write(self) -> None:
        """Send what waits. When the reader is gone, the reading side ends too, and there is nothing to do here."""
        with contextlib.suppress(ConnectionError):
            while True:
                message = await self._out.get()
                self._behind -= len(message)
                await self._socket.send_str(message.decode())

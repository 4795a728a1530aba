"""Two listeners on loopback: JSON-RPC over HTTP, pubsub over websocket."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from types import TracebackType
from typing import Self

from aiohttp import web

from railwatch_solana.dev.devnode.block import Block
from railwatch_solana.dev.devnode.chain import Commitment
from railwatch_solana.dev.devnode.connection import CLOSE_SECONDS, Connection
from railwatch_solana.dev.devnode.node import Node
from railwatch_solana.dev.devnode.pubsub import Subscriber
from railwatch_solana.dev.devnode.rpc import Rpc

LOOPBACK = "127.0.0.1"
BODY_MAX = 64 * 1024 * 1024
"""Bytes of a request: a batch of as many transactions as a block may hold."""
BEHIND_MAX = 128 * 1024 * 1024
"""Bytes of notifications that may wait for one subscriber."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = logging.getLogger(__name__)


class Server:
    """Serves a node, and with ``slot_ms`` produces its blocks by the clock. The ports are real ones after the start."""

    def __init__(
        self, node: Node, *, port: int = 0, ws_port: int = 0, slot_ms: int = 0, behind_max: int = BEHIND_MAX
    ) -> None:
        self._node, self._slot_ms, self._behind_max = node, slot_ms, behind_max
        self.rpc = Rpc(node)
        self._numbers = count(1)
        self._connections: set[Connection] = set()
        self._stack = AsyncExitStack()
        self.port, self.ws_port = port, ws_port

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._node.listeners.append(self._notify)
            stack.callback(self._node.listeners.remove, self._notify)
            self.port = await self._listen(stack, self.port, self._http)
            self.ws_port = await self._listen(stack, self.ws_port, self._websocket)
            stack.push_async_callback(self._hang_up)
            if self._slot_ms:
                clock = asyncio.create_task(self._produce())
                clock.add_done_callback(_report)
                stack.push_async_callback(_ended, clock)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: AsyncExitStack, port: int, handler: Handler) -> int:
        application = web.Application(client_max_size=BODY_MAX)
        application.router.add_route("*", "/", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, LOOPBACK, port).start()
        bound: int = runner.addresses[0][1]
        return bound

    async def _http(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, text="Used HTTP Method is not allowed. POST or OPTIONS is required\n")
        return web.Response(body=self.rpc.answer(await request.read()), content_type="application/json")

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=BODY_MAX, compress=False, timeout=CLOSE_SECONDS)
        await socket.prepare(request)
        connection = Connection(
            socket,
            request.transport,
            lambda send: Subscriber(self._node, self.rpc, send, self._numbers),
            self._behind_max,
        )
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
        return socket

    async def _hang_up(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def _notify(self, commitment: Commitment, block: Block) -> None:
        for connection in list(self._connections):
            connection.subscriber.notify(commitment, block)

    async def _produce(self) -> None:
        """Produce a block every ``slot_ms``. On a busy machine slots come late and not several at once."""
        loop, step = asyncio.get_running_loop(), self._slot_ms / 1000
        due = loop.time()
        while True:
            due = max(due + step, loop.time())
            await asyncio.sleep(due - loop.time())
            if not self.rpc.controls.paused:
                self._node.produce()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    """Report a clock that failed at once, for instance because the disk is full."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("no more blocks by the clock", exc_info=error)

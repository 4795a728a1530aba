"""A server whose every answer is one of the acts, by the seed and the number of the request."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.fuzz.receivers.acts import ACTS, Act
from tests.fuzz.receivers.wire import Wire

TARGET = re.compile(rb"POST (/\S*) ")
ID = re.compile(rb"\r\nwebhook-id: ([0-9a-f-]{36})\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass
class HostileReceiver:
    """Listens on loopback. ``acts``: what it may do. ``accepted``: path and id of what it answered with a 2xx."""

    seed: str
    acts: Sequence[Act] = ACTS
    accepted: set[tuple[str, str]] = field(default_factory=set)
    asked: int = 0
    done: Counter[str] = field(default_factory=Counter)
    port: int = 0
    last: str = "nothing"
    """The newest act."""
    _wires: set[Wire] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where events are to be posted."""
        return f"http://127.0.0.1:{self.port}/hook"

    def has_accepted(self, identity: str, path: str = "/hook") -> bool:
        """Whether a request was answered with a 2xx, also by an act that still goes on."""
        asked = (path, identity)
        return asked in self.accepted or any(each.asked == asked and each.has_accepted for each in self._wires)

    async def settled(self) -> None:
        """Wait until no unrequested answer is still to come."""
        await asyncio.gather(*(each.poisoned.wait() for each in self._wires))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, until the act or the deliverer ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        wire = Wire(reader, writer)
        self._wires.add(wire)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._answer(wire)
        finally:
            self._wires.discard(wire)
            writer.transport.abort()

    async def _answer(self, wire: Wire) -> None:
        await wire.read_body()
        head = await wire.reader.readuntil(b"\r\n\r\n")
        target, identity, length = TARGET.match(head), ID.search(head), LENGTH.search(head)
        assert target is not None
        assert identity is not None
        asked = (target[1].decode(), identity[1].decode())
        wire.body_bytes = int(length.group(1)) if length else 0
        dice = random.Random(f"{self.seed}/{self.asked}")
        self.asked += 1
        act = dice.choice(self.acts)
        self.last = act.__name__
        self.done[self.last] += 1
        wire.asked = asked
        wire.said.clear()
        try:
            await act(wire, dice)
        finally:
            if wire.has_accepted:
                self.accepted.add(asked)

    async def end(self) -> None:
        """Leave every connection."""
        for each in list(self._tasks):
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def hostile_receiver(seed: str, acts: Sequence[Act] = ACTS) -> AsyncIterator[HostileReceiver]:
    """Start one, and end it with all its connections."""
    made = HostileReceiver(seed, acts)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()

"""One connection of a hostile receiver, which writes down what it said to which request."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from dataclasses import dataclass, field

END = rb"\r?\n(?:[^\r\n]+\r?\n)*\r?\n"
ACCEPTED = re.compile(rb"\s*(?:HTTP/\d\.\d 1(?!01)\d\d[^\r\n]*" + END + rb")*HTTP/\d\.\d 2\d\d(?: [^\r\n]*)?" + END)
"""An answer that accepts: interim ones, then a whole head whose status is 2xx."""


@dataclass(slots=True, eq=False)
class Wire:
    """``said``: what was sent since this request was read, and counts as its answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked: tuple[str, str] = ("", "")
    """The request that is being answered: its path, and its id."""
    body_bytes: int = 0
    said: bytearray = field(default_factory=bytearray)
    poisoned: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while an unrequested answer is still to come."""

    def __post_init__(self) -> None:
        self.poisoned.set()

    @property
    def has_accepted(self) -> bool:
        """Whether the request was answered by a whole head with a status of 2xx."""
        return ACCEPTED.match(bytes(self.said[:200_000])) is not None

    async def read_body(self) -> None:
        """Read the request to its end."""
        await self.reader.readexactly(self.body_bytes)
        self.body_bytes = 0

    async def say(self, data: bytes, *, counts: int | None = None) -> None:
        """Send; of ``data`` the first ``counts`` bytes are the answer, by default all of it."""
        self._note(data[:counts])
        self.writer.write(data)
        await self.writer.drain()

    async def say_for_ever(self, data: bytes, *, pause: float = 0.0) -> None:
        """Send it again and again, until the other side has left."""
        while True:
            await self.say(data)
            await asyncio.sleep(pause)

    async def poison(self, data: bytes) -> None:
        """Send what is no answer to anything that was asked."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        finally:
            self.poisoned.set()

    async def close(self, *, reset: bool = False) -> None:
        """Close the connection; ``reset``: without a farewell."""
        if reset:
            handle = self.writer.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        self.writer.close()

    def _note(self, data: bytes) -> None:
        if len(self.said) < 200_000:
            self.said += data

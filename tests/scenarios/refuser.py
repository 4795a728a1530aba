"""A Postgres that refuses: between the daemon and the real one, it answers statements with errors, late, or never."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.scenarios.wire import Wire

FATAL = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300", "28P01", "3D000", "08006"})
"""SQLSTATEs after which Postgres ends the session. At a start it answers with some of them as well."""


class Refuser(Wire):
    """Passes everything on, and back, but what it refuses.

    ``code``: the SQLSTATE of the refusals, None: none. ``chance``: with which probability a statement is refused.
    ``answers``: while it is clear nothing is answered, and nothing closed. ``late``: seconds before each answer.
    ``refused`` counts refusals.
    """

    def __init__(self, folder: Path, dsn: str, *, seed: int = 0) -> None:
        super().__init__(folder, dsn)
        self.code: str | None = None
        self.chance = 1.0
        self.answers = asyncio.Event()
        self.answers.set()
        self.late = 0.0
        self.refused: Counter[str] = Counter()
        self._dice = random.Random(seed)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_writer = None
        try:
            with suppress(ConnectionError, FileNotFoundError, asyncio.IncompleteReadError, asyncio.CancelledError):
                size = await reader.readexactly(4)
                start = size + await reader.readexactly(int.from_bytes(size) - 4)
                if self.code in FATAL and self._refuses():
                    writer.write(_error(self.code))
                    await writer.drain()
                    return
                up_reader, up_writer = await self._open()
                up_writer.write(start)
                state = {"in transaction": False}
                back = asyncio.create_task(self._answers(up_reader, writer, state))
                try:
                    await self._questions(reader, writer, up_writer, state)
                finally:
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
        finally:
            for each in (writer, up_writer):
                if each is not None:
                    each.transport.abort()

    def _refuses(self) -> bool:
        if self.code is None or self._dice.random() >= self.chance:
            return False
        self.refused[self.code] += 1
        return True

    async def _questions(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
        state: dict[str, bool],
    ) -> None:
        """Pass on one question after the other, each up to its end, or refuse it whole. A rollback always passes."""
        question = b""
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
            question += head + body
            if head[:1] not in b"QSHXdcf":
                continue
            is_asked = head[:1] in b"QS" and not body.startswith(b"ROLLBACK")
            if is_asked and self._refuses():
                assert self.code is not None
                writer.write(_error(self.code))
                if self.code in FATAL:
                    await writer.drain()
                    return
                writer.write(b"Z\0\0\0\x05" + (b"E" if state["in transaction"] else b"I"))
            else:
                up_writer.write(question)
                await up_writer.drain()
            question = b""

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: dict[str, bool]
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
                if head[:1] == b"Z":
                    state["in transaction"] = body != b"I"
                    await asyncio.sleep(self.late)
                await self.answers.wait()
                writer.write(head + body)
                await writer.drain()
        writer.transport.abort()


def _error(code: str) -> bytes:
    severity = b"FATAL" if code in FATAL else b"ERROR"
    fields = b"S" + severity + b"\0V" + severity + b"\0C" + code.encode() + b"\0Mrefused for a test\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4) + fields

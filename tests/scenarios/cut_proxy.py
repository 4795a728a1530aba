"""A wire to Postgres that can be cut at the worst moment: after the question went through, before the answer comes."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

from tests.scenarios.wire import Wire

COMMIT = b"COMMIT"


class Cutter(Wire):
    """Passes everything on to Postgres, and back, until it cuts.

    ``commits`` and ``others``: with which probability the answer to a COMMIT, or to any other question, is lost
    together with the connection. ``cut`` counts how often that happened, by kind.

    Or at one moment, which `strike_at` chooses: then everything is cut, and stays so until `mend`, as for a daemon that
    dies there.
    """

    def __init__(self, folder: Path, dsn: str, *, seed: int = 0) -> None:
        super().__init__(folder, dsn)
        self.commits = self.others = 0.0
        self.cut = {"commit": 0, "other": 0}
        self.struck = asyncio.Event()
        self._strike_in, self._swallows = 0, False
        self._dice = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[int] = set()
        self._frozen: set[int] = set()

    def strike_at(self, commit: int, *, before: bool) -> None:
        """Cut everything at the n-th COMMIT from now: before Postgres hears it, or after it has done it."""
        self._strike_in, self._swallows = commit, before

    def freeze(self) -> None:
        """Let every packet of the connections that exist now vanish, as a firewall does that forgot them."""
        self._frozen |= self._passing

    def mend(self) -> None:
        """Let everything pass again."""
        self._strike_in = 0
        self.struck.clear()

    def _end_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers, number = {writer}, id(writer)
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, FileNotFoundError):
                if self.struck.is_set():
                    return
                up_reader, up_writer = await self._open()
                writers.add(up_writer)
                self._writers.add(up_writer)
                self._passing.add(number)
                doomed = asyncio.Event()
                async with asyncio.TaskGroup() as ways:
                    questions = ways.create_task(self._questions(reader, up_writer, doomed, number))
                    await self._answers(up_reader, writer, doomed, number)
                    questions.cancel()
        finally:
            for each in writers:
                each.transport.abort()
            self._writers -= writers

    async def _questions(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event, number: int
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            size = await reader.readexactly(4)
            writer.write(size + await reader.readexactly(int.from_bytes(size) - 4))
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
                if number in self._frozen:
                    continue
                kind = "commit" if head[:1] == b"Q" and body.startswith(COMMIT) else "other"
                chance = self.commits if kind == "commit" else self.others
                if head[:1] in b"QS" and self._dice.random() < chance:
                    self.cut[kind] += 1
                    doomed.set()
                if kind == "commit" and self._strikes():
                    self.cut[kind] += 1
                    doomed.set()
                    if self._swallows:
                        break
                writer.write(head + body)
                await writer.drain()
        if number in self._frozen:
            await asyncio.Event().wait()  # the server hears nothing of it, and keeps the session
        writer.transport.abort()  # the daemon is gone, and so is what waits for an answer

    def _strikes(self) -> bool:
        """Return True if this COMMIT is the one; all other connections end with it."""
        self._strike_in -= 1
        if self._strike_in != 0:
            return False
        self.struck.set()
        return True

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event, number: int
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if doomed.is_set():
                    return
                if number in self._frozen:
                    continue
                writer.write(data)
                await writer.drain()

"""A wire to Postgres that can be cut at the worst moment: after the question went through, before the answer comes."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

COMMIT = b"COMMIT"


class Cutter:
    """Listens on a unix socket of its own and passes everything on to Postgres, and back, until it cuts.

    ``commits`` and ``others``: with which probability the answer to a COMMIT, or to any other question, is lost
    together with the connection. ``cut`` counts how often that happened, by kind.

    Or at one moment, which `strike_at` chooses: then everything is cut, and stays so until `mend`, as for a daemon that
    dies there.
    """

    def __init__(self, folder: Path, dsn: str, *, seed: int = 0) -> None:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        self._socket = f".s.PGSQL.{query['port'][0]}"
        self._target = Path(query["host"][0]) / self._socket
        self._folder = folder
        self.dsn = dsn.replace(f"host={quote(query['host'][0], safe='')}", f"host={quote(str(folder), safe='')}")
        self.commits = self.others = 0.0
        self.cut = {"commit": 0, "other": 0}
        self.struck = asyncio.Event()
        self._strike_in, self._swallows = 0, False
        self._dice = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
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

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, str(self._folder / self._socket))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers = {writer}
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, FileNotFoundError):
                if self.struck.is_set():
                    return
                up_reader, up_writer = await asyncio.open_unix_connection(str(self._target))
                writers.add(up_writer)
                self._writers.add(up_writer)
                number = id(task)
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
        """Whether this COMMIT is the one; everybody else's connection ends with it."""
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

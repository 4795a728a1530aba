"""A unix socket between a daemon and the real Postgres, on which a test decides what passes."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit


class Wire:
    """Listens in ``folder`` and serves each connection in a task of its own. ``dsn`` leads through it."""

    def __init__(self, folder: Path, dsn: str) -> None:
        query = parse_qs(urlsplit(dsn).query)
        socket = f".s.PGSQL.{query['port'][0]}"
        self._target, self._path = Path(query["host"][0]) / socket, folder / socket
        self.dsn = dsn.replace(f"host={quote(query['host'][0], safe='')}", f"host={quote(str(folder), safe='')}")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._begin, str(self._path))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._end_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_all(self) -> None:
        """Have every connection end."""
        for task in self._tasks:
            task.cancel()

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the real server."""
        return await asyncio.open_unix_connection(str(self._target))

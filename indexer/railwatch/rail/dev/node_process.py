"""A development node that is one process and speaks JSON-RPC: started on loopback, or joined, and ended by its pid."""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import aiohttp
import msgspec

from railwatch.rail.demo import DemoError

__all__ = ["Joined", "NodeProcess", "demo_errors", "free_ports"]

CALL_SECONDS = 60.0
LOG_MAX = 1 << 16
"""Bytes of the log that are read for the line which says where the node listens."""
LAST_WORDS = 800
HEADERS = {"Content-Type": "application/json"}


class NodeProcess:
    """One node on loopback. A subclass says how it is started, and what its log says once it listens.

    Entering starts it; leaving kills it. ``error`` is raised where the node cannot be started, or refuses a call.
    """

    name: ClassVar[str]
    """As errors call it."""
    error: ClassVar[type[RuntimeError]]
    start_seconds: ClassVar[float]

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._log: IO[bytes] | None = None
        self.http = ""

    def command(self) -> Sequence[str]:
        """Return what runs the node in the foreground. Raises ``error`` if it is not on this machine."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str] | None:
        """Return the environment of the process; None is our own."""
        return None

    def listens(self, log: bytes) -> bool:
        """Return True if the log says that the node listens, and keep where."""
        raise NotImplementedError

    async def greet(self) -> None:
        """Make the first calls to a node that answers."""

    @property
    def pid(self) -> int:
        """The process, for tests that pause or kill it."""
        if self._process is None:
            raise self._not_running()
        return self._process.pid

    async def __aenter__(self) -> Self:
        try:
            await self._start()
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_SECONDS))
            await self._meet()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        process, self._process = self._process, None
        log, self._log = self._log, None
        try:
            if process is not None and process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            if session is not None:
                await session.close()
        finally:
            if log is not None:
                log.close()

    async def _start(self) -> None:
        """Run the process, and wait until it listens."""
        # A file and not a pipe: no process has to drain it, and the node cannot stall on a full one.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __aexit__)
        self._process = await asyncio.create_subprocess_exec(
            *self.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=self.environment(),
        )
        async with asyncio.timeout(self.start_seconds):
            await self._listening(self._process, self._log)

    async def _listening(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        """Return once the node listens. Raises ``error`` with its last words if it ends first."""
        while True:
            ended = process.returncode
            # pread leaves the offset alone that the child writes at.
            text = os.pread(log.fileno(), LOG_MAX, 0)
            if self.listens(text):
                return
            if ended is not None:
                words = text[-LAST_WORDS:].decode(errors="replace").strip()
                raise self.error(f"{self.name} ended with {ended}: {words}")
            await asyncio.sleep(0.005)

    async def _meet(self) -> None:
        await self.greet()

    async def rpc(self, method: str, *params: Any) -> Any:
        """Return the result of one call. Raises ``error`` if the node answers with an error."""
        return self._result(method, await self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return the results of many calls in one request, in order. Raises ``error`` for the first refused one."""
        if not calls:
            return []
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        replies = {reply["id"]: reply for reply in await self._post(body)}
        return [self._result(method, replies[number]) for number, (method, _) in enumerate(calls)]

    async def _post(self, body: object) -> Any:
        if self._session is None:
            raise self._not_running()
        async with self._session.post(self.http, data=msgspec.json.encode(body), headers=HEADERS) as response:
            return msgspec.json.decode(await response.read())

    def _result(self, method: str, reply: dict[str, Any]) -> Any:
        if "error" in reply:
            raise self.error(f"{method}: {reply['error'].get('message')} ({reply['error'].get('code')})")
        return reply.get("result")

    def _not_running(self) -> RuntimeError:
        return self.error(f"{self.name} is not running: enter it first")


class Joined(NodeProcess):
    """A mixin for a node that another process has started and will end: the node can outlive us.

    A subclass sets ``http`` when it is made.
    """

    async def _start(self) -> None:
        """Start nothing."""

    async def _meet(self) -> None:
        """Wait until the node answers."""
        until = time.monotonic() + self.start_seconds
        while True:
            try:
                await self.greet()
            except aiohttp.ClientConnectionError as refused:
                if time.monotonic() > until:
                    raise self.error(f"nothing answers at {self.http} after {self.start_seconds:.0f} s") from refused
                await asyncio.sleep(0.02)
            else:
                return


def free_ports(count: int) -> list[int]:
    """Return different ports of loopback that are free now.

    A node could choose its own, but then only its log would say which.
    """
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@asynccontextmanager
async def demo_errors(name: str, *errors: type[Exception]) -> AsyncIterator[None]:
    """Raise `DemoError` for what a node, or the way to it, has against a call."""
    expected: tuple[type[Exception], ...] = (*errors, aiohttp.ClientError, TimeoutError)
    try:
        yield
    except expected as error:
        raise DemoError(f"{name}: {type(error).__name__}: {error}") from error

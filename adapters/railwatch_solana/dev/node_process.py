"""The development node's process: started on loopback, spoken to, and ended by pid."""

import asyncio
import importlib
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import aiohttp
import msgspec

from railwatch import rail

START_SECONDS = 30.0
"""It listens after a second; a machine that is busy with a whole test run may be slower."""
CALL_SECONDS = 60.0
READY = re.compile(rb"ready http=(\S+) ws=(\S+)")
SOURCES = (str(Path(__file__).parents[1]), str(Path(rail.__file__).parents[2]))
"""Where the packages of the node and of the seam are imported from, for the process that runs the node."""


class DevnodeError(RuntimeError):
    """The development node could not be started, or refused a call: a mistake of the story, not of a rail."""


class DevnodeMissing(DevnodeError):
    """There can be no development node on this machine."""


def command(*arguments: str) -> tuple[str, ...]:
    """How the node is started. Raises `DevnodeMissing` where its virtual machine is not in the installed solders."""
    try:
        importlib.import_module("solders.litesvm")
    except ImportError as error:
        raise DevnodeMissing(f"the Solana development node needs solders with LiteSVM: {error}") from error
    return (sys.executable, "-m", "railwatch_solana.dev.devnode", *arguments)


class Devnode:
    """One node on loopback. Port 0 lets the kernel choose, so that two nodes can never clash."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self._arguments = ("--port", str(port), *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._log: IO[bytes] | None = None
        self.http = self.ws = ""

    @property
    def pid(self) -> int:
        """The process, for tests that pause or kill it."""
        if self._process is None:
            raise DevnodeError("the development node is not running: enter it first")
        return self._process.pid

    async def __aenter__(self) -> Self:
        # A file and not a pipe: no process has to drain it, and the node cannot stall on a full one.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __aexit__)
        paths = os.pathsep.join(filter(None, (*SOURCES, os.environ.get("PYTHONPATH"))))
        self._process = await asyncio.create_subprocess_exec(
            *command(*self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": paths},
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                self.http, self.ws = await self._listening()
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_SECONDS))
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

    async def _listening(self) -> tuple[str, str]:
        """Where, once the node says that it listens. Raises `DevnodeError` with its last words if it ends first."""
        assert self._process is not None
        assert self._log is not None
        while True:
            ended = self._process.returncode
            # pread leaves the offset alone that the child writes at.
            text = os.pread(self._log.fileno(), 1 << 16, 0)
            if match := READY.search(text):
                return match[1].decode(), match[2].decode()
            if ended is not None:
                words = text[-800:].decode(errors="replace").strip()
                raise DevnodeError(f"the development node ended with {ended}: {words}")
            await asyncio.sleep(0.005)

    async def rpc(self, method: str, *params: Any) -> Any:
        """One call. Raises `DevnodeError` if the node answers with an error."""
        if self._session is None:
            raise DevnodeError("the development node is not running: enter it first")
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self.http, data=body, headers=headers) as response:
            reply = msgspec.json.decode(await response.read())
        if "error" in reply:
            raise DevnodeError(f"{method}: {reply['error'].get('message')} ({reply['error'].get('code')})")
        return reply.get("result")

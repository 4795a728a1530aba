"""The anvil process: found, started on loopback, spoken to, and ended by pid."""

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import aiohttp
import msgspec

START_SECONDS = 20.0
"""Anvil listens after 0.05 s; a machine that is busy with a whole test run may be slower."""
CALL_SECONDS = 60.0
LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")


class AnvilError(RuntimeError):
    """The development node could not be found or started, or refused a call: a mistake of the story, not of a rail."""


class AnvilMissing(AnvilError):
    """There is no development node on this machine."""


def find_anvil() -> Path:
    """Return the binary: from PATH, RAILWATCH_ANVIL, or where ``make setup`` puts it below the cwd.

    Raises `AnvilMissing`.
    """
    found = shutil.which("anvil") or os.environ.get("RAILWATCH_ANVIL")
    path = Path(found) if found else Path.cwd() / ".dev" / "anvil" / "bin" / "anvil"
    if not os.access(path, os.X_OK):
        raise AnvilMissing(
            f"no anvil on PATH and none at {path}: run `make setup`, or let RAILWATCH_ANVIL name the binary"
        )
    return path


class Anvil:
    """One anvil on loopback. ``port`` None lets the kernel choose, so that two nodes can never clash."""

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        self._arguments = ("--host", "127.0.0.1", "--port", str(port or 0), *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._log: IO[bytes] | None = None
        self.port = port or 0

    @property
    def http(self) -> str:
        """Where JSON-RPC is served; the websocket is on the same port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process, for tests that pause or kill it."""
        if self._process is None:
            raise AnvilError("anvil is not running: enter it first")
        return self._process.pid

    async def __aenter__(self) -> Self:
        binary = find_anvil()
        # A file and not a pipe: no process has to drain it, and the node cannot stall on a full one.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __aexit__)
        self._process = await asyncio.create_subprocess_exec(
            binary, *self._arguments, stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        try:
            self.port = await asyncio.wait_for(self._listening(), START_SECONDS)
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_SECONDS))
            # One line of log per call costs more than most of the calls.
            await self.rpc("anvil_setLoggingEnabled", False)
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

    async def _listening(self) -> int:
        """Return the port, once the node listens. Raises `AnvilError` with its last words if it ends first."""
        assert self._process is not None
        assert self._log is not None
        while True:
            ended = self._process.returncode
            # pread leaves the offset alone that the child writes at.
            text = os.pread(self._log.fileno(), 1 << 16, 0)
            if match := LISTENING.search(text):
                return int(match[1])
            if ended is not None:
                raise AnvilError(f"anvil ended with {ended}: {text[-400:].decode(errors='replace').strip()}")
            await asyncio.sleep(0.005)

    async def rpc(self, method: str, *params: Any) -> Any:
        """One call. Raises `AnvilError` if the node answers with an error."""
        (result,) = await self.batch([(method, params)])
        return result

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Many calls in one request; their results in order. Raises `AnvilError` for the first that was refused."""
        if not calls:
            return []
        if self._session is None:
            raise AnvilError("anvil is not running: enter it first")
        body = msgspec.json.encode(
            [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                for number, (method, params) in enumerate(calls)
            ]
        )
        async with self._session.post(self.http, data=body, headers={"Content-Type": "application/json"}) as response:
            replies = {reply["id"]: reply for reply in msgspec.json.decode(await response.read())}
        return [_result(method, replies[number]) for number, (method, _) in enumerate(calls)]


def _result(method: str, reply: dict[str, Any]) -> Any:
    if "error" in reply:
        raise AnvilError(f"{method}: {reply['error'].get('message')} ({reply['error'].get('code')})")
    return reply.get("result")

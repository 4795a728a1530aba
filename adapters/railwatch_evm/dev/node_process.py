"""The anvil process: found, started on loopback, spoken to, and ended by its pid."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from railwatch.rail.dev.node_process import Joined, NodeProcess

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


class Anvil(NodeProcess):
    """One anvil on loopback. ``port`` None lets the kernel choose, so that two nodes can never clash.

    JSON-RPC is served at ``http``; the websocket is on the same port.
    """

    name = "anvil"
    error = AnvilError
    start_seconds = 20.0
    """Anvil listens after 0.05 s; a machine that is busy with a whole test run may be slower."""

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        super().__init__()
        self._arguments = ("--host", "127.0.0.1", "--port", str(port or 0), *arguments)
        self.http = f"http://127.0.0.1:{port or 0}"

    def command(self) -> Sequence[str]:
        """Return what runs anvil. Raises `AnvilMissing`."""
        return (str(find_anvil()), *self._arguments)

    def listens(self, log: bytes) -> bool:
        """Return True if anvil has said on which port it listens."""
        if (match := LISTENING.search(log)) is None:
            return False
        self.http = f"http://127.0.0.1:{int(match[1])}"
        return True

    async def greet(self) -> None:
        """Stop the log: one line for each call costs more than most of the calls."""
        await self.rpc("anvil_setLoggingEnabled", False)


class RunningAnvil(Joined, Anvil):
    """An anvil that the demo has started and will end, and whose log is a file."""

"""The development node's process: started on loopback, spoken to, and ended by its pid."""

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from railwatch import rail
from railwatch.rail.dev.node_process import Joined, NodeProcess

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


class Devnode(NodeProcess):
    """One node on loopback. Port 0 lets the kernel choose, so that two nodes can never clash."""

    name = "the development node"
    error = DevnodeError
    start_seconds = 30.0
    """It listens after a second; a machine that is busy with a whole test run may be slower."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        super().__init__()
        self._arguments = ("--port", str(port), *arguments)
        self.ws = ""

    def command(self) -> Sequence[str]:
        """Return what runs the node. Raises `DevnodeMissing`."""
        return command(*self._arguments)

    def environment(self) -> Mapping[str, str]:
        """Return ours, with the places of our packages in front of its Python path."""
        paths = os.pathsep.join(filter(None, (*SOURCES, os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": paths}

    def listens(self, log: bytes) -> bool:
        """Return True if the node has said where it listens."""
        if (match := READY.search(log)) is None:
            return False
        self.http, self.ws = match[1].decode(), match[2].decode()
        return True


class RunningDevnode(Joined, Devnode):
    """A node that the demo has started and will end, and whose log is a file. It produces only what we order."""

    def __init__(self, port: int, ws_port: int) -> None:
        super().__init__(port=port)
        self.http, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{ws_port}"

    async def greet(self) -> None:
        """Stop its own production of slots."""
        await self.rpc("devPause")

"""The processes of a demo: the nodes and the daemon, each with a log of its own, and ended by pid whatever happens."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from railwatch.rail.demo import DemoError

END_SECONDS = 10.0
"""Before a process that was asked to end is killed."""
LOOK_SECONDS = 0.02
TAIL_LINES = 20
TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Process:
    """One running program. What it says, on either stream, is in ``log``."""

    name: str
    log: Path
    child: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id, and that of its session."""
        return self.child.pid

    def tail(self) -> str:
        """Return the last lines of the log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (negative: by that signal), and after how many seconds."""

    code: int
    seconds: float


@dataclass(slots=True)
class ProcessGroup:
    """All processes of one demo. Leaving the context ends them, the newest first, unless they were left running."""

    folder: Path
    running: list[Process] = field(default_factory=list)

    async def __aenter__(self) -> "ProcessGroup":
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in reversed(self.running.copy()):
            await self.end(process)

    def start(self, name: str, command: Sequence[str]) -> Process:
        """Start a program whose output goes to ``folder/name.log``. Raises `DemoError` if it cannot be.

        It gets a session of its own, so that Ctrl-C reaches only us and everything ends in order. Not asyncio's own
        subprocess: that one is killed when its transport is collected, and ``--keep`` lets processes outlive us.
        """
        if any(process.name == name for process in self.running):
            raise DemoError(f'two programs are called "{name}", so they would write into one log')
        path = self.folder / f"{name}.log"
        try:
            with path.open("wb") as log:
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise DemoError(f"{name} cannot be started: {error}") from error
        process = Process(name, path, child)
        self.running.append(process)
        return process

    async def end(self, process: Process) -> Ended:
        """Ask a process to end, and kill it if it does not. It may have ended before."""
        begun = time.monotonic()
        self.running.remove(process)
        if process.child.poll() is None:
            process.child.send_signal(signal.SIGTERM)
        try:
            while time.monotonic() - begun < END_SECONDS:
                if process.child.poll() is not None:
                    break
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            # Also when we are cancelled meanwhile: whatever happens, it does not outlive us.
            if process.child.poll() is None:
                process.child.kill()
            code = process.child.wait()
        return Ended(code, time.monotonic() - begun)

    def check(self) -> None:
        """Raise `DemoError`, with its last words, if any of them has ended by itself."""
        for process in self.running:
            code = process.child.poll()
            if code is not None:
                raise DemoError(
                    f"{process.name} ended by itself with {code}; the end of {process.log}:\n{process.tail()}"
                )

    async def guard(self) -> None:
        """`check` for as long as they should run: never returns."""
        while True:
            self.check()
            await asyncio.sleep(LOOK_SECONDS)

    def leave_running(self) -> list[Process]:
        """Leave them running for the operator; returns them, the oldest first."""
        kept, self.running = self.running, []
        return kept

"""What a hostile answer costs: the most memory, and the longest time for which the loop did nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

TICK = 0.005


def peak_mib() -> float:
    """The most resident memory since `forget_peak`, in MiB."""
    return _status("VmHWM")


def resident_mib() -> float:
    """Resident memory now, in MiB."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Begin to measure the peak anew, where Linux lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))


class LoopWatch:
    """Watches the loop. ``longest``: seconds between two turns, as far as this process itself worked meanwhile.

    What other processes took of the machine is no stall of ours, so the process's CPU time is the bound.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopWatch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self) -> float:
        """The longest since the last time that this was asked."""
        longest, self.longest = self.longest, 0.0
        return longest

    async def _watch(self) -> None:
        while True:
            wall, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, min(time.monotonic() - wall - TICK, time.process_time() - cpu))

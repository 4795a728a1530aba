"""What a hostile answer costs: the most memory, and the longest time for which the loop did nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from pathlib import Path

TICK = 0.005
LATE = 0.15
"""Seconds after which a turn is late enough to sample the loop's stack."""


def peak_mib() -> float:
    """Return the most resident memory since `forget_peak`, in MiB."""
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

    Time that other processes used is no stall of ours, so the process's CPU time is the bound. ``where``: the
    innermost lines of our own code at which the loop was seen to be stuck, by another thread.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.where = ""
        self._turned = time.monotonic()
        self._ended = threading.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopWatch:
        self._task = asyncio.create_task(self._watch())
        self._turned = time.monotonic()
        threading.Thread(target=self._look, args=(threading.get_ident(),), daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            wall, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK)
            self._turned = time.monotonic()
            self.longest = max(self.longest, min(self._turned - wall - TICK, time.process_time() - cpu))

    def _look(self, loop: int) -> None:
        while not self._ended.wait(LATE / 3):
            if time.monotonic() - self._turned > LATE and (frame := sys._current_frames().get(loop)) is not None:
                stack = traceback.extract_stack(frame)[-1:-9:-1]
                self.where = " < ".join(f"{'/'.join(Path(each.filename).parts[-2:])}:{each.lineno}" for each in stack)

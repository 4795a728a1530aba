"""``make siege``: a quiet run and a run under siege with the same seed, and a table of both."""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from railwatch.daemon.supervisor import tune_process
from tests.fuzz.nodes.monitor import resident_mib
from tests.siege.attackers import Attackers
from tests.siege.grounds import Grounds, grounds
from tests.siege.merchants import Merchants

QUIET_SHARE = 0.2
"""Of the time that is given, the share of the quiet run."""
ORDER_EVERY = 2.0
WAIT_MOST = 1.0
"""Seconds from registration to watching within which 95 of 100 orders must get there, under siege."""
SLOPE_MOST = 3.0
"""MiB a minute by which memory may grow in the second half of the siege."""
GROWTH_MOST = 24.0
"""MiB that it may grow there in all, where the half is short."""


@dataclass(slots=True)
class Outcome:
    """One run."""

    ledger: dict[str, tuple[Any, ...]]
    waits: list[float]
    calls: list[float]
    processor: tuple[float, float]
    """Seconds that this process ran, and that it waited for a processor, of the seconds of the run."""
    seconds: float
    memory: list[tuple[float, float]]
    failed: list[str]
    done: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def p95(self) -> float:
        """Seconds."""
        return _p95(self.waits)

    def where_it_waited(self) -> str:
        """Of a registration, the call and the rest; of this process, what kept it from running."""
        ran, waited = self.processor
        rest = [whole - call for whole, call in zip(self.waits, self.calls, strict=True)]
        return (
            f"p50 {statistics.median(self.waits):.3f} s, p95 {self.p95:.3f} s; p95 of the call alone "
            f"{_p95(self.calls):.3f} s, from there to watched {_p95(rest):.3f} s; this process (daemon, merchants and "
            f"attackers) ran for {ran / self.seconds:.0%} of the time, and waited for a processor for "
            f"{waited / self.seconds:.0%}"
        )

    def slope(self) -> tuple[float, float]:
        """MiB a minute in the second half, by least squares, and MiB in all that this makes of it."""
        half = self.memory[len(self.memory) // 2 :]
        if len(half) < 2:
            return 0.0, 0.0
        line = statistics.linear_regression([at for at, _ in half], [mib for _, mib in half])
        return line.slope * 60, line.slope * (half[-1][0] - half[0][0])


async def run(seed: int, orders: int, seconds: float, *, hostile: bool) -> Outcome:
    """One run, on grounds of its own."""
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(grounds(hostile=hostile))
        merchants = Merchants(ground, seed)
        attackers = Attackers(ground, merchants, seed)
        memory: list[tuple[float, float]] = []
        begun, processor = time.monotonic(), _processor()
        acts: list[Coroutine[Any, Any, None]] = [ground.keep_daemon(), _mine(ground), _measure(memory)]
        if hostile:
            acts += [ground.turn_nodes(seed), *(act() for act in attackers.all())]
        tasks = [asyncio.create_task(act) for act in acts]
        try:
            await ground.ready()
            await merchants.sell(orders, seconds)
            ledger = await merchants.ledger()
        finally:
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    ground.failed.append(f"a part of the siege itself ended: {error!r}")
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        ran, waited = (after - before for after, before in zip(_processor(), processor, strict=True))
        return Outcome(
            ledger,
            merchants.waits,
            merchants.calls,
            (ran, waited),
            time.monotonic() - begun,
            memory,
            ground.failed,
            dict(attackers.done),
            dict(attackers.refused),
        )


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else float("inf")


def _processor() -> tuple[float, float]:
    """Seconds that the main thread has run, and that it was ready to run and did not (Linux: sched-stats.rst)."""
    ran, waited, _ = Path("/proc/self/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


async def _mine(ground: Grounds) -> None:
    while True:
        async with ground.turning:
            for sim in ground.sims.values():
                await sim.mine()
        await asyncio.sleep(1.0)


async def _measure(memory: list[tuple[float, float]]) -> None:
    begun = time.monotonic()
    while True:
        memory.append((time.monotonic() - begun, resident_mib()))
        await asyncio.sleep(1.0)


def compare(quiet: Outcome, siege: Outcome) -> tuple[str, bool]:
    """The table, and whether all of it is as it must be."""
    slope, growth = siege.slope()
    different = sorted(
        order
        for order in quiet.ledger.keys() | siege.ledger.keys()
        if quiet.ledger.get(order) != siege.ledger.get(order)
    )
    rows = [
        ("orders in the ledger", len(quiet.ledger), len(siege.ledger), "", True),
        ("orders that differ", "", len(different), "0", not different),
        (
            "registered to watched, p95",
            f"{quiet.p95:.3f} s",
            f"{siege.p95:.3f} s",
            f"{WAIT_MOST:g} s",
            siege.p95 < WAIT_MOST,
        ),
        ("memory at the end", f"{quiet.memory[-1][1]:.0f} MiB", f"{siege.memory[-1][1]:.0f} MiB", "", True),
        (
            "memory's slope, second half",
            f"{quiet.slope()[0]:+.1f} MiB/min",
            f"{slope:+.1f} MiB/min",
            f"{SLOPE_MOST:g}, or {GROWTH_MOST:g} MiB in all",
            slope < SLOPE_MOST or growth < GROWTH_MOST,
        ),
        ("what failed", len(quiet.failed), len(siege.failed), "0", not quiet.failed and not siege.failed),
    ]
    lines = [f"{'':30} {'quiet':>16} {'siege':>16}   at most"]
    lines += [
        f"{name:30} {one!s:>16} {two!s:>16}   {most:24} {'' if ok else 'FAILED'}" for name, one, two, most, ok in rows
    ]
    lines += [
        f"  order {order}: {quiet.ledger.get(order)} became {siege.ledger.get(order)}" for order in different[:20]
    ]
    lines += [f"registration, quiet: {quiet.where_it_waited()}", f"registration, siege: {siege.where_it_waited()}"]
    lines += [f"  {what}" for what in [*quiet.failed, *siege.failed][:20]]
    lines += [f"done: {siege.done}", f"refused, by SQLSTATE: {siege.refused}"]
    return "\n".join(lines), all(ok for *_, ok in rows)


async def main() -> int:
    """Besiege, report, and return the number for the shell."""
    parser = argparse.ArgumentParser(prog="make siege ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hours", type=float, default=None, help="instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", action="store_true", help="show the daemon's log")
    options = parser.parse_args()
    level = logging.INFO if options.log else logging.CRITICAL
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    tune_process()  # as the daemon does at its start
    seconds = (options.hours * 60 if options.hours else options.minutes) * 60
    spread = seconds * (1 - QUIET_SHARE)
    orders = max(10, int(spread / ORDER_EVERY))
    quiet = await run(options.seed, orders, seconds * QUIET_SHARE, hostile=False)
    siege = await run(options.seed, orders, spread, hostile=True)
    table, good = compare(quiet, siege)
    print(table, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""Catching up: a long chain into Postgres, next to the bare fetch with typed decoding of the same blocks."""

import asyncio
import time
from collections.abc import Sequence

import pytest

import railwatch.daemon.watch.watchlist as watchlist
from railwatch.daemon.watch.address_index import AddressIndex
from tests.bench.bench_env import BenchEnv, decoys, until
from tests.bench.floor import Floor
from tests.bench.report import Row, median

BATCH = 250
"""Blocks that the bare client asks for at once."""


async def bare(stand: BenchEnv, low: int, high: int) -> tuple[float, int]:
    """Seconds and logs of the bare fetch, two requests at a time, so that the node never waits for the client."""
    async with Floor(stand) as floor:
        started = time.perf_counter()
        spans = [(at, min(high, at + BATCH - 1)) for at in range(low, high + 1, BATCH)]
        logs = 0
        for pair in (spans[at : at + 2] for at in range(0, len(spans), 2)):
            logs += sum(await asyncio.gather(*(floor.fetch_span(*span) for span in pair)))
        return time.perf_counter() - started, logs


async def ours(stand: BenchEnv, start: int, tip: int) -> float:
    """Seconds from the rail's first block to the committed tip; the ledger is emptied first."""
    await stand.forget()
    async with stand.daemon(start_height=start + 1):
        await until(lambda: stand.reached(start))
        started = time.perf_counter()
        await until(lambda: stand.reached(tip))
        return time.perf_counter() - started


async def backfill(stand: BenchEnv, start: int, tip: int, shape: str, budget: float) -> Row:
    """The chain of the budget: ten transfers a block, each to a watched address. ``budget``: in seconds."""
    transfers = (tip - start) * 10
    spent = median([await ours(stand, start, tip) for _ in range(3)])
    floor = median([(await bare(stand, start + 1, tip))[0] for _ in range(3)])
    seen = await stand.database.value("select count(*) from railwatch.detections")
    assert seen >= transfers, f"{seen} of {transfers} transfers were recorded"
    return Row(
        f"{tip - start:,} blocks, {transfers:,} watched transfers into Postgres: {shape}",
        f"{spent:.2f} s",
        f"{floor:.2f} s (bare fetch + decode)",
        f"{budget:.1f} s",
        spent <= budget,
    )


async def among_a_million(stand: BenchEnv, start: int, tip: int, addresses: Sequence[str], watched: int) -> Row:
    """Blocks of ten transfers, of which hardly any is ours, while a million addresses are watched."""
    index = AddressIndex(watched + len(addresses))
    decoys(index, watched)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(watchlist, "AddressIndex", lambda expected=0: index)
        spent = median([await ours(stand, start, tip) for _ in range(3)])
    floor, logs = await bare(stand, start + 1, tip)
    floor = median([floor, *[(await bare(stand, start + 1, tip))[0] for _ in range(2)]])
    share = floor / spent
    return Row(
        f"catch-up: {tip - start:,} blocks, {logs:,} transfers, {watched:,} addresses watched",
        f"{spent:.2f} s",
        f"{floor:.2f} s (bare fetch + decode)",
        "80% of the floor's rate",
        share >= 0.8,
    )

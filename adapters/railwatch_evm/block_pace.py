"""How often a chain has blocks, from their own times: what an hour is in blocks, and how often it is worth asking."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from railwatch.rail import BlockRef

if TYPE_CHECKING:
    from railwatch_evm.block_source import BlockSource

BACK = 128
"""Blocks below the head over which the time between blocks is measured."""
HOUR_AND_A_TENTH = 3_960.0
"""Seconds that the look-back covers at least on a known chain, as its number in `known_chains.toml` does."""
HOUR_AND_A_HALF = 5_400.0
"""Seconds that the look-back covers on a chain of which nothing else is known: an hour, and a half for faster days."""
LOOKBACK_LEAST, LOOKBACK_MOST = 300, 100_000
SLOTS_A_POLL = 3
"""Blocks that come between two questions to an endpoint that counts them: its logs are then asked for together."""
POLL_LEAST, POLL_MOST = 1.0, 36.0
"""Seconds between two questions to such an endpoint, at least and at most."""


async def block_seconds(source: BlockSource) -> float | None:
    """Return the average seconds between two of the newest blocks; None on a chain that is too short to measure.

    Raises `RailUnavailable` if the node does not answer.
    """
    newest = await source.at("latest")
    if newest is None or newest.height < 2:
        return None
    older: BlockRef | None = await source.at(hex(max(1, newest.height - BACK)))
    if older is None or older.height >= newest.height:
        return None
    seconds = (newest.time - older.time).total_seconds() / (newest.height - older.height)
    return seconds if seconds > 0 else None


def lookback_of(seconds: float, known: int | None = None) -> int:
    """Return how many blocks a registration looks back on a chain with a block in so many seconds.

    ``known``: what covers an hour at the pace that the chain is known for. It may have become faster since.
    """
    if known is not None:
        return min(LOOKBACK_MOST, max(known, math.ceil(HOUR_AND_A_TENTH / seconds)))
    return min(LOOKBACK_MOST, max(LOOKBACK_LEAST, math.ceil(HOUR_AND_A_HALF / seconds)))


def poll_of(seconds: float | None) -> float:
    """Return how often to ask an endpoint that counts what it is asked, in seconds."""
    return POLL_MOST if seconds is None else min(POLL_MOST, max(POLL_LEAST, SLOTS_A_POLL * seconds))

"""One configured node: entered when it is needed, left when it fails, and given time to come back."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from indexer.rail import RailAdapter, RailError, RailUnavailable

REST_FIRST, REST_MOST = 0.2, 10.0
"""Seconds that a failing node rests, at first and at most; jittered, so that many daemons do not return as one."""


@dataclass(slots=True)
class Node:
    """One configured node and how it has fared. ``adapter`` is entered; None while it is not."""

    name: str
    open: Callable[[], RailAdapter]
    failures: int = 0
    rests_until: float = 0.0
    adapter: RailAdapter | None = None
    contradicts: bool = False
    coming: asyncio.Task[None] | None = None
    """Its being entered as a witness, beside everything else; the last such attempt when that is done."""
    entering: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def enter(self) -> RailAdapter:
        """The entered adapter. Raises `RailUnavailable`, and then the node rests."""
        async with self.entering:
            if self.adapter is None:
                adapter = self.open()
                try:
                    await adapter.__aenter__()
                except RailUnavailable:
                    await adapter.__aexit__(None, None, None)
                    self.punish()
                    raise
                self.adapter = adapter
            return self.adapter

    async def come(self) -> None:
        """Enter it, if it can be entered: a witness that is away is no trouble of anybody's."""
        with suppress(RailUnavailable):
            await self.enter()

    async def leave(self) -> None:
        """Let go of it, if it is entered."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            with suppress(RailError):
                await adapter.__aexit__(None, None, None)

    def punish(self) -> None:
        """Let it rest, longer each time in a row."""
        self.failures += 1
        rest = min(REST_MOST, REST_FIRST * 2 ** min(self.failures - 1, 10))
        self.rests_until = time.monotonic() + rest * random.uniform(0.5, 1.0)

    @property
    def rests(self) -> bool:
        """Whether it failed so recently that it is better left alone."""
        return self.rests_until > time.monotonic()

"""Reads the feed as a service would: woken by NOTIFY, following seq, and reading the subject of each event."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from railwatch.demo.scenario_run import SETTLED, ScenarioRun, Timing
from railwatch.rail.demo import RailDemo
from railwatch.store.database import Database
from railwatch.store.notifications import Listener
from railwatch.store.read_models import Record, read_dossier, read_feed

CHANNEL = "railwatch"
PAGE = 500
POLL_SECONDS = 0.5


@dataclass(slots=True)
class Feed:
    """Keeps every story's `ScenarioRun` up to date. ``on_change`` is called after each change of one."""

    database: Database
    on_change: Callable[[ScenarioRun], None]
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _known: dict[UUID, tuple[ScenarioRun, RailDemo]] = field(default_factory=dict)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def join(self, telling: ScenarioRun, demo: RailDemo) -> None:
        """Begin to follow the invoice that ``telling`` has registered, from the start of the feed."""
        assert telling.invoice is not None
        self._known[telling.invoice] = (telling, demo)
        await self._look_up(telling)

    async def follow(self) -> None:
        """Read the feed to its end, again and again, until cancelled."""
        last = 0
        async with Listener(self.database.dsn, (CHANNEL,)) as listener:
            while True:
                page = await read_feed(self.database, last, PAGE)
                await self._take(page, time.monotonic())
                if page:
                    last = page[-1]["seq"]
                else:
                    await listener.wait(POLL_SECONDS)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a transition makes ``condition`` true."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def look_again(self) -> None:
        """Read every story's invoice once more: what others did later may have touched it."""
        for telling, _ in self._known.values():
            await self._look_up(telling)

    async def _take(self, page: list[Record], read_at: float) -> None:
        for row in page:
            if row["invoice_id"] in self._known and row["subject"] == "invoice" and row["to_state"] in SETTLED:
                telling, demo = self._known[row["invoice_id"]]
                telling.timing = timing_of(row, demo, read_at)
        for invoice in dict.fromkeys(row["invoice_id"] for row in page):
            if invoice in self._known:
                await self._look_up(self._known[invoice][0])

    async def _look_up(self, telling: ScenarioRun) -> None:
        assert telling.invoice is not None
        before = (telling.path, telling.exceptions)
        # One at a time, or an older answer could arrive last and stay.
        async with self._looking:
            dossier = await read_dossier(self.database, telling.invoice)
            if dossier is not None:
                telling.learn(dossier)
        if before != (telling.path, telling.exceptions):
            self.on_change(telling)
        async with self.changed:
            self.changed.notify_all()


def timing_of(row: Record, demo: RailDemo, read_at: float) -> Timing | None:
    """How long a settling transition took to reach us; None where the demo did not produce its block."""
    if row["block_height"] is None:
        return None
    included = demo.produced_at(row["block_height"])
    if included is None:
        return None
    depth = row["evidence"].get("policy", {}).get("confirmations")
    enough = None if depth is None else demo.produced_at(row["block_height"] + depth - 1)
    return Timing(read_at - included, None if enough is None else read_at - enough)

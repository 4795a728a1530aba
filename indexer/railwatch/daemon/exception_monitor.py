"""Exceptions that no block brings: payments that wait for too long, rails that see nothing, acts of people.

One task of the daemon, beside the rails, so that it also speaks for a rail that is halted, away, or not started yet.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog

from railwatch.daemon.follow.isolation import Aside, by_halves
from railwatch.reasons import describe
from railwatch.store.clock import BEGINNING, ClockStore, Place, Sight
from railwatch.store.errors import StoreUnavailable

LOOK_EVERY = 1.0
"""Seconds between two looks. When nothing is wrong, one is three questions that an index answers with nothing."""

BATCHES = 20
"""Batches of one errand in one look: the rest has its turn in the next."""

OVERLAP = timedelta(minutes=1)
"""Registrations that were slow to commit are looked at again."""


@dataclass(slots=True)
class Alarms:
    """What is remembered is only where to go on; after a start everything is looked at once."""

    store: ClockStore
    failed: Callable[[str], None] = lambda _: None
    """Called when an invoice cannot be weighed, so that it is counted."""
    aside: Aside[UUID] = field(default_factory=Aside)
    """Invoices that could not be weighed, and are tried again later."""
    _through: dict[str, Place] = field(default_factory=dict)
    """How far each blind rail's invoices have been told."""
    _clear: set[str] = field(default_factory=set)
    """Rails that see, and keep no invoice delayed."""
    _log: structlog.stdlib.BoundLogger = field(default_factory=structlog.get_logger)

    async def run(self) -> None:
        """Look until cancelled. What Postgres could not take is looked at again."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            with suppress(StoreUnavailable):
                await self.look()

    async def look(self) -> None:
        """One look at everything. Raises `StoreUnavailable`."""
        await self.store.note_generation()
        await self._weigh_all(await self.store.unweighed())
        await self._weigh_all(await self.store.stuck())
        for sight in await self.store.sight():
            if sight.blind:
                self._clear.discard(sight.rail)
                await self._tell_blind(sight)
            elif sight.rail not in self._clear:
                self._through.pop(sight.rail, None)
                await self._tell_sighted(sight.rail)

    async def _tell_blind(self, sight: Sight) -> None:
        place = self._through.get(sight.rail, BEGINNING)
        for _ in range(BATCHES):
            invoices, on = await self.store.delayed(sight, place)
            told = await self._weigh_all(invoices)
            if told:
                self._log.warning("detection.delayed", rail=sight.rail, invoices=told)
            if on is None:
                self._through[sight.rail] = Place(sight.upto - OVERLAP, BEGINNING.id)
                return
            self._through[sight.rail] = place = on

    async def _tell_sighted(self, rail: str) -> None:
        for _ in range(BATCHES):
            invoices = await self.store.sighted(rail)
            told = await self._weigh_all(invoices)
            if told:
                self._log.info("detection.resumed", rail=rail, invoices=told)
            if not told:
                # Nothing is left, or the facts have changed since they were asked for, which the next look will see.
                if not invoices:
                    self._clear.add(rail)
                return

    async def _weigh_all(self, invoices: Sequence[UUID]) -> int:
        """Weigh them, and of a batch that fails all but the invoice that makes it fail."""
        told = 0

        async def weigh(some: Sequence[UUID]) -> None:
            nonlocal told
            told += await self.store.weigh(some)
            self.aside.forget(some)

        waiting = self.aside.waiting
        well = [invoice for invoice in invoices if invoice not in waiting]
        if well:
            await by_halves(well, weigh, self._set_aside)
        return told

    async def _set_aside(self, invoice: UUID, defect: Exception) -> None:
        retry_in = self.aside.put(invoice)
        self.failed("invoice")
        order = await self.store.order_of(invoice)
        self._log.error(
            "invoice.failed",
            invoice=str(invoice),
            order=order,
            why=describe(defect),
            retry_in=retry_in,
            exc_info=defect,
        )

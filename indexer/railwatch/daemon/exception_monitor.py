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

from railwatch.core.step import recheck_exceptions
from railwatch.daemon.follow.isolation import Aside, by_halves
from railwatch.reasons import describe
from railwatch.store.clock import FIRST_PAGE, ClockStore, PageCursor, RailVisibility
from railwatch.store.errors import StoreUnavailable

CHECK_INTERVAL = 1.0
"""Seconds between two looks. When nothing is wrong, one is three questions that an index answers with nothing."""

BATCHES_MAX = 20
"""Batches of one errand in one look: the rest has its turn in the next."""

OVERLAP = timedelta(minutes=1)
"""Registrations that were slow to commit are looked at again."""


@dataclass(slots=True)
class ExceptionMonitor:
    """What is remembered is only where to go on; after a start everything is looked at once."""

    store: ClockStore
    failed: Callable[[str], None] = lambda _: None
    """Called when an invoice cannot be weighed, so that it is counted."""
    aside: Aside[UUID] = field(default_factory=Aside)
    """Invoices that could not be weighed, and are tried again later."""
    _resume_at: dict[str, PageCursor] = field(default_factory=dict)
    """How far each blind rail's invoices have been told."""
    _visible_rails: set[str] = field(default_factory=set)
    """Rails that see, and keep no invoice delayed."""
    _log: structlog.stdlib.BoundLogger = field(default_factory=structlog.get_logger)

    async def run(self) -> None:
        """Look until cancelled. What Postgres could not take is looked at again."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            with suppress(StoreUnavailable):
                await self.check()

    async def check(self) -> None:
        """One look at everything. Raises `StoreUnavailable`."""
        await self.store.note_generation()
        await self._recheck(await self.store.unchecked())
        await self._recheck(await self.store.stuck())
        for visibility in await self.store.rail_visibility():
            if visibility.blind:
                self._visible_rails.discard(visibility.rail)
                await self._open_delays(visibility)
            elif visibility.rail not in self._visible_rails:
                self._resume_at.pop(visibility.rail, None)
                await self._close_delays(visibility.rail)

    async def _open_delays(self, visibility: RailVisibility) -> None:
        cursor = self._resume_at.get(visibility.rail, FIRST_PAGE)
        for _ in range(BATCHES_MAX):
            invoices, on = await self.store.delayed(visibility, cursor)
            told = await self._recheck(invoices)
            if told:
                self._log.warning("detection.delayed", rail=visibility.rail, invoices=told)
            if on is None:
                self._resume_at[visibility.rail] = PageCursor(visibility.upto - OVERLAP, FIRST_PAGE.id)
                return
            self._resume_at[visibility.rail] = cursor = on

    async def _close_delays(self, rail: str) -> None:
        for _ in range(BATCHES_MAX):
            invoices = await self.store.recovered(rail)
            told = await self._recheck(invoices)
            if told:
                self._log.info("detection.resumed", rail=rail, invoices=told)
            if not told:
                # Nothing is left, or the facts have changed since they were asked for, which the next look will see.
                if not invoices:
                    self._visible_rails.add(rail)
                return

    async def _recheck(self, invoices: Sequence[UUID]) -> int:
        """Weigh them, and of a batch that fails all but the invoice that makes it fail."""
        told = 0

        async def weigh(some: Sequence[UUID]) -> None:
            nonlocal told
            async with self.store.begin_recheck(some) as step:
                changed = recheck_exceptions(step.aggregates, step.coverage, step.now)
            told += changed
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
            reason=describe(defect),
            retry_in=retry_in,
            exc_info=defect,
        )

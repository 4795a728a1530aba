"""Exceptions without a block as their cause: stuck payments, blind rails, manual operations.

This is one task of the daemon alongside the rails, so it also covers a rail that is halted, unavailable or not started.
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
"""Seconds between two checks. Without a problem a check is three queries with empty results from an index."""

BATCHES_MAX = 20
"""Batches of one task in one check; the next check continues."""

OVERLAP = timedelta(minutes=1)
"""The period of registrations to check again, because some commit late."""


@dataclass(slots=True)
class ExceptionMonitor:
    """The periodic check. Its memory holds only positions; after a start it checks everything once."""

    store: ClockStore
    failed: Callable[[str], None] = lambda _: None
    """Receives `invoice` when the check of an invoice fails, to count it."""
    aside: Aside[UUID] = field(default_factory=Aside)
    """Invoices whose check failed, which are retried later."""
    _resume_at: dict[str, PageCursor] = field(default_factory=dict)
    """The position up to which each blind rail's invoices have an exception."""
    _visible_rails: set[str] = field(default_factory=set)
    """Rails that are not blind, and have no delayed invoice."""
    _log: structlog.stdlib.BoundLogger = field(default_factory=structlog.get_logger)

    async def run(self) -> None:
        """Check until cancelled. A check that Postgres does not accept is repeated."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            with suppress(StoreUnavailable):
                await self.check()

    async def check(self) -> None:
        """Check everything once. Raises `StoreUnavailable`."""
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
            changed = await self._recheck(invoices)
            if changed:
                self._log.warning("detection.delayed", rail=visibility.rail, invoices=changed)
            if on is None:
                self._resume_at[visibility.rail] = PageCursor(visibility.upto - OVERLAP, FIRST_PAGE.id)
                return
            self._resume_at[visibility.rail] = cursor = on

    async def _close_delays(self, rail: str) -> None:
        for _ in range(BATCHES_MAX):
            invoices = await self.store.recovered(rail)
            changed = await self._recheck(invoices)
            if changed:
                self._log.info("detection.resumed", rail=rail, invoices=changed)
            if not changed:
                # Either none is left, or the facts have changed since the query, which the next check finds.
                if not invoices:
                    self._visible_rails.add(rail)
                return

    async def _recheck(self, invoices: Sequence[UUID]) -> int:
        """Recheck invoices, and return the number of changes. Set aside an invoice that makes its batch fail."""
        changed = 0

        async def recheck(some: Sequence[UUID]) -> None:
            nonlocal changed
            async with self.store.begin_recheck(some) as step:
                found = recheck_exceptions(step.aggregates, step.coverage, step.now)
            changed += found
            self.aside.forget(some)

        waiting = self.aside.waiting
        well = [invoice for invoice in invoices if invoice not in waiting]
        if well:
            await by_halves(well, recheck, self._set_aside)
        return changed

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

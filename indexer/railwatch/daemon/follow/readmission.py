"""Brings invoices back out of quarantine: each is tried again, later each time, and once after each start.

One commit processes what was kept for it, in the order of the chain. Until then the feed has nothing of it, so that
no reader acts on half of it.
"""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.follow.isolation import OUTSIDE
from railwatch.reasons import describe
from railwatch.store.quarantine import QuarantineStore

POLL_INTERVAL = 1.0
"""Seconds between two checks of whose turn it is."""


@dataclass(slots=True)
class Readmission:
    """The quarantine of one rail, under one lease."""

    store: QuarantineStore
    follower: ChainFollower
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.follower.committer.rail)

    async def begin(self) -> None:
        """Give each invoice its turn: this daemon may be a better one. Raises `StoreUnavailable`."""
        await self.store.retry_all()

    async def turn(self) -> None:
        """Try those whose turn it is, one by one. Raises what the store raises."""
        await asyncio.sleep(POLL_INTERVAL)
        if self.follower.sync.cursor is not None:
            for invoice in await self.store.retriable():
                await self._retry(invoice)

    async def _retry(self, invoice: UUID) -> None:
        follower = self.follower
        try:
            kept = await self.store.deferred(invoice)
            caught_up = await follower.committer.commit_readmission(follower.sync.rewinds, invoice, kept)
        except OUTSIDE:
            raise
        except Exception as defect:  # noqa: BLE001 - it fails alone, whatever the reason
            self._log.warning("invoice.failed_again", invoice=str(invoice), reason=describe(defect), exc_info=defect)
            await self.store.postpone(invoice, describe(defect))
            return
        if caught_up:
            self._log.info("invoice.caught_up", invoice=str(invoice), transfers=len(kept))
            # What waits for a block was last reported while the invoice could not accept it.
            follower.mempool.forget()

"""The consequences of a failed attempt: the rail is `stalled` by name, and a node that lags is deselected."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from railwatch.daemon import retry as policy
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.follow.steadiness import NodeLagging
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import BlockGone
from railwatch.reasons import one_line
from railwatch.store.database import Database
from railwatch.store.errors import BranchChanged, StoreUnavailable
from railwatch.store.rails import save_rail_state
from railwatch.store.steps import Lease

Result = TypeVar("Result")


@dataclass(slots=True)
class RailBackoff:
    """Retries of one rail's work while one lease lasts. ``follower``: None until it is created."""

    node: NodeSet
    database: Database
    lease: Lease
    heartbeat: Callable[[], None]
    log: structlog.stdlib.BoundLogger
    follower: ChainFollower | None = None

    async def retry(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of ``work``; see `railwatch.daemon.retry.retry`."""
        return await policy.retry(work, self._back_off)

    async def save_stalled(self, reason: str) -> None:
        """Write that the rail is stalled. Raises `StoreUnavailable`.

        A concurrent step may write `live` at the same moment, and either write may come last. The follower therefore
        writes the rail's state once more: without that the row could say `stalled` until the next block.
        """
        try:
            await save_rail_state(self.database, self.lease, "stalled", reason)
        finally:
            if self.follower is not None:
                self.follower.status.external_writes += 1

    async def _back_off(self, error: BaseException) -> None:
        self.heartbeat()
        reason = one_line(str(error))
        if self.follower is not None:
            await self.follower.planner.cancel_prefetch()
        if isinstance(error, BlockGone | BranchChanged):
            self.log.info("chain.replanned", reason=reason)
            if self._progresses():
                return
            reason = f"the rail has not advanced for {steadiness.LAG_MAX_SECONDS:.0f} s: {reason}"
            error = NodeLagging(reason)
        await self._stall(error, reason)

    def _progresses(self) -> bool:
        follower = self.follower
        return follower is None or time.monotonic() - follower.status.progressed_at <= steadiness.LAG_MAX_SECONDS

    async def _stall(self, error: BaseException, reason: str) -> None:
        self.log.warning("rail.backing_off", reason=reason)
        if self.follower is not None:
            self.follower.stall(reason)
        if isinstance(error, NodeLagging):
            await self.node.leave(error)
        # Also if Postgres is the cause: often it is one lock, and this small row can still be written.
        with suppress(StoreUnavailable):
            await self.save_stalled(reason)

"""The life of one rail: acquire the lease, follow the chain, restart after a failure, halt with a reason.

* A fault of a node or of Postgres stalls the rail, with a reason, and ends by itself (`rail_backoff`).
* A failure that could lose or invent money halts this rail, and no other one, until an operator resumes it.
* An unknown failure restarts the rail. If it repeats without a committed step in between, it halts the rail.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from railwatch.cancellation import in_own_task
from railwatch.daemon.balance_reconciler import BalanceReconciler
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.follow.inclusion_check import InclusionCheck
from railwatch.daemon.follow.options import FollowOptions
from railwatch.daemon.follow.quarantine import Failures
from railwatch.daemon.follow.second_look import SecondLook
from railwatch.daemon.halting import FAILURES_MAX, FATAL, FailureCount, halt_reason
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.daemon.rail_backoff import RailBackoff
from railwatch.daemon.rail_tasks import ListenerFactory, RailTasks
from railwatch.daemon.watch.spend_index import SpendIndex
from railwatch.daemon.watch.watchlist import Family, IndexedWatches
from railwatch.rail import AssetId
from railwatch.reasons import describe, innermost, one_line
from railwatch.store.balances import BalanceStore
from railwatch.store.database import Database
from railwatch.store.errors import BranchChanged, LeaseLost, StoreUnavailable
from railwatch.store.lease import LEASE_SECONDS, LeaseKeeper
from railwatch.store.rails import (
    load_resume_point,
    load_spends,
    pending_acceptance,
    rail_state,
    save_rail_halted,
    save_rail_state,
)
from railwatch.store.steps import Lease, StepStore
from railwatch.supervision import keep_running

RESTART_MIN_SECONDS, RESTART_MAX_SECONDS = 1.0, 30.0
"""Seconds before a rail restarts after an unknown failure, at first and at most."""
RESUME_POLL_SECONDS = 1.0
"""Seconds between two checks whether an operator has resumed a halted rail."""
RELEASE_TIMEOUT_SECONDS = 2.0
"""Seconds that the release of a lease may take at the end, whatever session locks its row."""

HOLDER = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


@dataclass(slots=True)
class RailRunner:
    """One configured rail in this process."""

    name: str
    node: NodeSet
    database: Database
    family: Family
    assets: Mapping[str, AssetId]
    follow_options: FollowOptions
    configured: Mapping[AssetId, int]
    """The rail's assets, each with its `min_amount` in base units: a smaller transfer changes no state."""
    unallocated_min: Mapping[AssetId, int] | None = None
    """By asset, in base units: from which amount on a transfer without its reference opens an exception; None: any."""
    reconcile_every: float = 0
    """Seconds between two comparisons of balances with detections; 0: never."""
    halted: str | None = None
    standby: str | None = None
    follower: ChainFollower | None = None
    last_heartbeat: float = field(default_factory=time.monotonic)
    failed: Callable[[str], None] = lambda _: None
    """Receives the name of a task that failed with an unknown error."""
    keep_lease: Callable[[Database, str, str], LeaseKeeper] | None = None
    listen: ListenerFactory | None = None
    """Create the keeper of the lease and the listener for registrations; None: `LeaseKeeper` and `Listener`."""
    _invoice_failures: Failures = field(default_factory=Failures)
    _failures: FailureCount = field(default_factory=FailureCount)
    _restart_in: float = 0.0
    """Seconds to wait before the rail restarts."""
    _commit_outcome_unknown: bool = False
    _halt_saved: bool = False
    """The row says `halted`. Once it says something else, an operator has resumed the rail."""
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self.log = structlog.get_logger().bind(rail=self.name)

    async def run(self) -> None:
        """Follow the rail until cancelled; while it is halted, wait until an operator resumes it."""
        keeper = (self.keep_lease or LeaseKeeper)(self.database, self.name, HOLDER)
        try:
            while True:
                lease = await self._acquire_lease(keeper)
                try:
                    await in_own_task(self._follow(lease, keeper))
                except* LeaseLost as lost:
                    await self._lost(lease, lost.exceptions[0])
                except* FATAL as fault:
                    await self._halt(lease, fault.exceptions[0])
                except* Exception as unknown:  # noqa: BLE001 - the one place where a rail's unknown failure ends
                    await self._start_again(lease, keeper, unknown)
                pause, self._restart_in = self._restart_in, 0.0
                await asyncio.sleep(pause)
                if self.halted is not None:
                    await self._release(keeper)
                    await self._until_resumed()
        finally:
            await self._release(keeper)
            await self.node.__aexit__(None, None, None)

    async def _release(self, keeper: LeaseKeeper) -> None:
        """Release the lease. If its row stays locked for too long, closing the connection releases it too."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await keeper.release()
        await keeper.close()

    async def _lost(self, lease: Lease, error: BaseException) -> None:
        """Write that this daemon no longer follows the rail, unless another daemon has its lease already."""
        reason = one_line(str(innermost(error)))
        self.log.warning("lease.lost", reason=reason)
        await self._save_state(lease, "stalled", f"not followed: {reason}; see the holder with: railwatch status")

    async def _start_again(self, lease: Lease, keeper: LeaseKeeper, defect: BaseException) -> None:
        """Restart the rail after an unknown failure, later each time; halt it if the failure repeats."""
        self.failed(f"{self.name}.chain")
        cause = describe(defect)
        self.log.error("rail.failed", reason=cause, exc_info=innermost(defect))
        resume_point = None
        with suppress(StoreUnavailable):
            resume_point = await load_resume_point(self.database, self.name)
        count = self._failures.add(resume_point)
        if count >= FAILURES_MAX:
            self._failures = FailureCount()
            await self._halt(lease, defect)
            return
        pause = min(RESTART_MAX_SECONDS, RESTART_MIN_SECONDS * 2.0 ** (count - 1))
        await self._save_state(lease, "stalled", f"an unexpected failure; the rail restarts in {pause:.0f} s: {cause}")
        # Another daemon may succeed, so this one gives up the lease during the pause.
        await keeper.close()
        self.last_heartbeat = time.monotonic()
        self._restart_in = pause

    async def _save_state(self, lease: Lease, state: str, reason: str) -> bool:
        """Write the rail's state if the lease is still ours. Returns False if Postgres does not do so in time."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await save_rail_state(self.database, lease, state, reason)
                return True
        return False

    async def _until_resumed(self) -> None:
        """Wait until the row no longer says `halted`: an operator resumed the rail, or another daemon follows it."""
        saved, reason = self._halt_saved, str(self.halted)
        while True:
            with suppress(StoreUnavailable):
                halted = await rail_state(self.database, self.name) == "halted"
                if saved and not halted:
                    self.log.info("rail.resumed", halted_because=reason)
                    self.halted = None
                    return
                if not halted:
                    # The write failed when the rail halted. It changes nothing while another daemon has the lease.
                    await save_rail_halted(self.database, self.name, reason)
                saved = saved or halted
            await asyncio.sleep(RESUME_POLL_SECONDS)

    async def _acquire_lease(self, keeper: LeaseKeeper) -> Lease:
        """Wait for the lease. Each other holder is logged once."""
        logged = None
        while True:
            self.last_heartbeat = time.monotonic()
            try:
                lease = await keeper.acquire()
                if lease is not None:
                    self.standby = None
                    self.log.info("lease.acquired", epoch=lease.epoch)
                    return lease
                holder = await keeper.holder()
                if holder != logged:
                    self.log.warning("lease.standby", holder=holder)
                    logged = holder
                    self.standby = f"standby: {holder} holds the lease of this rail"
            except StoreUnavailable as failure:
                self.log.warning("store.unavailable", reason=str(failure))
            await asyncio.sleep(1.0)

    async def _follow(self, lease: Lease, keeper: LeaseKeeper) -> None:
        """Run all tasks of the rail while its lease lasts.

        A failure of the lease or of the chain ends all of them; every other task restarts by itself.
        """
        backoff = RailBackoff(self.node, self.database, lease, self._heartbeat, self.log)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew_lease(keeper), name=f"{self.name}.lease")
                self.follower = follower = await self._begin(backoff)
                tasks.create_task(self._follow_chain(follower, backoff), name=f"{self.name}.chain")
                rail_tasks = RailTasks(self.name, follower, self.family, backoff, self.listen).by_name()
                if self.reconcile_every and self.node.supports_balances:
                    rail_tasks["balances"] = self._reconciler(follower, lease).run
                for name, task in rail_tasks.items():
                    tasks.create_task(self._keep_running(name, task), name=f"{self.name}.{name}")
        finally:
            follower_then, self.follower = self.follower, None
            if follower_then is not None:
                await follower_then.planner.cancel_prefetch()

    async def _keep_running(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await task()
            except LeaseLost as lost:
                raise _Ended(lost) from lost

        try:
            await keep_running(f"{self.name}.{name}", guarded, self.failed, rail=self.name)
        except _Ended as ended:
            raise ended.reason from ended

    async def _begin(self, backoff: RailBackoff) -> ChainFollower:
        """Return a follower at the last committed block, whose index is loaded after the lease was acquired.

        A destination becomes `watching` in a step under the lease, once the lease holder's index has its key. So the
        tables show every destination that was `watching` before, and this index holds it.
        """
        index = await backoff.retry(lambda: self.family.caught_up(self._heartbeat))
        spends = SpendIndex(await backoff.retry(lambda: load_spends(self.database, self.name)))
        resume_point = await backoff.retry(lambda: load_resume_point(self.database, self.name))
        steps = StepStore(self.database, backoff.lease)
        committer = Committer(
            self.name,
            self.node.traits,
            self.configured,
            steps,
            resume_point.origin,
            self._invoice_failures,
            unallocated_min=self.unallocated_min,
        )
        follower = backoff.follower = ChainFollower(
            self.node, committer, IndexedWatches(index, self.assets, spends), resume_point, self.follow_options
        )
        follower.second_look = SecondLook(self.node, committer, follower.watches)
        await backoff.retry(follower.second_look.begin)
        follower.verify = InclusionCheck(self.node, follower).run
        await backoff.retry(follower.expiry.extend_coverage)
        follower.invalidate()
        return follower

    def _heartbeat(self) -> None:
        self.last_heartbeat = time.monotonic()

    def _reconciler(self, follower: ChainFollower, lease: Lease) -> BalanceReconciler:
        store = BalanceStore(self.database, lease, self.node.traits.family, self.configured)
        return BalanceReconciler(store, self.node, follower, self.assets.get(""), self.reconcile_every)

    async def _follow_chain(self, follower: ChainFollower, backoff: RailBackoff) -> None:
        accepted = await backoff.retry(lambda: pending_acceptance(self.database, self.name))
        if accepted is not None:
            await backoff.retry(lambda: follower.accept_chain(accepted))
        while True:
            self._heartbeat()
            if not await backoff.retry(lambda: self._run_once(follower)):
                await follower.wait_for_work(self._heartbeat)

    async def _run_once(self, follower: ChainFollower) -> bool:
        if self._commit_outcome_unknown:
            follower.reload(await load_resume_point(self.database, self.name))
            self._commit_outcome_unknown = False
        try:
            return await follower.run_once()
        except (StoreUnavailable, BranchChanged):
            # The commit may have succeeded although its answer was lost.
            self._commit_outcome_unknown = True
            raise

    async def _renew_lease(self, keeper: LeaseKeeper) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                await keeper.renew()
            except StoreUnavailable as failure:
                raise LeaseLost(f"the daemon could not renew the lease: {failure}") from failure

    async def _halt(self, lease: Lease, fault: BaseException) -> None:
        """Log and save the reason, and stop following until an operator resumes the rail."""
        self.halted = halt_reason(innermost(fault), self.name)
        self.log.critical("rail.halted", reason=self.halted)
        self._halt_saved = await self._save_state(lease, "halted", self.halted)


class _Ended(BaseException):
    """The loss of the lease: the one failure after which a task does not restart."""

    def __init__(self, reason: LeaseLost) -> None:
        super().__init__(str(reason))
        self.reason = reason

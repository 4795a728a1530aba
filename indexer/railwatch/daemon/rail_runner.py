"""The life of one rail: take the lease, follow, stand back when a node or the database is away, halt by name.

A fault of the node or of Postgres leaves the rail not live, with a reason, and heals by itself. What could lose or
invent money halts the rail, and only that rail, until a person resumes it. An unknown failure starts the rail again,
and halts it when it repeats without a committed step between.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from railwatch.cancellation import in_own_task
from railwatch.core.chain_sync import DeepReorg
from railwatch.core.states import IllegalMove
from railwatch.daemon.balance_reconciler import BalanceReconciler
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.follow.follower import ChainFollower, FollowOptions
from railwatch.daemon.follow.inclusion_check import InclusionCheck
from railwatch.daemon.follow.quarantine import Failures
from railwatch.daemon.follow.readmission import Readmission
from railwatch.daemon.follow.second_look import SecondLook
from railwatch.daemon.follow.steadiness import NodeLagging
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.daemon.watch.registrar import Registrar
from railwatch.daemon.watch.rescan import Rescanner
from railwatch.daemon.watch.spend_index import SpendIndex
from railwatch.daemon.watch.watchlist import Family, IndexedWatches
from railwatch.rail import AssetId, BlockGone, RailFault, RailUnavailable
from railwatch.reasons import describe, innermost, one_line
from railwatch.store.balances import BalanceStore
from railwatch.store.database import Database
from railwatch.store.errors import BranchChanged, LeaseLost, StoreUnavailable
from railwatch.store.lease import LEASE_SECONDS, LeaseKeeper
from railwatch.store.notifications import Listener
from railwatch.store.quarantine import QuarantineStore
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

Result = TypeVar("Result")

RETRYABLE = (RailUnavailable, BlockGone, StoreUnavailable, BranchChanged)
"""Stand back and try again."""

FATAL = (RailFault, DeepReorg, IllegalMove)
"""Halt this rail."""

WORK_CHANNEL = "railwatch_work"
BACKOFF_MAX_SECONDS = 5.0
PRUNE_INTERVAL_SECONDS = 60.0
QUERY_MAX_SECONDS = 600.0
"""Seconds that one step may take before the watchdog is no longer fed for it."""
FAILURES_MAX = 5
"""Unknown failures in a row, without a committed step between, after which a rail is halted."""
RESTART_MIN_SECONDS, RESTART_MAX_SECONDS = 1.0, 30.0
"""Seconds before a rail starts again after an unknown failure: at first, and at most."""
RESUME_POLL_SECONDS = 1.0
"""Seconds between two looks at whether a person has resumed a halted rail."""
RELEASE_TIMEOUT_SECONDS = 2.0
"""Seconds that giving a lease back may take at the end, whatever holds its row."""

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
    """The rail's assets, each with the least amount (base units) that moves anything."""
    reconcile_every: float = 0
    """Seconds between two comparisons of balances with what was detected; 0: never."""
    halted: str | None = None
    standby: str | None = None
    follower: ChainFollower | None = None
    last_heartbeat: float = field(default_factory=time.monotonic)
    failed: Callable[[str], None] = lambda _: None
    """Called with the name of a task that failed for a reason that nobody foresaw."""
    keep_lease: Callable[[Database, str, str], LeaseKeeper] | None = None
    listen: Callable[[str, Sequence[str]], Listener] | None = None
    """Make the keeper of the lease and the listener for work; None: `LeaseKeeper` and `Listener` themselves."""
    _invoice_failures: Failures = field(default_factory=Failures)
    _failures: int = 0
    _reached: tuple[object, ...] = ()
    """Where the last unknown failure left the rail."""
    _restart_in: float = 0.0
    """Seconds to wait before the rail is followed again."""
    _commit_outcome_unknown: bool = False
    _halt_saved: bool = False
    """The row said `halted` when the rail stopped: when it says so no longer, that is somebody's decision."""
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self.log = structlog.get_logger().bind(rail=self.name)

    async def run(self) -> None:
        """Follow until cancelled; while the rail is halted, wait until a person resumes it."""
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
        """Give the lease back. If its row cannot be had in time, the end of the connection frees the lease as well."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await keeper.release()
        await keeper.close()

    async def _lost(self, lease: Lease, why: BaseException) -> None:
        """Nobody may read `live` of a rail that is not followed; whoever has taken it over says how it is."""
        reason = one_line(str(innermost(why)))
        self.log.warning("lease.lost", reason=reason)
        await self._save_state(lease, "stalled", f"not followed: {reason}")

    async def _start_again(self, lease: Lease, keeper: LeaseKeeper, defect: BaseException) -> None:
        """Begin the rail anew after an unknown failure, later each time; halt it if that does not help."""
        self.failed(f"{self.name}.chain")
        cause = describe(defect)
        self.log.error("rail.failed", reason=cause, exc_info=innermost(defect))
        resume_point = None
        with suppress(StoreUnavailable):
            resume_point = await load_resume_point(self.database, self.name)
        reached = (
            resume_point.cursor.hash if resume_point and resume_point.cursor else None,
            resume_point.rewinds if resume_point else None,
        )
        self._failures = self._failures + 1 if reached == self._reached else 1
        self._reached = reached
        if self._failures >= FAILURES_MAX:
            self._failures = 0
            await self._halt(lease, defect)
            return
        pause = min(RESTART_MAX_SECONDS, RESTART_MIN_SECONDS * 2.0 ** (self._failures - 1))
        await self._save_state(lease, "stalled", f"failed, and starts again in {pause:.0f} s: {cause}")
        # Another daemon may do better, so the lease does not wait with us.
        await keeper.close()
        self.last_heartbeat = time.monotonic()
        self._restart_in = pause

    async def _save_state(self, lease: Lease, state: str, reason: str) -> bool:
        """Write how the rail is, if the lease is still ours; returns False if that could not be done soon."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await save_rail_state(self.database, lease, state, reason)
                return True
        return False

    async def _until_resumed(self) -> None:
        """Wait until the row no longer says `halted`: a person has resumed the rail, or another daemon follows it."""
        said, why = self._halt_saved, str(self.halted)
        while True:
            with suppress(StoreUnavailable):
                halted = await rail_state(self.database, self.name) == "halted"
                if said and not halted:
                    self.log.info("rail.resumed", halted_because=why)
                    self.halted = None
                    return
                if not halted:
                    # It could not be written when it happened. Nothing is, while another daemon has the rail.
                    await save_rail_halted(self.database, self.name, why)
                said = said or halted
            await asyncio.sleep(RESUME_POLL_SECONDS)

    async def _acquire_lease(self, keeper: LeaseKeeper) -> Lease:
        """Wait for the lease. Whoever holds it is told once, not at every try."""
        told = None
        while True:
            self.last_heartbeat = time.monotonic()
            try:
                lease = await keeper.acquire()
                if lease is not None:
                    self.standby = None
                    self.log.info("lease.acquired", epoch=lease.epoch)
                    return lease
                holder = await keeper.holder()
                if holder != told:
                    self.log.warning("lease.standby", holder=holder)
                    told = holder
                    self.standby = f"standing by: {holder} follows this rail"
            except StoreUnavailable as away:
                self.log.warning("store.unavailable", reason=str(away))
            await asyncio.sleep(1.0)

    async def _follow(self, lease: Lease, keeper: LeaseKeeper) -> None:
        """Everything that a rail does while its lease lasts.

        The lease and the chain end all of it when they fail; every other task fails and starts again by itself.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew_lease(keeper), name=f"{self.name}.lease")
                self.follower = follower = await self._begin(lease)
                registrar = Registrar(self.family.store, self.node, follower)
                rescanner = Rescanner(self.family.store, self.node, follower)
                parsed = asyncio.Event()
                tasks.create_task(self._follow_chain(follower, lease), name=f"{self.name}.chain")
                errands: dict[str, Callable[[], Awaitable[None]]] = {
                    "push": lambda: self._watch_push(follower),
                    "register": lambda: self._register(registrar, parsed, lease),
                    "lookback": lambda: self._look_back(registrar, parsed, lease),
                    "rescan": lambda: self._rescan(rescanner, lease),
                    "spends": lambda: self._prune_spends(follower, lease),
                    "quarantine": lambda: self._readmit(follower, lease),
                    "slowness": lambda: self._watch_stuck_queries(follower, lease),
                }
                if self.reconcile_every and self.node.supports_balances:
                    errands["balances"] = self._reconciler(follower, lease).run
                for name, errand in errands.items():
                    tasks.create_task(self._keep_running(name, errand), name=f"{self.name}.{name}")
        finally:
            follower_then, self.follower = self.follower, None
            if follower_then is not None:
                await follower_then.cancel_prefetch()

    async def _keep_running(self, name: str, errand: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await errand()
            except LeaseLost as lost:
                raise _Ended(lost) from lost

        try:
            await keep_running(f"{self.name}.{name}", guarded, self.failed, rail=self.name)
        except _Ended as ended:
            raise ended.why from ended

    async def _begin(self, lease: Lease) -> ChainFollower:
        """A follower at the last committed block, with an index that was caught up after the lease was taken.

        A destination turns `watching` in a step under the lease, once its key is in the index of the follower that has
        the lease. So one that was `watching` before is in the tables by now, and in this index.
        """
        index = await self._retry(lambda: self.family.caught_up(self._heartbeat), lease)
        claims = SpendIndex(await self._retry(lambda: load_spends(self.database, self.name), lease))
        resume_point = await self._retry(lambda: load_resume_point(self.database, self.name), lease)
        steps = StepStore(self.database, lease)
        committer = Committer(
            self.name, self.node.traits, self.configured, steps, resume_point.origin, self._invoice_failures
        )
        follower = ChainFollower(
            self.node, committer, IndexedWatches(index, self.assets, claims), resume_point, self.follow_options
        )
        follower.second_look = SecondLook(self.node, committer, follower.watches)
        await self._retry(follower.second_look.begin, lease)
        follower.verify = InclusionCheck(self.node, follower).run
        await self._retry(follower.read_server_clock, lease)
        follower.invalidate()
        return follower

    def _heartbeat(self) -> None:
        self.last_heartbeat = time.monotonic()

    def _reconciler(self, follower: ChainFollower, lease: Lease) -> BalanceReconciler:
        store = BalanceStore(self.database, lease, self.node.traits.family, self.configured)
        return BalanceReconciler(store, self.node, follower, self.assets.get(""), self.reconcile_every)

    async def _follow_chain(self, follower: ChainFollower, lease: Lease) -> None:
        accepted = await self._retry(lambda: pending_acceptance(self.database, self.name), lease)
        if accepted is not None:
            await self._retry(lambda: follower.accept_chain(accepted), lease)
        while True:
            self.last_heartbeat = time.monotonic()
            if not await self._retry(lambda: self._run_once(follower), lease):
                await follower.wait_for_work(self._heartbeat)

    async def _run_once(self, follower: ChainFollower) -> bool:
        if self._commit_outcome_unknown:
            follower.reload(await load_resume_point(self.database, self.name))
            self._commit_outcome_unknown = False
        try:
            return await follower.run_once()
        except (StoreUnavailable, BranchChanged):
            # The commit may have happened although its answer did not come.
            self._commit_outcome_unknown = True
            raise

    async def _renew_lease(self, keeper: LeaseKeeper) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                await keeper.renew()
            except StoreUnavailable as away:
                raise LeaseLost(f"the lease could not be renewed: {away}") from away

    async def _watch_push(self, follower: ChainFollower) -> None:
        """Turn pushes into wake-ups. Without pushes the poll does it all."""
        pause, heard = 0.1, False
        while True:
            try:
                await self.node.wait_for_change()
                follower.wake.set()
                pause, heard = 0.1, True
            except (RailUnavailable, BlockGone) as silent:
                self.log.debug("push.unavailable", reason=str(silent))
                if heard:
                    # What would have been pushed meanwhile. A node that never pushes is polled, and no more than that.
                    follower.wake.set()
                    heard = False
                await asyncio.sleep(pause)
                pause = min(BACKOFF_MAX_SECONDS, pause * 2)

    async def _register(self, registrar: Registrar, parsed: asyncio.Event, lease: Lease) -> None:
        """Read registrations as they come; a lost notification costs a second."""
        async with (self.listen or Listener)(self.database.dsn, (WORK_CHANNEL,)) as listener:
            while True:
                if await self._retry(registrar.parse_registrations, lease):
                    parsed.set()
                await self._retry(self.family.caught_up, lease)
                await listener.wait(1.0)

    async def _look_back(self, registrar: Registrar, parsed: asyncio.Event, lease: Lease) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await parsed.wait()
            parsed.clear()
            await self._retry(registrar.look_back, lease)
            await self._retry(registrar.look_back_for_sibling_rails, lease)

    async def _rescan(self, rescanner: Rescanner, lease: Lease) -> None:
        """A span a turn, beside registrations and blocks."""
        while True:
            if not await self._retry(rescanner.turn, lease):
                await asyncio.sleep(0.5)

    async def _prune_spends(self, follower: ChainFollower, lease: Lease) -> None:
        """Let go of what only final transfers consumed. What was added while the database was asked stays."""
        while True:
            await asyncio.sleep(PRUNE_INTERVAL_SECONDS)
            spends = follower.watches.spends
            before = spends.pairs()
            live = await self._retry(lambda: load_spends(self.database, self.name), lease)
            spends.discard(before.difference(live))

    async def _readmit(self, follower: ChainFollower, lease: Lease) -> None:
        """Try invoices in quarantine again."""
        readmission = Readmission(QuarantineStore(self.database, self.name), follower)
        await self._retry(readmission.begin, lease)
        while True:
            await self._retry(readmission.turn, lease)

    async def _watch_stuck_queries(self, follower: ChainFollower, lease: Lease) -> None:
        """Say so when one step takes so long that the rail cannot follow a moving tip; another node is asked then.

        Where no other node answers, the slow one is waited for: it is late, and it may be all that there is.
        """
        said: str | None = None
        while True:
            await asyncio.sleep(min(1.0, steadiness.LAG_MAX_SECONDS / 4))
            since, now = follower.asking_since, time.monotonic()
            if since is None or now - since > QUERY_MAX_SECONDS:
                continue
            # Each question is bounded in time, so the loop of a rail with a slow node is alive.
            self.last_heartbeat = now
            if now - since <= steadiness.LAG_MAX_SECONDS:
                continue
            slow = NodeLagging(
                f"{self.node.answering or 'the node'} is too slow: it has been asked for one step for more than "
                f"{steadiness.LAG_MAX_SECONDS:.0f} s"
            )
            if (follower.state, follower.reason) != ("stalled", str(slow)):
                self.log.warning("rail.slow", reason=str(slow))
                follower.stall(str(slow))
                said = None
            if said != str(slow):
                with suppress(StoreUnavailable):  # while Postgres is away this is tried again each time
                    await self._say_stalled(lease, str(slow))
                    said = str(slow)
            if self.node.has_other_answering:
                await self.node.leave(slow)

    async def _retry(self, act: Callable[[], Awaitable[Result]], lease: Lease) -> Result:
        """Do ``act`` until nobody that it needs is away, with growing, jittered pauses."""

        async def stand_back(state: RetryCallState) -> None:
            self.last_heartbeat = time.monotonic()
            why = state.outcome.exception() if state.outcome else None
            await self._back_off(why, lease)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RETRYABLE),
            wait=wait_random_exponential(multiplier=0.1, max=BACKOFF_MAX_SECONDS),
            before_sleep=stand_back,
        )
        async for attempt in retrying:
            with attempt:
                return await act()
        raise AssertionError("retrying never ends without an answer")

    async def _back_off(self, why: BaseException | None, lease: Lease) -> None:
        reason = one_line(str(why))
        if self.follower is not None:
            await self.follower.cancel_prefetch()
        if isinstance(why, BlockGone | BranchChanged):
            self.log.info("chain.replanned", reason=reason)
            if self.follower is None or time.monotonic() - self.follower.progressed_at <= steadiness.LAG_MAX_SECONDS:
                return
            reason = f"the rail has not gone on for {steadiness.LAG_MAX_SECONDS:.0f} s: {reason}"
            why = NodeLagging(reason)
        self.log.warning("rail.backing_off", reason=reason)
        if self.follower is not None:
            self.follower.stall(reason)
        if isinstance(why, NodeLagging):
            await self.node.leave(why)
        # Also when Postgres is the trouble: often it is one lock, and this small row can still be written.
        with suppress(StoreUnavailable):
            await self._say_stalled(lease, reason)

    async def _say_stalled(self, lease: Lease, reason: str) -> None:
        """Write that the rail is stalled. The follower tells how it is once more after that, whichever came first.

        A step may tell that all is well again at the same moment. The follower would believe that step, and the row
        would go on saying `stalled` until the next block. Raises `StoreUnavailable`.
        """
        try:
            await save_rail_state(self.database, lease, "stalled", reason)
        finally:
            if self.follower is not None:
                self.follower.told_beside += 1

    async def _halt(self, lease: Lease, fault: BaseException) -> None:
        """Say why, everywhere that somebody might look, and follow no further until a person resumes the rail."""
        self.halted = halt_reason(innermost(fault), self.name)
        self.log.critical("rail.halted", reason=self.halted)
        self._halt_saved = await self._save_state(lease, "halted", self.halted)


def halt_reason(fault: BaseException, rail: str) -> str:
    """What `rails.reason` says of a rail that this halts, and what to run."""
    if isinstance(fault, DeepReorg):
        resume = f"railwatch rail resume {rail}"
        return (
            f"{one_line(str(fault))}; decide by docs/runbooks/rail-halted.md: {resume} tries again, "
            f"{resume} --accept-chain shows what that chain reverses"
        )
    known = isinstance(fault, FATAL)
    what = f"{type(fault).__name__}: {one_line(str(fault))}" if known else f"repeated failure: {describe(fault)}"
    return f"{what}; once the cause is gone: railwatch rail resume {rail}"


class _Ended(BaseException):
    """The lease is lost: the one failure of an errand after which it does not start again."""

    def __init__(self, why: LeaseLost) -> None:
        super().__init__(str(why))
        self.why = why

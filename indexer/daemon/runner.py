"""The life of one rail: take the lease, follow, stand back when a node or the database is away, halt by name.

A fault of the node or of Postgres leaves the rail not live, with a reason, and heals by itself. What could lose or
invent money halts the rail, and only that rail, until a person acts.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from indexer.core.chain import DeepReorg
from indexer.core.states import IllegalMove
from indexer.daemon.claims import Claims
from indexer.daemon.follower import Behind, Follower, Pace
from indexer.daemon.nodeset import NodeSet
from indexer.daemon.reconciler import Reconciler
from indexer.daemon.recorder import Recorder
from indexer.daemon.registrar import Registrar
from indexer.daemon.second_look import SecondLook
from indexer.daemon.watchlist import RailWatches
from indexer.rail import AssetId, BlockGone, RailFault, RailUnavailable
from indexer.store.balances import BalanceStore
from indexer.store.database import Database
from indexer.store.errors import LeaseLost, StoreUnavailable
from indexer.store.lease import LASTS, LeaseKeeper
from indexer.store.listen import Listener
from indexer.store.rails import load_left, load_spends, say_halted, say_state
from indexer.store.steps import Lease, StepStore
from indexer.store.watches import WatchStore

Result = TypeVar("Result")

AWAY = (RailUnavailable, BlockGone, StoreUnavailable)
"""Stand back and try again."""

FATAL = (RailFault, DeepReorg, IllegalMove)
"""Halt this rail."""

WORK_CHANNEL = "railwatch_work"
LONGEST_PAUSE = 5.0
FORGET_EVERY = 60.0
DROP_WITHIN = 2.0
"""Seconds that giving a lease back may take at the end, whatever holds its row."""

HOLDER = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


@dataclass(slots=True)
class RailRunner:
    """One configured rail in this process."""

    name: str
    node: NodeSet
    database: Database
    watches: RailWatches
    watch_store: WatchStore
    pace: Pace
    configured: Collection[AssetId]
    reconcile_every: float = 0
    """Seconds between two comparisons of balances with what was detected; 0: never."""
    halted: str | None = None
    standby: str | None = None
    follower: Follower | None = None
    beat: float = field(default_factory=time.monotonic)
    _doubt: bool = False
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self.log = structlog.get_logger().bind(rail=self.name)

    async def run(self) -> None:
        """Follow until cancelled. Returns only when the rail is halted."""
        keeper = LeaseKeeper(self.database, self.name, HOLDER)
        try:
            while self.halted is None:
                lease = await self._take(keeper)
                try:
                    await self._follow(lease, keeper)
                except* LeaseLost as lost:
                    self.log.warning("lease.lost", why=str(lost.exceptions[0]))
                except* FATAL as fault:
                    await self._halt(lease, fault.exceptions[0])
        finally:
            # If the row cannot be had in time, the end of the connection frees the lease as well.
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(DROP_WITHIN):
                    await keeper.drop()
            await keeper.close()
            await self.node.__aexit__(None, None, None)

    async def fail(self, defect: BaseException) -> None:
        """A defect of ours ended the rail: say so where people look, whoever holds the lease now."""
        self.halted = f"internal error, please report it: {type(defect).__name__}: {defect}"
        with suppress(StoreUnavailable):
            await say_halted(self.database, self.name, self.halted)

    async def _take(self, keeper: LeaseKeeper) -> Lease:
        """Wait for the lease. Whoever holds it is told once, not at every try."""
        told = None
        while True:
            self.beat = time.monotonic()
            try:
                lease = await keeper.take()
                if lease is not None:
                    self.standby = None
                    self.log.info("lease.taken", epoch=lease.epoch)
                    return lease
                holder = await keeper.holder()
                if holder != told:
                    self.log.warning("lease.held_elsewhere", holder=holder)
                    told = holder
                    self.standby = f"standing by: {holder} follows this rail"
            except StoreUnavailable as away:
                self.log.warning("store.away", why=str(away))
            await asyncio.sleep(1.0)

    async def _follow(self, lease: Lease, keeper: LeaseKeeper) -> None:
        """Everything that a rail does while its lease lasts; the first task that fails ends all of them."""
        recorder = Recorder(self.name, self.node.traits, self.configured, StepStore(self.database, lease))
        self.watches.spends = Claims(await self._patiently(lambda: load_spends(self.database, self.name), lease))
        left = await self._patiently(lambda: load_left(self.database, self.name), lease)
        self.follower = follower = Follower(self.node, recorder, self.watches, left, self.pace)
        follower.second_look = SecondLook(self.node, recorder, self.watches)
        await self._patiently(follower.second_look.begin, lease)
        registrar = Registrar(self.watch_store, self.node, follower)
        parsed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(keeper), name=f"{self.name}.lease")
                tasks.create_task(self._hear(follower), name=f"{self.name}.push")
                tasks.create_task(self._register(registrar, parsed, lease), name=f"{self.name}.register")
                tasks.create_task(self._look_back(registrar, parsed, lease), name=f"{self.name}.lookback")
                tasks.create_task(self._chain(follower, lease), name=f"{self.name}.chain")
                tasks.create_task(self._forget_spends(lease), name=f"{self.name}.spends")
                if self.reconcile_every and self.node.tells_balances:
                    reconciler = self._reconciler(follower, lease)
                    tasks.create_task(reconciler.run(), name=f"{self.name}.balances")
        finally:
            await follower.drop_ahead()

    def _reconciler(self, follower: Follower, lease: Lease) -> Reconciler:
        store = BalanceStore(self.database, lease, self.node.traits.family, self.configured)
        return Reconciler(store, self.node, follower, self.watches.assets.get(""), self.reconcile_every)

    async def _chain(self, follower: Follower, lease: Lease) -> None:
        while True:
            self.beat = time.monotonic()
            if not await self._patiently(self._round, lease):
                await follower.rest()

    async def _round(self) -> bool:
        assert self.follower is not None
        if self._doubt:
            self.follower.rebase(await load_left(self.database, self.name))
            self._doubt = False
        try:
            return await self.follower.round()
        except StoreUnavailable:
            # The commit may have happened although its answer did not come.
            self._doubt = True
            raise

    async def _keep(self, keeper: LeaseKeeper) -> None:
        while True:
            await asyncio.sleep(LASTS / 3)
            try:
                await keeper.renew()
            except StoreUnavailable as away:
                raise LeaseLost(f"the lease could not be renewed: {away}") from away

    async def _hear(self, follower: Follower) -> None:
        """Turn pushes into wake-ups. Without pushes the poll does it all."""
        pause = 0.1
        while True:
            try:
                await self.node.wait_for_change()
                follower.wake.set()
                pause = 0.1
            except RailUnavailable as silent:
                self.log.debug("push.away", why=str(silent))
                follower.wake.set()
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)

    async def _register(self, registrar: Registrar, parsed: asyncio.Event, lease: Lease) -> None:
        """Read registrations as they come; a lost notification costs a second."""
        since = await self._patiently(self.watch_store.now, lease)
        async with Listener(self.database.dsn, (WORK_CHANNEL,)) as listener:
            while True:
                if await self._patiently(registrar.parse_new, lease):
                    parsed.set()
                elsewhere, since = await self._patiently(lambda: self.watch_store.keyed_since(since), lease)  # noqa: B023
                for key in elsewhere:
                    self.watches.index.add(key)
                await listener.wait(1.0)

    async def _look_back(self, registrar: Registrar, parsed: asyncio.Event, lease: Lease) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await parsed.wait()
            parsed.clear()
            await self._patiently(registrar.look_back, lease)
            await self._patiently(registrar.look_back_for_neighbours, lease)
            if self.follower is not None and self.follower.cursor is not None:
                await self._patiently(registrar.rescan, lease)

    async def _forget_spends(self, lease: Lease) -> None:
        """Let go of what only final transfers consumed. What was added while the database was asked stays."""
        while True:
            await asyncio.sleep(FORGET_EVERY)
            before = self.watches.spends.pairs()
            live = await self._patiently(lambda: load_spends(self.database, self.name), lease)
            self.watches.spends.forget(before.difference(live))

    async def _patiently(self, act: Callable[[], Awaitable[Result]], lease: Lease) -> Result:
        """Do ``act`` until nobody that it needs is away, with growing, jittered pauses."""

        async def stand_back(state: RetryCallState) -> None:
            self.beat = time.monotonic()
            why = state.outcome.exception() if state.outcome else None
            await self._stand_back(why, lease)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(AWAY),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE),
            before_sleep=stand_back,
        )
        async for attempt in retrying:
            with attempt:
                return await act()
        raise AssertionError("retrying never ends without an answer")

    async def _stand_back(self, why: BaseException | None, lease: Lease) -> None:
        reason = str(why)
        if self.follower is not None:
            await self.follower.drop_ahead()
        if isinstance(why, BlockGone):
            self.log.info("chain.moved", why=reason)
            return
        self.log.warning("rail.stands_back", why=reason)
        if self.follower is not None:
            self.follower.stall(reason)
        if isinstance(why, Behind):
            await self.node.leave(why)
        # Also when Postgres is the trouble: often it is one lock, and this small row can still be written.
        with suppress(StoreUnavailable):
            await say_state(self.database, lease, "stalled", reason)

    async def _halt(self, lease: Lease, fault: BaseException) -> None:
        """Say why, everywhere that somebody might look, and follow no further."""
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        self.halted = f"{type(fault).__name__}: {fault}" if isinstance(fault, RailFault) else str(fault)
        self.log.critical("rail.halted", why=self.halted)
        with suppress(StoreUnavailable):
            await say_state(self.database, lease, "halted", self.halted)

"""The tasks of a rail alongside its chain: each runs for as long as the lease lasts, and restarts by itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from railwatch.daemon import retry as policy
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.follow.readmission import Readmission
from railwatch.daemon.follow.steadiness import NodeLagging
from railwatch.daemon.rail_backoff import RailBackoff
from railwatch.daemon.watch.registrar import Registrar
from railwatch.daemon.watch.rescan import Rescanner
from railwatch.daemon.watch.watchlist import Family
from railwatch.rail import BlockGone, RailUnavailable
from railwatch.store.errors import StoreUnavailable
from railwatch.store.notifications import Listener
from railwatch.store.quarantine import QuarantineStore
from railwatch.store.rails import load_spends
from railwatch.store.unallocated import undetected

WORK_CHANNEL = "railwatch_work"
PRUNE_INTERVAL_SECONDS = 60.0
REGISTRATION_POLL_SECONDS = 0.5
"""Seconds after which registrations are read without a notification, which may be lost or left out."""
REGISTRATION_PAUSE_SECONDS = 0.02
ASSIGNMENT_POLL_SECONDS = 0.5
"""Seconds between two readings of transfers that were assigned."""
LOOKBACK_PAUSE_SECONDS = 0.05
"""Seconds after one look-back before the next, so that registrations which come together share it."""
QUERY_MAX_SECONDS = 600.0
"""Seconds that one step may take; after them the watchdog gets no heartbeat from it."""

ListenerFactory = Callable[[str, Sequence[str]], Listener]


@dataclass(slots=True)
class RailTasks:
    """The tasks of one rail while one lease lasts."""

    rail: str
    follower: ChainFollower
    family: Family
    backoff: RailBackoff
    listen: ListenerFactory | None = None
    """Creates the listener for registrations; None: `Listener` itself."""
    _registrar: Registrar = field(init=False)
    _rescanner: Rescanner = field(init=False)
    _parsed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._registrar = Registrar(
            self.family.store,
            self.backoff.node,
            self.follower,
            self.rail,
            self.follower.committer.traits,
            self.follower.watches.assets,
        )
        self._rescanner = Rescanner(self.family.store, self.backoff.node, self.follower)

    def by_name(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return each task by the name that logs and metrics use."""
        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "push": self._watch_push,
            "register": self._register,
            "lookback": self._look_back,
            "rescan": self._rescan,
            "spends": self._prune_spends,
            "quarantine": self._readmit,
            "slowness": self._watch_slow_steps,
        }
        if self.follower.committer.traits.has_references:
            tasks["assign"] = self._assign
        return tasks

    async def _watch_push(self) -> None:
        """Wake the follower at each push. Without pushes the follower polls."""
        pause, pushes = policy.BACKOFF_MIN_SECONDS, False
        while True:
            try:
                await self.backoff.node.wait_for_change()
                self.follower.wake.set()
                pause, pushes = policy.BACKOFF_MIN_SECONDS, True
            except (RailUnavailable, BlockGone) as failure:
                self.backoff.log.debug("push.unavailable", reason=str(failure))
                if pushes:
                    # The node may have sent pushes meanwhile. For a node without pushes this would add polls.
                    self.follower.wake.set()
                    pushes = False
                await asyncio.sleep(pause)
                pause = min(policy.BACKOFF_MAX_SECONDS, pause * 2)

    async def _register(self) -> None:
        """Read registrations as they come. A lost notification delays one by `REGISTRATION_POLL_SECONDS`."""
        async with (self.listen or Listener)(self.backoff.database.dsn, (WORK_CHANNEL,)) as listener:
            while True:
                if await self.backoff.retry(self._registrar.parse_registrations):
                    self._parsed.set()
                await self.backoff.retry(self.family.caught_up)
                await asyncio.sleep(REGISTRATION_PAUSE_SECONDS)
                await listener.wait(REGISTRATION_POLL_SECONDS)

    async def _assign(self) -> None:
        """Make detections of unallocated transfers that were assigned to an invoice."""
        while True:
            await self.backoff.retry(self._assign_once)
            await asyncio.sleep(ASSIGNMENT_POLL_SECONDS)

    async def _assign_once(self) -> None:
        assigned = await undetected(self.backoff.database, self.rail)
        if assigned and self.follower.sync.cursor is not None:
            await self.follower.committer.commit_assignments(self.follower.sync.rewinds, assigned)

    async def _look_back(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._parsed.wait()
            self._parsed.clear()
            await self.backoff.retry(self._registrar.look_back)
            await self.backoff.retry(self._registrar.look_back_for_sibling_rails)
            await asyncio.sleep(LOOKBACK_PAUSE_SECONDS)

    async def _rescan(self) -> None:
        """Run rescans, one span in each turn, so that registrations and blocks go on."""
        while True:
            if not await self.backoff.retry(self._rescanner.turn):
                await asyncio.sleep(0.5)

    async def _prune_spends(self) -> None:
        """Discard spends that only final transfers made. Spends that are added during the query stay."""
        while True:
            await asyncio.sleep(PRUNE_INTERVAL_SECONDS)
            spends = self.follower.watches.spends
            before = spends.pairs()
            live = await self.backoff.retry(lambda: load_spends(self.backoff.database, self.rail))
            spends.discard(before.difference(live))

    async def _readmit(self) -> None:
        """Process quarantined invoices again."""
        readmission = Readmission(QuarantineStore(self.backoff.database, self.rail), self.follower)
        await self.backoff.retry(readmission.begin)
        while True:
            await self.backoff.retry(readmission.turn)

    async def _watch_slow_steps(self) -> None:
        """Stall the rail while one step takes so long that it cannot follow the tip, and switch to another node.

        If no other node answers, the slow node stays active: it is late, and it may be the only one.
        """
        saved: str | None = None
        while True:
            await asyncio.sleep(min(1.0, steadiness.LAG_MAX_SECONDS / 4))
            if not self._step_is_slow():
                continue
            slow = self._slow_step()
            if self._stall(slow):
                saved = None
            if saved != str(slow):
                with suppress(StoreUnavailable):  # While Postgres is unavailable each turn tries again.
                    await self.backoff.save_stalled(str(slow))
                    saved = str(slow)
            if self.backoff.node.has_other_answering:
                await self.backoff.node.leave(slow)

    def _step_is_slow(self) -> bool:
        """Return True if the current step is late. Up to `QUERY_MAX_SECONDS`, a slow step still counts as a heartbeat.

        Each query has a timeout, so the loop of a rail with a slow node is alive.
        """
        since, now = self.follower.status.asking_since, time.monotonic()
        if since is None or now - since > QUERY_MAX_SECONDS:
            return False
        self.backoff.heartbeat()
        return now - since > steadiness.LAG_MAX_SECONDS

    def _slow_step(self) -> NodeLagging:
        return NodeLagging(
            f"{self.backoff.node.answering or 'the node'} is too slow: one step has taken more than "
            f"{steadiness.LAG_MAX_SECONDS:.0f} s; add a faster node to nodes of rail {self.rail}, or lower its span_max"
        )

    def _stall(self, slow: NodeLagging) -> bool:
        """Mark the follower as stalled. Returns False if it is so already for the same reason."""
        if (self.follower.status.state, self.follower.status.reason) == ("stalled", str(slow)):
            return False
        self.backoff.log.warning("rail.slow", reason=str(slow))
        self.follower.stall(str(slow))
        return True

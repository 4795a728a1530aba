"""Leader election of deliverers: one process holds the lock and delivers, the others are standbys."""

import asyncio

import structlog

from railwatch.store.deliverer_lock import DelivererLock
from railwatch.store.errors import StoreUnavailable

HEARTBEAT_INTERVAL = 2.0
ACQUIRE_INTERVAL = 1.0


class AnotherLeaderActive(Exception):
    """Another deliverer holds the lock. The message names it, and the fix."""


class Leadership:
    """The deliverer's lock: held while its connection lives, and acquired again after a loss."""

    def __init__(self, lock: DelivererLock) -> None:
        self._lock = lock
        self._held = False
        self.term = 0
        """The number of times that the lock was acquired. Data of an earlier term may be outdated."""
        self.acquired = asyncio.Event()

    @property
    def held(self) -> bool:
        """True while this process may send events."""
        return self._held and not self._lock.is_lost

    async def acquire_nowait(self) -> None:
        """Acquire the lock, or raise `AnotherLeaderActive` or `StoreUnavailable` at once."""
        other = await self._lock.acquire()
        if other is not None:
            raise AnotherLeaderActive(
                f"{other} delivers already, so this command did nothing; stop that deliverer first, or let it deliver"
            )
        self._begin()

    async def maintain(self) -> None:
        """Acquire the lock and hold it, until cancelled."""
        logged: str | None = None
        while True:
            if not self.held:
                logged = await self._try(logged)
            elif not await self._beats():
                structlog.get_logger().warning("deliver.lock_lost")
                logged = None
            await asyncio.sleep(HEARTBEAT_INTERVAL if self.held else ACQUIRE_INTERVAL)

    def release(self) -> None:
        """Release the lock, so that a standby acquires it at once."""
        self._held = False
        self._lock.release()

    async def _try(self, logged: str | None) -> str | None:
        """Try once; return the obstacle, so that the caller logs each one once."""
        self._held = False
        try:
            other = await self._lock.acquire()
        except StoreUnavailable as failure:
            obstacle = str(failure)
            if logged is None:
                structlog.get_logger().warning("deliver.store_unavailable", reason=obstacle)
            return obstacle
        if other is None:
            self._begin()
            return None
        if other != logged:
            structlog.get_logger().warning(
                "deliver.standby", holder=other, effect="this process waits until the holder stops"
            )
        return other

    def _begin(self) -> None:
        self._held = True
        self.term += 1
        self.acquired.set()
        structlog.get_logger().info("deliver.lock_acquired")

    async def _beats(self) -> bool:
        try:
            await self._lock.check_alive()
        except StoreUnavailable:
            self._held = False
            return False
        return True

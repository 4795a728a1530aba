"""Whether this process is the one that posts: takes the lock, keeps it, and says so when another has it."""

import asyncio

import structlog

from railwatch.store.deliverer_lock import DelivererLock
from railwatch.store.errors import StoreUnavailable

HEARTBEAT_INTERVAL = 2.0
ACQUIRE_INTERVAL = 1.0


class AnotherLeaderActive(Exception):
    """Another deliverer is at work. The message says which, and what to do."""


class Leadership:
    """Holds the deliverer's lock for as long as its connection lives, and takes it again when it was lost."""

    def __init__(self, lock: DelivererLock) -> None:
        self._lock = lock
        self._held = False
        self.term = 0
        """Counts how often the lock was taken: what was read in an earlier term may be out of date."""
        self.acquired = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether posts may go out now."""
        return self._held and not self._lock.is_lost

    async def acquire_nowait(self) -> None:
        """For a command that does not wait. Raises `AnotherLeaderActive`, `StoreUnavailable`."""
        other = await self._lock.acquire()
        if other is not None:
            raise AnotherLeaderActive(f"{other} delivers already; there is nothing left for a second one to do")
        self._begin()

    async def maintain(self) -> None:
        """Take the lock and hold it, until cancelled."""
        told: str | None = None
        while True:
            if not self.held:
                told = await self._try(told)
            elif not await self._beats():
                structlog.get_logger().warning("deliver.lock_lost")
                told = None
            await asyncio.sleep(HEARTBEAT_INTERVAL if self.held else ACQUIRE_INTERVAL)

    def release(self) -> None:
        """Let go, so that the next one need not wait."""
        self._held = False
        self._lock.release()

    async def _try(self, told: str | None) -> str | None:
        """Returns what was told of the obstacle, so that it is told once."""
        self._held = False
        try:
            other = await self._lock.acquire()
        except StoreUnavailable as away:
            obstacle = str(away)
            if told is None:
                structlog.get_logger().warning("deliver.store_unavailable", reason=obstacle)
            return obstacle
        if other is None:
            self._begin()
            return None
        if other != told:
            structlog.get_logger().warning("deliver.standby", holder=other, does="waits until it ends")
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

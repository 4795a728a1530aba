"""Being woken by Postgres: a connection that does nothing but LISTEN, kept alive and replaced when it breaks.

A notification is a hint and may be lost (HAZARDS P4): `Listener.wait` therefore also returns after a timeout and after
each reconnect, and a waiting reader polls the tables themselves.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from railwatch.store.database import TRANSIENT, Connection, connect
from railwatch.store.errors import StoreUnavailable

HEARTBEAT_SECONDS = 5.0
"""Seconds between pings: asyncpg does not notice a silent network drop (STACK, "Postgres")."""

BACKOFF_SECONDS = (0.1, 5.0)
"""Between attempts to connect: the first and the longest pause."""

WAKE_PAUSE = 0.02
"""Seconds between two returns of `Listener.wait` at least. Any login may notify any channel, as often as it likes."""


class Listener:
    """Waits for notifications on ``channels``. Entering never fails for want of a server: a hint may come late."""

    def __init__(self, dsn: str, channels: Sequence[str], *, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._dsn = dsn
        self._channels = channels
        self._heartbeat = heartbeat
        self._woken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._returned = 0.0

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name="store-listener")
        # A defect in the keeper must reach the waiting reader, and not appear as a quiet channel.
        self._keeper.add_done_callback(lambda _: self._woken.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            # Not `await keeper`: its cancellation would be indistinguishable from our own, which must go on.
            await asyncio.wait({keeper})
            if not keeper.cancelled():
                keeper.exception()  # Read and dropped: no reader waits any more.

    async def wait(self, timeout: float) -> None:
        """Return when something was notified since the last wait, after a reconnect, or after ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        await asyncio.sleep(max(0.0, self._returned + WAKE_PAUSE - time.monotonic()))
        self._woken.clear()
        self._returned = time.monotonic()
        if self._keeper is None or self._keeper.done():
            raise RuntimeError("the listener is not running") from self._death()

    def _death(self) -> BaseException | None:
        """Return the exception that ended the keeper, if we did not end it."""
        if self._keeper is None or self._keeper.cancelled():
            return None
        return self._keeper.exception()

    async def _keep(self) -> None:
        """Connect, listen, and begin again when the connection is gone; the pauses grow while there is no server."""
        first, longest = BACKOFF_SECONDS
        pause = first
        while True:
            try:
                connection = await connect(self._dsn)
            except StoreUnavailable:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, longest)
                continue
            try:
                await self._listen(connection)
                pause = first
                # Only a poll finds what was notified while nothing listened.
                self._woken.set()
                await self._stay(connection)
            except TRANSIENT:
                await asyncio.sleep(pause)
            finally:
                connection.terminate()

    async def _listen(self, connection: Connection) -> None:
        for channel in self._channels:
            await connection.add_listener(channel, lambda *_: self._woken.set())

    async def _stay(self, connection: Connection) -> None:
        """Return when the connection is closed; raises one of `TRANSIENT` when it does not answer."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda *_: lost.set())
        while not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat):
                    await lost.wait()
            if not lost.is_set():
                await connection.fetchval("select 1", timeout=self._heartbeat)

"""At most one deliverer posts: a lease in a row, renewed by its holder, which no service or reader may change.

A holder that dies releases it at once, because its server process has ended. One that is paused or cut off loses the
lock when it expires, and notices at its next renewal. Until then two may post one event, under the same webhook-id.
"""

import os
import socket
from uuid import UUID, uuid4

from railwatch.store.database import Connection, connect, translated
from railwatch.store.errors import StoreUnavailable
from railwatch.store.queries import query

ACQUIRE = query("acquire_deliverer_lock")
RENEW = query("renew_deliverer_lock")
DELIVERER_HOLDER = query("deliverer_holder")

LEASE_SECONDS = 15.0
"""Seconds that the lock outlives its last renewal."""

CHECK_TIMEOUT = 5.0


class DelivererLock:
    """The lock of one deliverer, whose name is host and process."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._token: UUID | None = None
        self._connection: Connection | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to have ended."""
        return self._connection is None or bool(self._connection.is_closed())

    async def acquire(self) -> str | None:
        """Acquire the lock and return None, or return its holder's name. Raises `StoreUnavailable`."""
        self.release()
        connection = await connect(self._dsn, lock_timeout="2s")
        try:
            with translated(self._dsn):
                token, holder = uuid4(), f"railwatch deliver {socket.gethostname()[:30]}/{os.getpid()}"
                if await connection.fetchval(ACQUIRE, holder, token, LEASE_SECONDS) is not None:
                    self._token = token
                    self._connection, connection = connection, None
                    return None
                return str(await connection.fetchval(DELIVERER_HOLDER) or "a deliverer that has just ended")
        finally:
            if connection is not None:
                connection.terminate()

    async def check_alive(self) -> None:
        """Renew the lock. Raises `StoreUnavailable` if the connection, or the lock, is lost."""
        if self._connection is None or self.is_lost:
            raise StoreUnavailable("the connection that held the deliverer's lock is gone")
        with translated(self._dsn):
            kept = await self._connection.fetchval(RENEW, self._token, LEASE_SECONDS, timeout=CHECK_TIMEOUT)
        if kept is None:
            raise StoreUnavailable("the deliverer's lock expired, and another deliverer has acquired it")

    def release(self) -> None:
        """Release the lock."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

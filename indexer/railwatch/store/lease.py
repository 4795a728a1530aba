"""Who follows a rail: a lease in a row, renewed by its holder, and an epoch that every step compares (HAZARDS P6).

The row decides, and only the daemon's role may change or lock it. A holder that dies loses the rail at once, because
its recorded server process has ended, which no other connection can imitate. One that is paused or cut off loses it
when the lease expires; when it wakes, its epoch is old and its steps write nothing. Each acquisition has its own token,
so that a process can acquire anew what its own earlier connection, still open at the server, seems to hold.
"""

from uuid import UUID, uuid4

import asyncpg

from railwatch.store.database import Connection, Database, connect, translated
from railwatch.store.errors import LeaseLost
from railwatch.store.queries import query
from railwatch.store.steps import Lease

ACQUIRE_LEASE = query("acquire_lease")
END_STOPPED_SESSIONS = query("end_stopped_sessions")
RENEW_LEASE = query("renew_lease")
RELEASE_LEASE = query("release_lease")
LEASE_HOLDER = query("lease_holder")

LEASE_SECONDS = 15.0
"""Seconds that a lease outlives its last renewal."""

RENEW_TIMEOUT = 4.0
"""Seconds for one renewal. With one every `LEASE_SECONDS` / 3, a holder that is cut off knows it before its lease
runs out.
"""

LOCK_TIMEOUT = "2s"
"""How long to acquire waits for a step of the former holder that still holds the rail's row."""

RELEASED = "not followed: the daemon that followed this rail was stopped"


class LeaseKeeper:
    """The lease of one rail, over a connection of its own."""

    def __init__(self, database: Database, rail: str, holder: str) -> None:
        self._database = database
        self._rail = rail
        self._holder = holder
        self._token: UUID | None = None
        self._connection: Connection | None = None

    async def acquire(self) -> Lease | None:
        """Acquire the lease; None while another holds it. Raises `StoreUnavailable`."""
        await self.close()
        self._connection = connection = await connect(self._database.dsn, lock_timeout=LOCK_TIMEOUT)
        self._token = token = uuid4()
        with translated(self._database.dsn):
            await connection.fetchval(END_STOPPED_SESSIONS, self._rail)
            try:
                epoch = await connection.fetchval(ACQUIRE_LEASE, self._rail, self._holder, token, LEASE_SECONDS)
            except asyncpg.LockNotAvailableError:
                return None  # A step of the former holder is not over yet; Postgres ends it, or the next turn does.
        return None if epoch is None else Lease(self._rail, epoch)

    async def renew(self) -> None:
        """Renew the lease for `LEASE_SECONDS` seconds. Raises `LeaseLost`, `StoreUnavailable`."""
        if self._connection is None or self._connection.is_closed():
            raise LeaseLost(f"rail {self._rail}: the connection that held the lease is gone")
        with translated(self._database.dsn):
            renewed = await self._connection.fetchval(
                RENEW_LEASE, self._rail, self._token, LEASE_SECONDS, timeout=RENEW_TIMEOUT
            )
        if renewed is None:
            raise LeaseLost(f"rail {self._rail}: another daemon has acquired the lease")

    async def holder(self) -> str | None:
        """Return the holder's name."""
        row = await self._database.row(LEASE_HOLDER, self._rail)
        return row["holder"] if row else None

    async def release(self, reason: str = RELEASED) -> None:
        """Release it, so that the next daemon need not wait; ``reason``: why no daemon follows the rail now."""
        if self._connection is not None and not self._connection.is_closed():
            with translated(self._database.dsn):
                await self._connection.fetchval(RELEASE_LEASE, self._rail, self._token, reason)
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

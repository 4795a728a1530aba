"""Who follows a rail: a lease in a row, held by a connection, and an epoch that every step compares (HAZARDS P6).

A holder that dies lets go with its connection, at once. One that is paused, or cut off, loses the rail when the lease
runs out; when it wakes, its epoch is old and its steps write nothing.
"""

from indexer.store.database import Connection, Database, connect, translated
from indexer.store.errors import LeaseLost
from indexer.store.queries import query
from indexer.store.steps import Lease

TAKE_LEASE = query("take_lease")
LOCK_LEASE = query("lock_lease")
DEAD_HOLDER = query("dead_holder")
RAISE_EPOCH = query("raise_epoch")
RENEW_LEASE = query("renew_lease")
DROP_LEASE = query("drop_lease")
WHO_HOLDS = query("who_holds")

LASTS = 15.0
"""Seconds that a lease outlives its last renewal."""


class LeaseKeeper:
    """Takes, renews and drops the lease of one rail, over a connection of its own."""

    def __init__(self, database: Database, rail: str, holder: str) -> None:
        self._database = database
        self._rail = rail
        self._holder = holder
        self._connection: Connection | None = None

    async def take(self) -> Lease | None:
        """The lease, or None while another holds it. Raises `StoreUnavailable`."""
        await self.close()
        self._connection = connection = await connect(self._database.dsn)
        with translated(self._database.dsn):
            # First our own lock, so that whoever looks at the lease once it is ours finds us alive. It is not free
            # for a moment if our last connection has not ended yet.
            if not await connection.fetchval(LOCK_LEASE, self._rail, self._holder):
                return None
            async with connection.transaction():
                dead = await connection.fetchval(DEAD_HOLDER, self._rail)
                if await connection.fetchval(TAKE_LEASE, self._rail, self._holder, dead, LASTS) is None:
                    return None
                return Lease(self._rail, await connection.fetchval(RAISE_EPOCH, self._rail))

    async def renew(self) -> None:
        """Keep it for `LASTS` more seconds. Raises `LeaseLost`, `StoreUnavailable`."""
        if self._connection is None or self._connection.is_closed():
            raise LeaseLost(f"rail {self._rail}: the connection that held the lease is gone")
        with translated(self._database.dsn):
            renewed = await self._connection.fetchval(RENEW_LEASE, self._rail, self._holder, LASTS)
        if renewed is None:
            raise LeaseLost(f"rail {self._rail}: another daemon has taken the lease")

    async def holder(self) -> str | None:
        """Who holds it."""
        row = await self._database.row(WHO_HOLDS, self._rail)
        return row["holder"] if row else None

    async def drop(self) -> None:
        """Let go, so that the next daemon need not wait."""
        if self._connection is not None and not self._connection.is_closed():
            with translated(self._database.dsn):
                await self._connection.execute(DROP_LEASE, self._rail, self._holder)
        await self.close()

    async def close(self) -> None:
        """Close the connection, which also lets go of the lock."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

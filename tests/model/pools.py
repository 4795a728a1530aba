"""Connections that outlive a story: a fresh one costs more than all that a story asks it.

A daemon's pool looks like a new one to it, with its own bound, and `terminate` cuts what it has in use. What is idle is
kept by the server's database for the next pool. The connections of leases, locks and listeners are never kept: there
the end of the server process means something.
"""

import asyncio
from typing import Any

import asyncpg

from indexer.store.database import Connection

SIZE = 40
"""Connections to one database, all pools together."""


class Pools:
    """Stands for the module `asyncpg` where `Database` makes its pool.

    What an array's type is made of is also asked once, and not by each connection: those types have the same numbers
    in every database.
    """

    def __init__(self) -> None:
        self._shared: dict[tuple[Any, ...], asyncpg.Pool] = {}
        self._types: dict[frozenset[int], Any] = {}
        self._introspect = asyncpg.Connection._introspect_types

    def open(self) -> None:
        """Begin to be asked for types."""
        pools = self

        async def introspect(connection: Connection, oids: set[int], timeout: float | None) -> Any:
            key = frozenset(oids)
            if key not in pools._types:
                pools._types[key] = await pools._introspect(connection, oids, timeout)
            return pools._types[key]

        asyncpg.Connection._introspect_types = introspect

    async def create_pool(self, dsn: str, *, max_size: int, **options: Any) -> "Pool":
        """Return a pool that borrows from the one of this database and these settings."""
        key = dsn, tuple(sorted(options["server_settings"].items()))
        if key not in self._shared:
            self._shared[key] = await asyncpg.create_pool(
                dsn, **{**options, "max_size": SIZE, "max_inactive_connection_lifetime": 0, "max_queries": 10**9}
            )
        return Pool(self._shared[key], max_size)

    def forget(self, dsn: str) -> None:
        """Cut what is kept for a database that goes."""
        for key in [key for key in self._shared if key[0] == dsn]:
            self._shared.pop(key).terminate()

    def close(self) -> None:
        """Cut everything."""
        asyncpg.Connection._introspect_types = self._introspect
        for dsn in {dsn for dsn, _ in self._shared}:
            self.forget(dsn)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncpg, name)


class Pool:
    """What `Database` asks of a pool: a bound of its own, and an end that cuts what is in use."""

    def __init__(self, shared: asyncpg.Pool, max_size: int) -> None:
        self._shared, self._places = shared, asyncio.Semaphore(max_size)
        self._used: set[Connection] = set()
        self._ended = False

    async def acquire(self, *, timeout: float) -> Connection:
        """Return a connection. Raises TimeoutError, and what asyncpg raises."""
        async with asyncio.timeout(timeout):
            await self._places.acquire()
            try:
                connection = await self._shared.acquire()
            except BaseException:
                self._places.release()
                raise
        self._used.add(connection)
        if self._ended:
            await self.release(connection, timeout=timeout)
            raise asyncpg.InterfaceError("pool is closing")
        return connection

    async def release(self, connection: Connection, *, timeout: float) -> None:
        """Give a connection back; a transaction that is still open on it is rolled back."""
        try:
            # If this is cancelled, the driver goes on tidying up, and the connection still counts as in use.
            await self._shared.release(connection, timeout=timeout)
            self._used.discard(connection)
        finally:
            self._places.release()

    def terminate(self) -> None:
        """Cut what is in use, in the middle of whatever it does."""
        self._ended = True
        for connection in self._used:
            if connection._con is not None:  # None: the driver has it back
                connection.terminate()
        self._used.clear()

"""Sessions that outlive a daemon: most of what a story cost Postgres was to plan the same statements in new sessions.

A pool lends them, and keeps them for the next daemon of the same name. One that was in the middle of something when its
daemon ended is closed, so that Postgres rolls back what a dead daemon leaves, as it does elsewhere. The connection
that holds a lease, and the one that listens, belong to no pool, and end with their daemon. One that has asked for a
lease in vain is kept: a daemon on standby asks six times a second.
"""

import asyncio
import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakSet

import asyncpg

from railwatch.store.lease import ACQUIRE_LEASE

Key = tuple[str, tuple[tuple[str, str], ...]]


def remember_types() -> Callable[[], None]:
    """Look up what a type's number means once for all sessions; returns what ends that.

    All databases of a model's server are copies of one, so that a number means the same in each.
    """
    look_up = asyncpg.Connection._introspect_types
    known: dict[frozenset[int], Any] = {}

    async def remembered(connection: Any, numbers: Any, timeout: float | None) -> Any:
        if (key := frozenset(numbers)) not in known:
            known[key] = await look_up(connection, numbers, timeout)
        return known[key]

    asyncpg.Connection._introspect_types = remembered
    return functools.partial(setattr, asyncpg.Connection, "_introspect_types", look_up)


class Sessions:
    """What stands in for the module `asyncpg` in `railwatch.store.database`; only its pools are others."""

    def __init__(self) -> None:
        self.idle: defaultdict[Key, list[Any]] = defaultdict(list)
        self._pools: WeakSet[KeptPool] = WeakSet()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncpg, name)

    async def create_pool(
        self, dsn: str, *, max_size: int, init: Callable[[Any], Awaitable[None]], server_settings: Mapping[str, str],
        command_timeout: float, **_: object,
    ) -> "KeptPool":  # fmt: skip
        """Return a pool that takes idle sessions of the same address and settings before it opens one."""

        async def connect() -> Any:
            connection = await asyncpg.connect(
                dsn, timeout=10, command_timeout=command_timeout, server_settings=dict(server_settings)
            )
            await init(connection)
            return connection

        pool = KeptPool(self.idle[dsn, tuple(sorted(server_settings.items()))], connect, max_size, dsn)
        self._pools.add(pool)
        return pool

    async def connect(self, dsn: str, *, server_settings: Mapping[str, str], **more: Any) -> "LeaseSession":
        """Return a session outside any pool: an idle one of the same address and settings, or a new one."""
        idle = self.idle[dsn, tuple(sorted(server_settings.items()))]
        while idle:
            if not (connection := idle.pop()).is_closed():
                return LeaseSession(connection, idle)
        return LeaseSession(await asyncpg.connect(dsn, server_settings=dict(server_settings), **more), idle)

    def is_in_transaction(self, dsn: str) -> bool:
        """Whether a session that is lent for that address is within a transaction."""
        return any(pool.is_in_transaction for pool in self._pools if pool.dsn == dsn)

    async def leave(self, database: str) -> None:
        """Close every idle session on a database, and wait until Postgres has ended them."""
        for (dsn, _), idle in list(self.idle.items()):  # Others come while it waits.
            if f"/{database}?" in dsn:
                kept, idle[:] = list(idle), []
                await asyncio.gather(*(each.close(timeout=5) for each in kept), return_exceptions=True)

    def leave_all(self) -> None:
        """Close every idle session."""
        for idle in self.idle.values():
            while idle:
                idle.pop().terminate()


class LeaseSession:
    """A session outside any pool, which is kept for the next one if it has just asked for a lease in vain.

    One that held a lease ends in truth: a copy of the database may name it as the holder, which a failover must find
    dead.
    """

    def __init__(self, connection: Any, idle: list[Any]) -> None:
        self._connection, self._idle = connection, idle
        self._asked_in_vain = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchval(self, query: str, *args: Any, **more: Any) -> Any:
        """Ask, and note whether it was for a lease, and in vain."""
        self._asked_in_vain = False
        value = await self._connection.fetchval(query, *args, **more)
        self._asked_in_vain = query == ACQUIRE_LEASE and value is None
        return value

    def terminate(self) -> None:
        """Keep the session, or end it with whatever it holds."""
        if self._asked_in_vain and not self._connection.is_closed():
            self._asked_in_vain = False
            self._idle.append(self._connection)
        else:
            self._connection.terminate()


class KeptPool:
    """The part of `asyncpg.Pool` that `Database` needs. ``idle`` is shared with all pools of the same key."""

    def __init__(self, idle: list[Any], connect: Callable[[], Awaitable[Any]], size: int, dsn: str) -> None:
        self._idle, self._connect, self.dsn = idle, connect, dsn
        self._turns = asyncio.Semaphore(size)
        self._lent: set[Any] = set()
        self._is_closed = False

    @property
    def is_in_transaction(self) -> bool:
        """Whether one of those that are lent is within a transaction."""
        return any(not each.is_closed() and each.is_in_transaction() for each in self._lent)

    async def acquire(self, *, timeout: float) -> Any:
        """Return a session, once fewer than ``size`` are lent. Raises TimeoutError, asyncpg.InterfaceError."""
        async with asyncio.timeout(timeout):
            await self._turns.acquire()
            try:
                connection = await self._one()
            except BaseException:
                self._turns.release()
                raise
        self._lent.add(connection)
        return connection

    async def _one(self) -> Any:
        self._raise_if_closed()
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        connection = await self._connect()
        if self._is_closed:
            connection.terminate()
        self._raise_if_closed()
        return connection

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise asyncpg.InterfaceError("pool is closed")

    async def release(self, connection: Any, *, timeout: float) -> None:
        """Keep the session, unless its last statement or transaction is not over."""
        self._lent.discard(connection)
        task = asyncio.current_task()
        is_broken_off = task is not None and task.cancelling() > 0
        if connection.is_closed() or is_broken_off or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)
        self._turns.release()

    def terminate(self) -> None:
        """Lend no more, and close what is lent."""
        self._is_closed = True
        for connection in self._lent:
            connection.terminate()

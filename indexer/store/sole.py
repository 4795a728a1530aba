"""At most one deliverer posts: a lock that lives with a connection of its own.

A holder that dies lets go with its connection, at once; one that is paused keeps it. One that loses its connection
notices within a heartbeat. Until then two may post the same event, under the same webhook-id.
"""

import os
import socket

from indexer.store.database import Connection, connect, translated
from indexer.store.errors import StoreUnavailable
from indexer.store.queries import query

LOCK_DELIVERER = query("lock_deliverer")
NAME_DELIVERER = query("name_deliverer")
WHO_DELIVERS = query("who_delivers")

BEAT_TIMEOUT = 5.0


class DelivererLock:
    """Takes and keeps the lock. The holder is known by host and process in ``pg_stat_activity``."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to have ended."""
        return self._connection is None or bool(self._connection.is_closed())

    async def take(self) -> str | None:
        """None: it is ours. Otherwise the name of who has it. Raises `StoreUnavailable`."""
        self.drop()
        connection = await connect(self._dsn)
        try:
            with translated(self._dsn):
                await connection.fetchval(
                    NAME_DELIVERER, f"railwatch deliver {socket.gethostname()[:30]}/{os.getpid()}"
                )
                if await connection.fetchval(LOCK_DELIVERER):
                    self._connection, connection = connection, None
                    return None
                return str(await connection.fetchval(WHO_DELIVERS) or "a deliverer that has just ended")
        finally:
            if connection is not None:
                connection.terminate()

    async def beat(self) -> None:
        """Raises `StoreUnavailable` if the connection, and the lock with it, is gone."""
        if self._connection is None or self.is_lost:
            raise StoreUnavailable("the connection that held the deliverer's lock is gone")
        with translated(self._dsn):
            await self._connection.fetchval("select 1", timeout=BEAT_TIMEOUT)

    def drop(self) -> None:
        """Let go."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

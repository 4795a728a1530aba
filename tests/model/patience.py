"""How people and services wait for a row that a paused daemon has locked: they try again.

A daemon may pause after an act has begun to wait for it. That wait ends before Postgres ends the daemon's session.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable

T = TypeVar("T")

TRIES = 3
"""Tries of one act. During the second wait at the latest, Postgres ends the session of a daemon that remains paused."""


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Try ``act`` again after it has waited for a lock in vain. Raises what the last try raises."""
    for _ in range(TRIES - 1):
        try:
            return await act()
        except StoreUnavailable as unavailable:
            if not isinstance(unavailable.__cause__, asyncpg.LockNotAvailableError):
                raise
    return await act()


class PatientDatabase(Database):
    """The database as people and services use it. Each call of `value` is one act."""

    async def value(self, sql: str, *args: Any) -> Any:
        """Return the first value of one query, which waits for locks as long as `patiently` does."""
        return await patiently(functools.partial(super().value, sql, *args))

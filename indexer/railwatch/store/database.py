"""The connection to Postgres: a small pool, values in the shapes we use, and errors that say what to do next."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import msgspec

from railwatch.dsn import read_dsn
from railwatch.rail.printable import printable
from railwatch.redaction import hidden
from railwatch.store.errors import Refused, StoreUnavailable

# asyncpg carries no types of its own; these names say what is meant.
Connection: TypeAlias = Any
Row: TypeAlias = Any

TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says of a connection that ended in the middle of its own tidying up
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a wrong role or password, which an operator corrects meanwhile
)
"""Retrying the whole step may help (HAZARDS P8, P9). Anything else is a defect, and is not caught."""

AWAY_CLASSES = ("08", "28", "3D", "40", "53", "57", "58", "F0")
AWAY_CODES = frozenset({"25006", "25P03", "25P04", "55006", "55P03"})
"""SQLSTATEs, by class and one by one, that mean the same (https://www.postgresql.org/docs/current/errcodes-appendix.html).

The driver's classes above do not know all of them: a newer Postgres has more, and a session that Postgres ended because
it was idle in its transaction is none of theirs.
"""

ROLLBACK_TIMEOUT = 2.0
"""Seconds for a rollback. A connection that takes longer is cut off, and then Postgres rolls back by itself."""

COMMAND_TIMEOUT = 60.0
"""Seconds for any one statement: a silent network drop must not hold a rail (STACK, "Postgres")."""

BOUNDS = {
    "application_name": "railwatch",
    "timezone": "UTC",
    "search_path": "pg_catalog, pg_temp",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Settings of every connection. If its client is paused or cut off, it releases its locks within about ten seconds,
well before the lease expires. The search path leaves out schemas in which other roles can create objects."""

SESSION = {
    **BOUNDS,
    "statement_timeout": "60s",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}
"""Every statement is planned once for each connection: to plan them anew is a fifth of what a step costs Postgres.

All of them find their rows by an index. A plan that was made while the tables were empty must do so as well, for it is
used until Postgres has counted again, and by then a catch-up has filled them.
"""


class Database:
    """A pool on one database. Enter it before use. ``read_only``: Postgres refuses every change that is asked of it."""

    def __init__(self, dsn: str, *, size: int = 8, read_only: bool = False) -> None:
        self.dsn = dsn
        self._size = size
        self._settings = {**SESSION, "default_transaction_read_only": "on"} if read_only else SESSION
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connect. Raises `StoreUnavailable`."""
        with translated(self.dsn):
            self._pool = await asyncpg.create_pool(
                self.dsn,
                min_size=0,
                max_size=self._size,
                init=prepare_connection,
                reset=_nothing_to_reset,
                command_timeout=COMMAND_TIMEOUT,
                timeout=10,
                server_settings=self._settings,
            )

    async def close(self) -> None:
        """Close every connection, and cut off one that hangs."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.terminate()

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Return one connection, outside a transaction. Errors are translated."""
        if self._pool is None:
            raise StoreUnavailable("the database is not open")
        with translated(self.dsn):
            connection = await self._pool.acquire(timeout=10)
            try:
                yield connection
            finally:
                await self._pool.release(connection, timeout=ROLLBACK_TIMEOUT)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Begin a transaction that commits on leaving unless an exception leaves. Never hold it across a node query."""
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except BaseException:
                await _roll_back(connection, transaction)
                raise
            await transaction.commit()

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        """Return all rows of one query."""
        async with self.connection() as connection:
            rows: list[Row] = await connection.fetch(sql, *args)
            return rows

    async def row(self, sql: str, *args: Any) -> Row | None:
        """Return the first row of one query, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *args)

    async def value(self, sql: str, *args: Any) -> Any:
        """Return the first value of one query."""
        async with self.connection() as connection:
            return await connection.fetchval(sql, *args)


async def _roll_back(connection: Connection, transaction: Any) -> None:
    """Roll back within a timeout, or cut the connection off. Postgres keeps nothing of an open transaction."""
    try:
        async with asyncio.timeout(ROLLBACK_TIMEOUT):
            await transaction.rollback()
    except (*TRANSIENT, asyncpg.PostgresError):
        connection.terminate()


async def connect(dsn: str, *, lock_timeout: str = BOUNDS["lock_timeout"]) -> Connection:
    """Open a connection outside the pool, for a task that lives as long as the daemon. Raises `StoreUnavailable`."""
    with translated(dsn):
        connection = await asyncpg.connect(
            dsn,
            timeout=10,
            command_timeout=COMMAND_TIMEOUT,
            server_settings={**BOUNDS, "lock_timeout": lock_timeout},
        )
        await prepare_connection(connection)
        return connection


async def prepare_connection(connection: Connection) -> None:
    """Read jsonb as Python values. Numerics stay Decimal, which is exact both ways; `int()` at the boundary."""
    _notice_silence(connection)
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary"
    )
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_to_moment, decoder=_from_moment, format="tuple"
    )


EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Postgres counts microseconds from here (https://www.postgresql.org/docs/current/protocol.html)."""
MICROSECOND = timedelta(microseconds=1)
FIRST_MOMENT, LAST_MOMENT = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""What a moment of a row may be here, a day within what Python knows, so that no time zone leaves it.

A row of an older version may hold infinity, or a year that Python does not know; the driver would give a moment without
a time zone, which compares with no other, or raise. It is read as the first or the last of these.
"""
_FIRST, _LAST = (FIRST_MOMENT - EPOCH) // MICROSECOND, (LAST_MOMENT - EPOCH) // MICROSECOND


def _to_moment(value: datetime) -> tuple[int]:
    if value.tzinfo is None:
        raise ValueError("a moment without a time zone is none")
    return ((value - EPOCH) // MICROSECOND,)


def _from_moment(wire: tuple[int]) -> datetime:
    return EPOCH + timedelta(microseconds=min(max(wire[0], _FIRST), _LAST))


def _notice_silence(connection: Connection) -> None:
    """Have the kernel end a TCP connection whose packets vanish, within about ten seconds."""
    # The driver offers no public way to its socket. Where it has none to show, its own timeouts remain.
    transport = getattr(connection, "_transport", None)
    wire = transport.get_extra_info("socket") if transport is not None else None
    if wire is None or wire.family not in (socket.AF_INET, socket.AF_INET6):
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 10_000)):
        if (option := getattr(socket, name, None)) is not None:
            wire.setsockopt(socket.IPPROTO_TCP, option, value)


async def _nothing_to_reset(_: Connection) -> None:
    """No statement here changes a session. An open transaction is rolled back before; the rest would cost a turn.

    It could also fail unheard: the driver shields it from a cancellation, and `Database.close` would cut it off.
    """


JSONB_VERSION = b"\x01"
"""First byte of jsonb on the wire. COPY needs the binary form."""


def _to_jsonb(value: Any) -> bytes:
    return JSONB_VERSION + msgspec.json.encode(value)


def _from_jsonb(data: bytes) -> Any:
    """Decode a value. A value that no decoder can hold must not stop the reader of the other rows."""
    try:
        return msgspec.json.decode(data[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return {"unreadable": f"{len(data):,} bytes: {error}"}


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except TRANSIENT as error:
        if isinstance(error, ValueError):
            raise  # The driver's error for a value that fits no column: waiting would not help.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            # We were cancelled, and the rollback met a dead connection: that must not pass for a database to wait for.
            raise asyncio.CancelledError from error
        raise StoreUnavailable(in_words(dsn, error)) from error
    except asyncpg.PostgresError as error:
        code = error.sqlstate or ""
        if code.startswith("RW"):
            raise Refused(error.message or str(error), code, error.hint) from error
        if code.startswith(AWAY_CLASSES) or code in AWAY_CODES:
            raise StoreUnavailable(in_words(dsn, error)) from error
        raise


def public_url(dsn: str) -> str:
    """Return where a DSN points, without a secret."""
    return read_dsn(dsn).place


def in_words(dsn: str, error: BaseException) -> str:
    """Return which server failed and how, in one line without a secret."""
    return f"Postgres at {public_url(dsn)}: {type(error).__name__}: {printable(hidden(str(error)))}"

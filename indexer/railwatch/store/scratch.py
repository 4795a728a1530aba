"""A database of one command's own: made with the whole schema, and dropped when the command ends.

One that is made with a clock reads the time that its client sets (`ScratchDatabase.clock`) wherever the schema says
`now()`, and makes the same ids each time: the schema `replay` has functions of these names, and is searched first.
"""

import asyncio
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Self

import asyncpg

from railwatch.store.database import SESSION, Connection, Database, translated
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.errors import StoreUnavailable
from railwatch.store.migrate import migrate

PREFIX = "railwatch_scratch_"
SEARCH_PATH = "replay, pg_catalog, pg_temp"

CLOCK = """
create schema replay;
create function replay.now() returns timestamptz language sql stable as $$
    select coalesce(nullif(pg_catalog.current_setting('replay.now', true), '')::timestamptz, pg_catalog.now())
$$;
create sequence replay.ids;
create function replay.gen_random_uuid() returns uuid language sql volatile as $$
    select pg_catalog.md5(pg_catalog.nextval('replay.ids')::text)::uuid
$$;
"""

FUNCTIONS = """
select p.oid::regprocedure::text from pg_proc p
where p.pronamespace = 'railwatch'::regnamespace and p.proconfig::text like '%search_path%'
"""
"""Functions that name their search path: they must find the clock as well."""


@asynccontextmanager
async def scratch_database(url: str | None = None, *, clock: bool = False, keep: bool = False) -> AsyncIterator[str]:
    """Make a new database, and yield its DSN; drop it at the end unless ``keep``.

    It is made on the server of ``url``, whose role must be allowed to create databases; without one, on a Postgres that
    is started in a temporary folder and removed. Raises `StoreUnavailable`, `EmbeddedPostgresError`.
    """
    async with AsyncExitStack() as stack:
        server = url if url is not None else await stack.enter_async_context(_temporary_server())
        name = PREFIX + secrets.token_hex(6)
        await _on_server(server, f"create database {name}")
        dsn = _dsn_of(server, name)
        try:
            await _make_schema(dsn, clock)
            yield dsn
        finally:
            if not keep:
                await _on_server(server, f"drop database if exists {name} with (force)")


@asynccontextmanager
async def _temporary_server() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="railwatch-scratch-") as name:
        # Where we are root, the server runs as another user, to whom the folder must be open.
        await asyncio.to_thread(Path(name).chmod, 0o711)
        async with EmbeddedPostgres(Path(name) / "postgres") as dsn:
            yield dsn


async def _on_server(dsn: str, statement: str) -> None:
    with translated(dsn):
        try:
            connection = await asyncpg.connect(dsn, timeout=10)
        except asyncpg.PostgresError as error:
            raise StoreUnavailable(f"the server for a scratch database cannot be used: {error}") from error
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError as error:
            raise StoreUnavailable(
                f"a scratch database cannot be made: {error}; give the role CREATEDB, or leave --database out"
            ) from error
        finally:
            await connection.close()


def _dsn_of(dsn: str, name: str) -> str:
    """Return ``dsn`` with another database's name."""
    return re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\g<1>/{name}", dsn)


async def _make_schema(dsn: str, clock: bool) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        if clock:
            await connection.execute(CLOCK)
            await connection.execute(f"set search_path = {SEARCH_PATH}")
        await migrate(connection)
        if clock:
            for row in await connection.fetch(FUNCTIONS):
                await connection.execute(f"alter function {row[0]} set search_path = {SEARCH_PATH}")
    finally:
        await connection.close()


class ScratchDatabase(Database):
    """A scratch database that was made with a clock, used by one task at a time.

    ``clock`` returns the time that a statement reads. ``while_busy`` returns a context that is held as long as the
    server works for us.
    """

    def __init__(
        self,
        dsn: str,
        clock: Callable[[], datetime],
        while_busy: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(dsn, size=1)
        self._settings = {**SESSION, "search_path": SEARCH_PATH, "synchronous_commit": "off"}
        self._clock, self._while_busy = clock, while_busy
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Lock the server for one task, so that the order of its statements depends on nothing else."""
        with self._while_busy():
            async with self._turn:
                yield

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """`Database.connection`, in turn and at the time of the clock."""
        async with self.turn(), super().connection() as connection:
            await connection.fetchval("select set_config('replay.now', $1, false)", self._clock().isoformat())
            yield connection

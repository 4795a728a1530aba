"""A Postgres of the model's own, with a clock that stories move, and databases that are emptied after each story."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import asyncpg

from indexer.store.database import Connection
from indexer.store.embedded import EmbeddedPostgres
from indexer.store.migrate import migrate
from tests.model.clock import SEARCH_PATH

CLOCK = """
create schema model;
create table model.clock (passed interval not null);
insert into model.clock values ('0');
create function model.now() returns timestamptz language sql stable as
    'select pg_catalog.now() + passed from model.clock';
"""
"""`now()` of the whole schema resolves to this one, because the schema `model` comes first in the search path."""

PATHS = """
select p.oid::regprocedure::text from pg_proc p
where p.pronamespace = 'railwatch'::regnamespace and p.proconfig::text like '%search_path%'
"""

TABLES = """
select c.relname, (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
                   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns
from pg_class c where c.relnamespace = 'railwatch'::regnamespace and c.relkind = 'r' order by 1
"""

EMPTIED = """
create function model.begin_anew() returns void language plpgsql set session_replication_role = replica as $$
begin
    {deletes}
    {inserts}
    update model.clock set passed = '0';
end $$
"""
"""Triggers sleep meanwhile. The tables keep their files, so that no connection has to look or plan again."""

CUT_OFF = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = $1 and pid <> $2 and application_name like 'railwatch%'
"""

STRAGGLERS = "from pg_stat_activity where datname = any($1) and state <> 'idle'"
BUSY = f"select count(*) {STRAGGLERS}"

STRAGGLERS_WITHIN = 1.0
"""Seconds in which the last statement of a daemon that was cut off has to end by itself."""

VACUUM_EVERY = 10
"""Stories after which what was deleted is cleared away."""


@contextmanager
def asking_once() -> Iterator[None]:
    """Ask once what arrays are made of, and not on each connection: types have the same numbers in every database."""
    known: dict[frozenset[int], Any] = {}
    ask = asyncpg.Connection._introspect_types

    async def introspect(connection: Connection, oids: set[int], timeout: float | None) -> Any:
        key = frozenset(oids)
        if key not in known:
            known[key] = await ask(connection, oids, timeout)
        return known[key]

    asyncpg.Connection._introspect_types = introspect
    try:
        yield
    finally:
        asyncpg.Connection._introspect_types = ask


class Server:
    """Lends databases with the schema in them. What is written survives no crash: nothing waits for a disk."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="railwatch-model-"))
        # The server runs as another user when we are root.
        self._folder.chmod(0o711)
        self._postgres = EmbeddedPostgres(self._folder / "data")
        self._free: list[str] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._used: dict[str, int] = {}
        self._errands: dict[str, Connection] = {}

    async def __aenter__(self) -> Self:
        self._dsn = await self._postgres.start()
        self._admin = await asyncpg.connect(self._dsn, database="postgres")
        for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off", "autovacuum = off"):
            await self._admin.execute(f"alter system set {setting}")
        await self._admin.execute("select pg_reload_conf()")
        await self._admin.execute(f"alter role current_user set search_path = {SEARCH_PATH}")
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(CLOCK)
            await migrate(connection)
            for row in await connection.fetch(PATHS):
                await connection.execute(f"alter function {row[0]} set search_path = {SEARCH_PATH}")
            self._tables = {row["relname"]: row["columns"] for row in await connection.fetch(TABLES)}
            await _prepare_to_empty(connection, self._tables)
        finally:
            await connection.close()
        self._types = asking_once()
        self._types.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._types.__exit__(None, None, None)
        for connection in (self._admin, *self._errands.values()):
            connection.terminate()
        await self._postgres.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def dsn(self, name: str) -> str:
        """Return the address of a database."""
        return self._dsn.replace("/railwatch?", f"/{name}?")

    async def take(self) -> str:
        """Return the name of a database that holds the schema and nothing else."""
        if not self._free:
            await asyncio.gather(*self._chores)
        if self._free:
            return self._free.pop(0)
        name = f"story_{uuid4().hex[:12]}"
        async with self._turn:
            await self._admin.execute(f"create database {name} template railwatch")
        return name

    async def copy(self, source: str) -> str:
        """Copy a database that nobody changes meanwhile; returns the copy's name.

        A copy is another instance of the feed, as a replica is, because a story never gets a database twice.
        """
        name = await self.take()
        old, new = await self._errand(source), await self._errand(name)
        async with new.transaction():
            await new.execute("set local session_replication_role = replica")
            await _copy_rows(old, new, self._tables)
        return name

    async def cut_off(self, name: str, *, but: int) -> None:
        """End every connection to a database except one, by its process id."""
        async with self._turn:
            await self._admin.execute(CUT_OFF, name, but)

    def give_back(self, *names: str) -> None:
        """Empty databases that nobody uses any more, in their own time."""
        chore = asyncio.create_task(self._empty(names))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _empty(self, names: tuple[str, ...]) -> None:
        began = time.monotonic()
        async with self._turn:
            while await self._admin.fetchval(BUSY, names):
                await asyncio.sleep(0.005)
                if time.monotonic() - began > STRAGGLERS_WITHIN:
                    await self._admin.fetch(f"select pg_terminate_backend(pid) {STRAGGLERS}", names)
        for name in names:
            connection = await self._errand(name)
            await connection.fetchval("select model.begin_anew()")
            self._used[name] = self._used.get(name, 0) + 1
            if self._used[name] % VACUUM_EVERY == 0:
                await connection.execute("vacuum")
            self._free.append(name)

    async def _errand(self, name: str) -> Connection:
        """Our own connection to a database, which no story ever cuts."""
        if name not in self._errands:
            self._errands[name] = await asyncpg.connect(self.dsn(name))
        return self._errands[name]


async def _prepare_to_empty(connection: Connection, tables: dict[str, str]) -> None:
    """Keep what the tables hold at first, and make the function that goes back to it."""
    filled = []
    for table in tables:
        await connection.execute(f"create table model.{table} as select * from railwatch.{table}")
        if await connection.fetchval(f"select exists (select from model.{table})"):
            filled.append(table)
        if await connection.fetchval(
            "select exists (select from pg_trigger where tgrelid = $1::text::regclass and tgname = 'append_only')",
            f"railwatch.{table}",
        ):
            await connection.execute(f"alter table railwatch.{table} enable trigger append_only")
    deletes = "".join(f"delete from railwatch.{table};\n    " for table in tables)
    inserts = "".join(
        f"insert into railwatch.{table} ({tables[table]}) overriding system value select {tables[table]} "
        f"from model.{table};\n    "
        for table in filled
    )
    await connection.execute(EMPTIED.format(deletes=deletes, inserts=inserts))


async def _copy_rows(old: Connection, new: Connection, tables: dict[str, str]) -> None:
    await new.execute("".join(f"delete from railwatch.{table};" for table in tables))
    for table, columns in tables.items():
        rows: list[bytes] = []

        async def keep(data: bytes, rows: list[bytes] = rows) -> None:
            rows.append(bytes(data))

        listed = [column.strip('"') for column in columns.split(", ")]
        await old.copy_from_table(table, schema_name="railwatch", columns=listed, output=keep, format="binary")
        await new.copy_to_table(table, schema_name="railwatch", columns=listed, source=_sent(rows), format="binary")
    await new.execute("select setval(pg_get_serial_sequence('railwatch.rescans', 'number'), $1)", await _last(old))
    passed = await old.fetchval("select passed from model.clock")
    await new.execute("update model.clock set passed = $1", passed)


async def _last(connection: Connection) -> int:
    return int(await connection.fetchval("select nextval(pg_get_serial_sequence('railwatch.rescans', 'number'))"))


async def _sent(rows: list[bytes]) -> AsyncIterator[bytes]:
    for row in rows:
        yield row

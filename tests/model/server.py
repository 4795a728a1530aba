"""A Postgres of the model's own, with a clock that stories move, and an empty database for each in milliseconds."""

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Self
from uuid import uuid4

import asyncpg

from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from tests.folders import database_folder
from tests.model.clock import SEARCH_PATH
from tests.model.sessions import Sessions, remember_types

CLOCK = """
create schema model;
create table model.clock (passed interval not null);
insert into model.clock values ('0');
create function model.now() returns timestamptz language sql stable as
    'select pg_catalog.now() + passed from model.clock';
"""
"""`now()` of the whole schema resolves to this one, because the schema `model` comes first in the search path."""

STEPS = """
create table model.steps (rail text, epoch bigint, daemon text, primary key (rail, epoch, daemon));
create function model.note_step() returns trigger language plpgsql security definer as $$
begin
    insert into model.steps values (new.name, new.epoch, current_setting('model.daemon', true)) on conflict do nothing;
    return null;
end $$;
create trigger note_step after update on railwatch.rails for each row
    when (new.cursor_hash is distinct from old.cursor_hash) execute function model.note_step();
"""
"""Which daemon moved the cursor under which epoch of the lease."""

PATHS = """
select p.oid::regprocedure::text from pg_proc p
where p.pronamespace = 'railwatch'::regnamespace and p.proconfig::text like '%search_path%'
"""

CONTENT = """
create table model.initial (content jsonb);
create function model.tables() returns setof regclass language sql stable as $$
    select oid::regclass from pg_class where relkind = 'r' and oid <> 'model.initial'::regclass
      and relnamespace in ('railwatch'::regnamespace, 'model'::regnamespace)
$$;
create function model.sequences() returns setof regclass language sql stable as $$
    select oid::regclass from pg_class where relkind = 'S' and relnamespace = 'railwatch'::regnamespace
$$;
-- All but the generated ones, which Postgres computes from these.
create function model.columns(of regclass) returns text language sql stable as $$
    select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
    where attrelid = of and attnum > 0 and not attisdropped and attgenerated = ''
$$;
create function model.content() returns jsonb language plpgsql stable as $$
declare
    each regclass;
    rows jsonb;
    content jsonb = '{}';
begin
    for each in select model.tables() union all select model.sequences() loop
        execute format('select jsonb_agg(t) from (select * from %s) t', each) into rows;
        content = content || jsonb_build_object(each, rows);
    end loop;
    return content;
end $$;
create function model.holds(content jsonb default null) returns void
language plpgsql set session_replication_role = replica as $$
declare
    each regclass;
begin
    content = coalesce(content, (select i.content from model.initial i));
    perform setval(counter, (state ->> 'last_value')::bigint, (state ->> 'is_called')::boolean)
    from model.sequences() as counter, jsonb_array_elements(content -> counter::text) as state;
    for each in select model.tables() loop
        execute format('delete from %s', each);
        if jsonb_typeof(content -> each::text) = 'array' then
            execute format(
                'insert into %1$s (%2$s) overriding system value '
                'select %2$s from jsonb_populate_recordset(null::%1$s, $1)', each, model.columns(each)
            ) using content -> each::text;
        end if;
    end loop;
end $$;
do $$
declare
    each record;
begin
    insert into model.initial select model.content();
    -- What forbids to delete does so in every session but in the one of `model.holds`.
    for each in select tgrelid::regclass as name, tgname from pg_trigger
        where tgenabled = 'A' and not tgisinternal and tgparentid = 0 loop
        execute format('alter table %s enable trigger %I', each.name, each.tgname);
    end loop;
end $$;
"""
"""All rows of a database, and how another one, or the same one when it is used up, comes to hold them.

`model.content` is stable, so that all its queries see one moment. No file changes, so that plans stay good.
"""

STORIES = 200
"""Stories that a database serves. What was deleted stays in its files."""

KEPT = 4
"""Databases that wait for a story."""


class Server:
    """Has databases with the schema in them. What is written to them survives no crash: nothing waits for a disk."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="railwatch-model-", dir=database_folder()))
        # The server runs as another user when we are root.
        self._folder.chmod(0o711)
        self._postgres = EmbeddedPostgres(self._folder / "data")
        self._free: list[str] = []
        self._served: Counter[str] = Counter()
        self.sessions = Sessions()
        self._chores: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._forget_types = remember_types()
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
            await connection.execute(STEPS)
            for row in await connection.fetch(PATHS):
                await connection.execute(f"alter function {row[0]} set search_path = {SEARCH_PATH}")
            await connection.execute(CONTENT)
        finally:
            await connection.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._chores, return_exceptions=True)
        self.sessions.leave_all()
        await self._admin.close()
        await self._postgres.stop()
        self._forget_types()
        shutil.rmtree(self._folder, ignore_errors=True)

    def dsn(self, name: str) -> str:
        """Return the address of a database."""
        return self._dsn.replace("/railwatch?", f"/{name}?")

    async def take(self) -> str:
        """Return the name of a database that holds the schema and nothing else."""
        name = self._free.pop() if self._free else await self._make()
        self._served[name] += 1
        return name

    async def copy(self, source: Database) -> str:
        """Return the name of a database that holds what ``source`` held at one moment."""
        name = await self.take()
        content = await source.value("select model.content()")
        async with Database(self.dsn(name), size=1) as copy:
            await copy.value("select model.holds($1)", content)
        return name

    async def give_back(self, name: str) -> None:
        """Empty a database for another story; nobody uses it any more."""
        if self._served[name] >= STORIES or len(self._free) >= KEPT:
            self._drop_soon(name)
            return
        async with Database(self.dsn(name), size=1) as database:
            await database.value("select model.holds()")
        self._free.append(name)

    async def _make(self) -> str:
        name = f"story_{uuid4().hex[:12]}"
        async with self._turn:
            await self._admin.execute(f"create database {name} template railwatch strategy file_copy")
        return name

    async def cut_off(self, name: str, *, but: int) -> None:
        """End every connection to a database except one, by its process id."""
        others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> $2"
        async with self._turn:
            await self._admin.execute(others, name, but)

    def _drop_soon(self, name: str) -> None:
        chore = asyncio.create_task(self._drop(name))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _drop(self, name: str) -> None:
        await self.sessions.leave(name)
        async with self._turn:
            await self._admin.execute(f"drop database if exists {name} with (force)")

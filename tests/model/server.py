"""A Postgres of the model's own, with a clock that stories move, and a new database for each story in milliseconds."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Self
from uuid import uuid4

import asyncpg

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

STEPS = """
create table model.steps (epoch bigint, daemon text, primary key (epoch, daemon));
create function model.note_step() returns trigger language plpgsql security definer as $$
begin
    insert into model.steps values (new.epoch, current_setting('model.daemon', true)) on conflict do nothing;
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

READY = 2
"""Databases that are made in advance, while a story runs."""


class Server:
    """Makes databases with the schema in them. What is written to them survives no crash: nothing waits for a disk."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="railwatch-model-"))
        # The server runs as another user when we are root.
        self._folder.chmod(0o711)
        self._postgres = EmbeddedPostgres(self._folder / "data")
        self._ready: list[asyncio.Task[str]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._dsn = await self._postgres.start()
        self._admin = await asyncpg.connect(self._dsn, database="postgres")
        for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
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
        finally:
            await connection.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._ready, *self._chores, return_exceptions=True)
        await self._admin.close()
        await self._postgres.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def dsn(self, name: str) -> str:
        """Return the address of a database."""
        return self._dsn.replace("/railwatch?", f"/{name}?")

    async def take(self) -> str:
        """Return the name of a database that holds the schema and nothing else."""
        while len(self._ready) <= READY:
            self._ready.append(asyncio.create_task(self.copy("railwatch")))
        return await self._ready.pop(0)

    async def copy(self, source: str) -> str:
        """Copy a database to which nobody is connected; returns the copy's name."""
        name = f"story_{uuid4().hex[:12]}"
        async with self._turn:
            await self._admin.execute(f"create database {name} template {source} strategy file_copy")
        return name

    async def cut_off(self, name: str, *, but: int) -> None:
        """End every connection to a database except one, by its process id."""
        others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> $2"
        async with self._turn:
            await self._admin.execute(others, name, but)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected, in its own time."""
        chore = asyncio.create_task(self._drop(name))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _drop(self, name: str) -> None:
        async with self._turn:
            await self._admin.execute(f"drop database if exists {name} with (force)")

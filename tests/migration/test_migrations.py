"""Migrations lead to the schema that is written down, once, and the daemon refuses any other."""

import asyncio
import hashlib
from importlib.resources import files
from itertools import count
from typing import Any

import asyncpg
import pytest

from railwatch.config import Config
from railwatch.daemon.open_database import open_database
from railwatch.store import migrate as migrations
from railwatch.store.errors import SchemaMismatch
from railwatch.store.migrate import Migration, known_migrations, migrate, require_current

_numbers = count(1)

CATALOGS = {
    "tables": """
        select c.relname, c.relkind, obj_description(c.oid, 'pg_class')
        from pg_class c where c.relnamespace = 'railwatch'::regnamespace""",
    "columns": """
        select c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = 'railwatch'::regnamespace""",
    "indexes": "select tablename, indexname, indexdef from pg_indexes where schemaname = 'railwatch'",
    "functions": """
        select oid::regprocedure::text, pg_get_functiondef(oid), obj_description(oid, 'pg_proc'),
               array(select unnest(proacl)::text order by 1)::text
        from pg_proc where pronamespace = 'railwatch'::regnamespace""",
    "views": "select viewname, definition from pg_views where schemaname = 'railwatch'",
    "triggers": """
        select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) from pg_trigger
        where not tgisinternal
          and tgrelid in (select oid from pg_class where relnamespace = 'railwatch'::regnamespace)""",
    "grants": """
        select relname, array(select unnest(relacl)::text order by 1)::text from pg_class
        where relnamespace = 'railwatch'::regnamespace and relacl is not null""",
    "moves": "select from_state, to_state from railwatch.allowed_transitions",
    "feed position": "select one::text, last_seq from railwatch.feed_position",
}


@pytest.fixture
async def empty(server: str) -> str:
    """The DSN of a database with nothing in it."""
    return await make_empty(server)


async def make_empty(server: str) -> str:
    name = f"empty_{next(_numbers)}"
    connection = await asyncpg.connect(server, database="postgres")
    try:
        await connection.execute(f"create database {name}")
    finally:
        await connection.close()
    return server.replace("/railwatch?", f"/{name}?")


async def opened(dsn: str) -> Any:
    return await asyncpg.connect(dsn)


async def catalogs(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: sorted((tuple(row) for row in await connection.fetch(query)), key=repr)
        for name, query in CATALOGS.items()
    }


async def test_the_migrations_lead_to_the_schema_that_is_written_down(server: str, empty: str) -> None:
    other = await make_empty(server)
    migrated, written = await opened(empty), await opened(other)
    try:
        await migrate(migrated)
        await written.execute((files("railwatch.store") / "sql" / "schema.sql").read_text())
        ours, theirs = await catalogs(migrated), await catalogs(written)
        for name in CATALOGS:
            assert ours[name] == theirs[name], name
        for name in ("tables", "columns", "constraints", "indexes", "functions", "moves"):
            assert ours[name], f"the comparison of {name} compares nothing"
    finally:
        await migrated.close()
        await written.close()


async def test_migrating_again_applies_nothing(empty: str) -> None:
    connection = await opened(empty)
    try:
        assert [each.version for each in await migrate(connection)] == [each.version for each in known_migrations()]
        assert await migrate(connection) == []
        await require_current(connection)
    finally:
        await connection.close()


async def test_two_migrators_at_once_apply_each_migration_once(empty: str) -> None:
    connections = [await opened(empty) for _ in range(4)]
    try:
        applied = await asyncio.gather(*(migrate(each) for each in connections))
        # They may take turns between two migrations: each is applied once, by one of them.
        versions = sorted(each.version for some in applied for each in some)
        assert versions == [each.version for each in known_migrations()]
        await require_current(connections[0])
    finally:
        for each in connections:
            await each.close()


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_can_be_done_again(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = known_migrations()
    text = "create table railwatch.half (n int); select 1 / 0"
    bad = Migration(len(good) + 1, "broken", text, hashlib.sha256(text.encode()).hexdigest())
    connection = await opened(empty)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "known_migrations", lambda: [*good, bad])
            with pytest.raises(asyncpg.DivisionByZeroError):
                await migrate(connection)
            with pytest.raises(SchemaMismatch, match=r"lacks migration .*broken.*railwatch migrate"):
                await require_current(connection)
        assert await connection.fetchval("select to_regclass('railwatch.half')") is None
        await require_current(connection)
        # The lock is free again: another connection gets it at once.
        other = await opened(empty)
        try:
            assert await asyncio.wait_for(migrate(other), 5) == []
        finally:
            await other.close()
    finally:
        await connection.close()


WRONG = {
    "newer": (
        "insert into railwatch.migrations (version, name, checksum) values (9999, 'future', 'x')",
        "9999 .*does not know",
    ),
    "altered": ("update railwatch.migrations set checksum = 'x' where version = 1", "0001 .*another text"),
    "missing": ("delete from railwatch.migrations where version = 1", "lacks migration 0001"),
    "never migrated": ("drop table railwatch.migrations", "lacks migration 0001 .*railwatch migrate"),
}


@pytest.mark.parametrize("how", WRONG)
async def test_the_daemon_refuses_a_schema_that_it_does_not_know(dsn: str, how: str) -> None:
    statement, message = WRONG[how]
    connection = await opened(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
    rail = {"name": "story", "adapter": "fake", "chain_id": "fake:story", "nodes": [{"chain": "story"}]}
    config = Config.model_validate({"database": {"url": dsn}, "rail": [rail]})
    with pytest.raises(SchemaMismatch, match=message):
        async with open_database(config):
            pytest.fail("the daemon took a schema that it does not know")

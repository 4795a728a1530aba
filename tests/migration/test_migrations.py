"""Migrations lead to the schema that is written down, once, and the daemon refuses any other."""

import asyncio
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from railwatch.config import Config
from railwatch.daemon.open_database import open_database
from railwatch.store import migrate as migrations
from railwatch.store.errors import SchemaMismatch
from railwatch.store.migrate import Migration, known_migrations, migrate, require_current, schema_text

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
        await written.execute(schema_text())
        ours, theirs = await catalogs(migrated), await catalogs(written)
        for name in CATALOGS:
            assert ours[name] == theirs[name], name
        for name in ("tables", "columns", "constraints", "indexes", "functions", "moves"):
            assert ours[name], f"the comparison of {name} compares nothing"
    finally:
        await migrated.close()
        await written.close()


@pytest.mark.parametrize(
    ("difference", "name"),
    [
        ("create table railwatch.more (n int)", "tables"),
        ("alter table railwatch.rails add note text", "columns"),
        ("comment on column railwatch.rails.name is 'another'", "columns"),
        ("alter table railwatch.rails drop constraint rails_state_check", "constraints"),
        ("drop index railwatch.invoices_recent", "indexes"),
        ("alter function railwatch.feed_end() reset all", "functions"),
        ("create or replace view railwatch.consumer_lag as select 'x'::text as name, 0::bigint as position, "
         "0::bigint as lag, now() as waiting_since, now() as updated_at", "views"),
        ("drop trigger append_only on railwatch.refunds", "triggers"),
        ("grant delete on railwatch.rails to railwatch_reader", "grants"),
        ("delete from railwatch.allowed_transitions where from_state = 'refunded'", "moves"),
    ],
)  # fmt: skip
async def test_the_comparison_of_catalogs_sees_each_difference(empty: str, difference: str, name: str) -> None:
    connection = await opened(empty)
    try:
        await migrate(connection)
        before = await catalogs(connection)
        await connection.execute(difference)
        assert (await catalogs(connection))[name] != before[name]
    finally:
        await connection.close()


async def test_a_release_freezes_the_schema_and_the_next_migration_follows_it(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = tmp_path / "sql"
    shutil.copytree(str(migrations.SQL), sql)
    [initial] = known_migrations()
    shutil.copytree(sql / "schema", sql / "migrations/0001_initial")
    assert known_migrations(sql) == [initial], "the frozen migration has the text that databases recorded"
    more = "create table railwatch.more (n int)"
    (sql / "migrations/0002_more.sql").write_text(more)
    (sql / "schema/99_more.sql").write_text(more)
    assert known_migrations(sql) == [initial, Migration(2, "more", more)]
    connection = await opened(empty)
    try:
        assert await migrate(connection) == [initial]
        monkeypatch.setattr(migrations, "known_migrations", lambda: known_migrations(sql))
        assert await migrate(connection) == [Migration(2, "more", more)]
    finally:
        await connection.close()


def test_a_gap_between_migrations_is_refused(tmp_path: Path) -> None:
    sql = tmp_path / "sql"
    shutil.copytree(str(migrations.SQL), sql)
    (sql / "migrations/0003_late.sql").write_text("select 1")
    with pytest.raises(ValueError, match="1, 2, 3"):
        known_migrations(sql)


EARLY_NAMES = ("spine", "services", "exceptions", "webhooks", "balances", "refunds", "content", "leases", "feed")


@pytest.mark.parametrize(
    ("table", "applied"), [("public.railwatch_migrations", 3), ("railwatch.migrations", len(EARLY_NAMES))]
)
async def test_a_database_of_a_development_version_is_refused_and_left_as_it_is(
    empty: str, table: str, applied: int
) -> None:
    connection = await opened(empty)
    try:
        await connection.execute("create schema railwatch; create table railwatch.invoices (id uuid, state text)")
        await connection.execute(
            f"create table {table} (version int primary key, name text not null, checksum text not null, "
            "applied_at timestamptz not null default now())"
        )
        rows = [(number, name, f"{number:064}") for number, name in enumerate(EARLY_NAMES[:applied], 1)]
        await connection.executemany(f"insert into {table} (version, name, checksum) values ($1, $2, $3)", rows)
        everything = "select relname, relfilenode from pg_class where relnamespace >= 16384 or relname ~ 'railwatch'"
        before = await connection.fetch(everything)
        for attempt in (migrate, require_current):
            with pytest.raises(
                SchemaMismatch, match=r"0001 \(spine\).*changed nothing.*create an empty.*`railwatch migrate`"
            ):
                await attempt(connection)
        assert await connection.fetch(everything) == before
        assert await connection.fetchval(f"select count(*) from {table}") == applied
    finally:
        await connection.close()


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
    bad = Migration(len(good) + 1, "broken", text)
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

"""Numbered, forward-only migrations, one migrator at a time, and the check that refuses an unknown schema.

A migrator locks the table of applied migrations. Only roles that may write to that table can lock it, so a reader
cannot block a migration. The table is `railwatch.migrations`. Before migration 1 creates the schema, the table is in
`public`, where other roles may be able to create tables. Each use therefore verifies its owner and its triggers first.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import asyncpg

from railwatch.store.database import Connection
from railwatch.store.errors import SchemaMismatch, StoreUnavailable
from railwatch.store.queries import query

MISSING_ROLES = query("missing_roles")
MIGRATIONS_FAULT = query("migrations_fault")
MIGRATIONS_HOLDERS = query("migrations_holders")

MIGRATION_TIMEOUT = 3600.0
"""Seconds for one migration: it may have to build an index over every row."""

SQL = files("railwatch.store") / "sql"
_NUMBERED = re.compile(r"(\d{4})_(\w+?)(?:\.sql)?")

MIGRATIONS = "railwatch.migrations"
EARLY_MIGRATIONS = "public.railwatch_migrations"
CREATE_EARLY_MIGRATIONS = """
create table if not exists public.railwatch_migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the schema, as one text of SQL."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text, in hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def schema_text(sql: Traversable = SQL) -> str:
    """Return the whole schema: the files of its topics, in the order of their names."""
    return _text(sql / "schema")


def known_migrations(sql: Traversable = SQL) -> list[Migration]:
    """Return every migration that this version carries, ascending and without a gap.

    A migration is a file ``NNNN_name.sql``, or a folder ``NNNN_name`` whose files are concatenated. Migration 1 is the
    schema itself until a release freezes it as a folder (`sql/migrations/README.md`).
    """
    found = {1: Migration(1, "initial", schema_text(sql))}
    for entry in (sql / "migrations").iterdir():
        if match := _NUMBERED.fullmatch(entry.name):
            found[int(match[1])] = Migration(int(match[1]), match[2], _text(entry))
    if sorted(found) != list(range(1, len(found) + 1)):
        raise ValueError("migrations are not numbered 1, 2, 3 ...")
    return [found[version] for version in sorted(found)]


def _text(entry: Traversable) -> str:
    """Return the text of a file, or of a folder's SQL files in the order of their names."""
    if entry.is_file():
        return entry.read_text()
    parts = sorted((each for each in entry.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name)
    return "\n".join(part.read_text() for part in parts)


async def migrate(connection: Connection) -> list[Migration]:
    """Apply the missing migrations, each in its own transaction, and return those that this call applied.

    Raises `SchemaMismatch` before any change if the database has a migration that this version does not carry. Raises
    `StoreUnavailable`, with the names of the holders, if other sessions hold the migrations table for 20 seconds.
    """
    await _create_migrations_table(connection)
    applied: list[Migration] = []
    while (migration := await _apply_next(connection)) is not None:
        applied.append(migration)
    return applied


async def _create_migrations_table(connection: Connection) -> None:
    """Create the table of applied migrations unless it exists. If two sessions create it at once, one tries again."""
    if await _migrations_table(connection) is not None:
        return
    try:
        await connection.execute(CREATE_EARLY_MIGRATIONS)
    except (asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError):
        await connection.execute(CREATE_EARLY_MIGRATIONS)


async def _migrations_table(connection: Connection) -> str | None:
    """Return the qualified name of the migrations table, or None if there is none.

    Raises `SchemaMismatch` if another role owns the table, or if code of another role runs with it.
    """
    for name in (MIGRATIONS, EARLY_MIGRATIONS):
        if await connection.fetchval("select to_regclass($1) is not null", name):
            if fault := await connection.fetchval(MIGRATIONS_FAULT, name):
                raise SchemaMismatch(
                    f"{name} {fault}: railwatch did not create this table, and read nothing from it; check it with "
                    "psql, drop it if it is not yours, and run `railwatch migrate` again"
                )
            return name
    return None


async def _apply_next(connection: Connection) -> Migration | None:
    """Apply the first missing migration and return it; return None if none is missing. Read the list under the lock."""
    async with connection.transaction():
        await _lock_migrations(connection)
        missing = await _missing(connection)
        if not missing:
            return None
        migration = missing[0]
        # The driver does not expect the server's response to a text without any statement.
        await connection.execute(f"{migration.text}\n;\nselect 1", timeout=MIGRATION_TIMEOUT)
        await connection.execute(
            f"insert into {await _migrations_table(connection)} (version, name, checksum) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
        return migration


async def _lock_migrations(connection: Connection) -> None:
    """Lock the migrations table until the commit. Raises `StoreUnavailable` after 20 seconds, and names the holders."""
    while True:
        table = MIGRATIONS
        try:
            async with connection.transaction():
                table = await _migrations_table(connection) or EARLY_MIGRATIONS
                await connection.execute("set local lock_timeout = '20s'")
                await connection.execute(f"lock table {table} in share row exclusive mode")
                return
        except asyncpg.UndefinedTableError:
            continue  # Another migrator has just moved it.
        except asyncpg.LockNotAvailableError:
            holders = await connection.fetchval(MIGRATIONS_HOLDERS, table)
            raise StoreUnavailable(
                f"another session holds {table}: {holders or 'it has just ended'}; wait for that migration, or end the "
                "session with pg_terminate_backend, and run `railwatch migrate` again"
            ) from None


async def missing_roles(connection: Connection) -> list[str]:
    """Return the roles of the contract that do not exist, because the migrating user may not create roles."""
    return [row["role"] for row in await connection.fetch(MISSING_ROLES)]


async def require_current(connection: Connection) -> None:
    """Raise `SchemaMismatch` unless the schema is exactly the one that this version carries."""
    while True:
        try:
            missing = await _missing(connection)
            break
        except asyncpg.UndefinedTableError:
            continue  # A migrator moved the table between two of our statements.
    if missing:
        raise SchemaMismatch(
            f"the database lacks migration {missing[0].version:04} ({missing[0].name}); run `railwatch migrate`"
        )


async def _missing(connection: Connection) -> list[Migration]:
    """Return the migrations that the database lacks. Raises `SchemaMismatch` if it has one that is not ours."""
    table = await _migrations_table(connection)
    if table is None:
        return known_migrations()
    known = {each.version: each for each in known_migrations()}
    for row in await connection.fetch(f"select version, name, checksum from {table} order by version"):
        _require_same(row, known.pop(row["version"], None))
    return list(known.values())


def _require_same(applied: asyncpg.Record, ours: Migration | None) -> None:
    """Raise `SchemaMismatch` unless this version carries that applied migration with the same text."""
    label = f"migration {applied['version']:04} ({applied['name']})"
    if ours is None:
        raise SchemaMismatch(
            f"the database has {label}, which this version of railwatch does not know; run the version that applied "
            "it, or a newer one"
        )
    if ours.checksum != applied["checksum"]:
        raise SchemaMismatch(
            f"the database has {label} with another text than this version carries: a development version from before "
            "the first release applied it, or the text was edited; railwatch cannot upgrade this database and changed "
            "nothing in it. Keep it for its records, create an empty database, point database.url (or "
            "database.data_dir) at that, run `railwatch migrate`, and register the open invoices again"
        )

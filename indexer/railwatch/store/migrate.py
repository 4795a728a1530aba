"""Numbered, forward-only migrations, one migrator at a time, and the check that refuses a schema we do not know.

A migrator locks the book of migrations itself. Only roles that may write to it can do so: a reader cannot stop it. The
book stands in our schema; until a migration has made that, and in databases of before, it stands in `public`, where
others may be able to make tables. So it is looked at before anything is read from it or written into it.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from railwatch.store.database import Connection
from railwatch.store.errors import SchemaMismatch, StoreUnavailable
from railwatch.store.queries import query

MISSING_ROLES = query("missing_roles")

BOOK_HOLDERS = query("book_holders")
BOOK_FAULT = query("book_fault")

MIGRATION_TIMEOUT = 3600.0
"""Seconds for one migration: it may have to build an index over all that there is."""
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")

BOOK = "railwatch.migrations"
EARLY_BOOK = "public.railwatch_migrations"
MAKE_BOOK = """
create table if not exists public.railwatch_migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. ``checksum`` is the SHA-256 of its text."""

    version: int
    name: str
    text: str
    checksum: str


def known_migrations() -> list[Migration]:
    """All that this version carries, ascending and without a gap."""
    found = []
    for file in (files("railwatch.store") / "sql" / "migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            text = file.read_text()
            found.append(Migration(int(match[1]), match[2], text, hashlib.sha256(text.encode()).hexdigest()))
    found.sort(key=lambda each: each.version)
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are not numbered 1, 2, 3 ...")
    return found


async def migrate(connection: Connection) -> list[Migration]:
    """Apply what is missing, each in its own transaction; returns what was applied here.

    Raises `SchemaMismatch`, and `StoreUnavailable`, which names the holder, while another migrator is at work for long.
    """
    await _create_book(connection)
    applied: list[Migration] = []
    while (migration := await _apply_next(connection)) is not None:
        applied.append(migration)
    return applied


async def _create_book(connection: Connection) -> None:
    """Make the book, unless it is there. Of two that make it at once Postgres refuses one, which then finds it."""
    if await _book(connection) is not None:
        return
    try:
        await connection.execute(MAKE_BOOK)
    except (asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError):
        await connection.execute(MAKE_BOOK)


async def _book(connection: Connection) -> str | None:
    """Return where the book stands; None where there is none. Raises `SchemaMismatch` if it may be somebody else's."""
    for name in (BOOK, EARLY_BOOK):
        if await connection.fetchval("select to_regclass($1) is not null", name):
            if fault := await connection.fetchval(BOOK_FAULT, name):
                raise SchemaMismatch(
                    f"{name} {fault}: it is not the table that railwatch made, and nothing was read from it; look at "
                    "it with psql, drop it if it is not yours, and run `railwatch migrate` again"
                )
            return name
    return None


async def _apply_next(connection: Connection) -> Migration | None:
    """Apply the first migration that is missing; None: there is none. What is missing is read under the lock."""
    async with connection.transaction():
        await _lock_book(connection)
        missing = await _missing(connection)
        if not missing:
            return None
        migration = missing[0]
        # A text without any statement is answered in a way that the driver does not expect.
        await connection.execute(f"{migration.text}\n;\nselect 1", timeout=MIGRATION_TIMEOUT)
        await connection.execute(
            f"insert into {await _book(connection)} (version, name, checksum) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
        return migration


async def _lock_book(connection: Connection) -> None:
    """Hold the book to the commit. Raises `StoreUnavailable` with the name of whoever holds it for too long."""
    while True:
        book = BOOK
        try:
            async with connection.transaction():
                book = await _book(connection) or EARLY_BOOK
                await connection.execute("set local lock_timeout = '20s'")
                await connection.execute(f"lock table {book} in share row exclusive mode")
                return
        except asyncpg.UndefinedTableError:
            continue  # Another migrator has just moved it.
        except asyncpg.LockNotAvailableError:
            holders = await connection.fetchval(BOOK_HOLDERS, book)
            raise StoreUnavailable(
                f"another session holds {book}: {holders or 'it has just ended'}; wait for that migration, or end the "
                "session with pg_terminate_backend, and run `railwatch migrate` again"
            ) from None


async def missing_roles(connection: Connection) -> list[str]:
    """Roles of the contract that nobody has made, because the migrating user may not."""
    return [row["role"] for row in await connection.fetch(MISSING_ROLES)]


async def require_current(connection: Connection) -> None:
    """Raise `SchemaMismatch` unless the schema is exactly the one that this version knows."""
    while True:
        try:
            missing = await _missing(connection)
            break
        except asyncpg.UndefinedTableError:
            continue  # A migrator has moved the book between two statements of ours.
    if missing:
        raise SchemaMismatch(
            f"the database lacks migration {missing[0].version:04} ({missing[0].name}); run `railwatch migrate`"
        )


async def _missing(connection: Connection) -> list[Migration]:
    book = await _book(connection)
    if book is None:
        return known_migrations()
    known = {each.version: each for each in known_migrations()}
    applied = await connection.fetch(f"select version, name, checksum from {book} order by version")
    for row in applied:
        ours = known.pop(row["version"], None)
        if ours is None:
            raise SchemaMismatch(
                f"the database has migration {row['version']:04} ({row['name']}), which this version of railwatch does "
                "not know; run the version that made it, or a newer one"
            )
        if ours.checksum != row["checksum"]:
            raise SchemaMismatch(
                f"migration {row['version']:04} ({row['name']}) was applied with another text than this version "
                "carries; the schema cannot be trusted to be the one that it knows"
            )
    return list(known.values())

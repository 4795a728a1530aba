"""Numbered, forward-only migrations under an advisory lock, and the check that refuses a schema we do not know."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from indexer.store.database import Connection
from indexer.store.errors import SchemaMismatch
from indexer.store.queries import query

MISSING_ROLES = query("missing_roles")

LOCK = 0x7261696C  # "rail": one number for every version, so that two of them wait for each other
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")

BOOK = """
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
    for file in (files("indexer.store") / "sql" / "migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            text = file.read_text()
            found.append(Migration(int(match[1]), match[2], text, hashlib.sha256(text.encode()).hexdigest()))
    found.sort(key=lambda each: each.version)
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are not numbered 1, 2, 3 ...")
    return found


async def migrate(connection: Connection) -> list[Migration]:
    """Apply what is missing, each in its own transaction; returns what was applied. Raises `SchemaMismatch`."""
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(BOOK)
        missing = await _missing(connection)
        for migration in missing:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(
                    "insert into public.railwatch_migrations (version, name, checksum) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
        return missing
    finally:
        await connection.execute("select pg_advisory_unlock($1)", LOCK)


async def missing_roles(connection: Connection) -> list[str]:
    """Roles of the contract that nobody has made, because the migrating user may not."""
    return [row["role"] for row in await connection.fetch(MISSING_ROLES)]


async def require_current(connection: Connection) -> None:
    """Raise `SchemaMismatch` unless the schema is exactly the one that this version knows."""
    exists = await connection.fetchval("select to_regclass('public.railwatch_migrations') is not null")
    missing = await _missing(connection) if exists else known_migrations()
    if missing:
        raise SchemaMismatch(
            f"the database lacks migration {missing[0].version:04} ({missing[0].name}); run `railwatch migrate`"
        )


async def _missing(connection: Connection) -> list[Migration]:
    known = {each.version: each for each in known_migrations()}
    applied = await connection.fetch("select version, name, checksum from public.railwatch_migrations order by version")
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

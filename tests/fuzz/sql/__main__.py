"""``python -m tests.fuzz.sql --minutes 60``: the long form, in which a call above five seconds is a finding too."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import asyncpg

from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from tests.fuzz.sql.run import Report, fuzz

BATCHES = 25
"""Of a round: then a new database, so that what is read after each batch stays small."""


async def main() -> int:
    """Play, report, and return the number for the shell."""
    parser = argparse.ArgumentParser(prog="make fuzz-sql ARGS=", description="Hostile arguments of SQL functions.")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="the first round's; the number of a finding plays it again"
    )
    parser.add_argument("--lenient", action="store_true", help="a slow call is no finding")
    options = parser.parse_args()
    first = random.randrange(10**9) if options.seed is None else options.seed
    print(f"from --seed {first} on", flush=True)
    ends = time.monotonic() + options.minutes * 60
    report = Report()
    with tempfile.TemporaryDirectory(prefix="railwatch-fuzz-sql-") as name:
        folder = Path(name)
        await asyncio.to_thread(folder.chmod, 0o711)  # The server runs as another user when we are root.
        server = EmbeddedPostgres(folder / "data")
        dsn = await server.start()
        try:
            await _prepare(dsn)
            for seed in count(first):
                if time.monotonic() > ends:
                    break
                own = await _copied(dsn, f"round_{seed}")
                known = len(report.findings)
                await fuzz(own, str(seed), report, folder, batches=BATCHES, until=ends, strict=not options.lenient)
                for finding in report.findings[known:]:
                    print(finding, flush=True)
        finally:
            await server.stop()
    print(format_report(report))
    return 1 if report.findings else 0


async def _prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _copied(dsn: str, name: str) -> str:
    connection = await asyncpg.connect(dsn, database="postgres")
    try:
        await connection.execute(f"create database {name} template railwatch")
    finally:
        await connection.close()
    return dsn.replace("/railwatch?", f"/{name}?")


def format_report(report: Report) -> str:
    """Return a few lines of numbers."""

    def words(counted: dict[str, int]) -> str:
        return ", ".join(f"{name} {times}" for name, times in sorted(counted.items()))

    return (
        f"{report.rounds} rounds, {report.calls} calls, {len(report.findings)} findings\n"
        f"  returned: {words(report.returned)}\n  refused: {words(report.refused)}\n"
        f"  callers' own: {words(report.own)}\n  slowest: {report.slowest:.2f} s, {report.slowest_call}"
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

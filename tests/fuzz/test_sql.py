"""Hostile arguments of SQL functions, for half a minute: the long form is ``make fuzz-sql ARGS="--minutes 60"``."""

from pathlib import Path

from railwatch.store.database import Database
from tests.fuzz.sql.__main__ import format_report
from tests.fuzz.sql.ground import ROLES
from tests.fuzz.sql.run import CALLS, FUNCTIONS, Report, fuzz

SEED = "1"
BATCHES = 8


async def test_no_arguments_of_any_role_stop_another_session(dsn: str, tmp_path: Path) -> None:
    """Next to a daemon and a deliverer. Times of calls are printed, and compared with a generous bound only."""
    report = Report()
    await fuzz(dsn, SEED, report, tmp_path, batches=BATCHES)
    print(format_report(report))
    assert not report.findings, "\n".join(map(str, report.findings))
    assert report.calls > BATCHES * sum(CALLS.values()) / 2
    assert sum(report.returned.values()) > report.calls / 10, "arguments must reach what is behind the checks"


async def test_every_function_is_called_or_no_role_may_call_it(database: Database) -> None:
    """What the fuzzer calls is read from the catalog, so that a new function is called without a change here."""
    rights = await database.rows("select distinct object from railwatch.rights where privileges = 'execute'")
    given = {row["object"].removeprefix("function railwatch.") for row in rights}
    roles = [f"railwatch_{role}" for role in ROLES if role != "stranger"] + ["railwatch_reader"]
    callable_ = {row["name"] for row in await database.rows(FUNCTIONS, roles) if row["users"]}
    assert callable_ == given

"""`railwatch record` and `railwatch replay`: a file of a rail's node answers, and the daemon run from it."""

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from railwatch.cli.errors import Exit, InvalidInput, NotFound, UnusableConfig
from railwatch.cli.options import config_option, json_option
from railwatch.cli.output import emit, emit_line, say, say_lines, show_progress
from railwatch.cli.resolve_args import rail_config
from railwatch.config import Config, RailConfig

if TYPE_CHECKING:
    from railwatch.replay.invoices import Requests
    from railwatch.replay.record import Progress
    from railwatch.replay.replay import Outcome

ORDERS_MAX = 1_000
"""Open invoices to record with a rail, newest first."""
MINUTES_MAX = 527_040.0
"""One year."""
MB = 1_000_000


@click.command()
@config_option
@json_option
@click.option("--rail", metavar="NAME", required=True, help="Rail whose nodes are recorded.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True, max=MINUTES_MAX),
    required=True,
    metavar="M",
    help="Duration in minutes.",
)
@click.option("--watch", metavar="ADDRESS", multiple=True, help="Watch this address; repeatable.")
@click.option(
    "--invoices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Watch these invoices: a JSON file with a list of create_invoice requests.",
)
@click.option(
    "--max-mb",
    type=click.IntRange(min=1, max=1_000_000),
    default=200,
    show_default=True,
    help="Stop at this size of the file, in megabytes.",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def record(
    config: Config,
    as_json: bool,
    rail: str,
    minutes: float,
    watch: tuple[str, ...],
    invoices: Path | None,
    max_mb: int,
    file: Path,
) -> None:
    """Record the answers of a rail's nodes in FILE, for M minutes or until Ctrl-C, without secrets.

    The command follows the rail into a temporary database, so a daemon may run at the same time. Without --watch and
    --invoices it reads the watched addresses from the configured database, and writes nothing there.
    docs/record-replay.md describes the file.

    Example: railwatch record --rail eth --minutes 10 trouble.rec.gz
    """
    if watch and invoices:
        raise click.UsageError("give either --watch or --invoices")
    found = rail_config(config, rail)
    if file.exists():
        raise InvalidInput(f"{file} exists already; name a new file")
    end = asyncio.run(_record(config, found, file, minutes * 60, max_mb * MB, watch, invoices, as_json))
    if as_json:
        emit_line({"file": str(file), **asdict(end)})
    else:
        say_lines(_summary(file, end))


async def _record(
    config: Config,
    rail: RailConfig,
    file: Path,
    seconds: float,
    bytes_max: int,
    watch: tuple[str, ...],
    invoices: Path | None,
    as_json: bool,
) -> "Progress":
    from railwatch.ops.logs import configure_logging
    from railwatch.replay.record import record
    from railwatch.store.errors import Refused

    configure_logging(config.log.format, "error", config.secrets())
    requests = await _requests(config, rail, watch, invoices)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        return await record(
            config,
            rail,
            file,
            seconds=seconds,
            bytes_max=bytes_max,
            invoices=requests,
            stop=stop,
            report=lambda progress: _report(progress, as_json),
        )
    except Refused as refused:
        raise InvalidInput(f"the database rejected an invoice to watch: {refused}") from refused
    except OSError as error:
        raise InvalidInput(f"cannot write {file}: {error.strerror}; choose another folder or file") from error


async def _requests(config: Config, rail: RailConfig, watch: tuple[str, ...], invoices: Path | None) -> "Requests":
    """Return the requests to watch. Only the default reads the database, and writes nothing there."""
    from railwatch.daemon.registry import open_rail
    from railwatch.ops.database import open_database
    from railwatch.replay.invoices import watching
    from railwatch.store.errors import StoreError
    from railwatch.store.ledger import recordable_orders

    if invoices is not None:
        return _read_invoices(invoices)
    if watch:
        return watching(rail, open_rail(rail).traits, watch)
    try:
        async with open_database(config, lasting=True, read_only=True) as database:
            return await recordable_orders(database, rail.name, ORDERS_MAX)
    except StoreError as error:
        error.add_note("to record without the database, give --watch ADDRESS or --invoices FILE")
        raise


def _read_invoices(path: Path) -> "Requests":
    from railwatch.replay.invoices import InvoicesUnusable, read_invoices

    try:
        return read_invoices(path)
    except InvoicesUnusable as error:
        raise InvalidInput(str(error)) from error


def _report(progress: "Progress", as_json: bool) -> None:
    if as_json:
        emit_line(asdict(progress))
        return
    height = "no block yet" if progress.height is None else f"block {progress.height} ({progress.blocks} followed)"
    text = f"{progress.seconds:6.0f} s  {progress.answers} answers  {progress.megabytes:.1f} MB  {height}"
    show_progress(text)


def _summary(file: Path, end: "Progress") -> str:
    ends = {
        "time": "the time is over",
        "interrupted": "interrupted, as the file says",
        "full": "--max-mb is reached, as the file says",
    }
    large = f"; {end.left_out} answers were too large and are missing" if end.left_out else ""
    return (
        f"\n{file}: {end.answers} answers in {end.seconds:.0f} s, {end.megabytes:.2f} MB; {ends[str(end.why)]}{large}\n"
        f"Review it before you share it (zcat {file} | less), and replay it: railwatch replay {file}"
    )


@click.command()
@json_option
@click.option(
    "--invoices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Register these invoices instead of the recorded ones: a JSON file with a list of create_invoice requests, "
    'each also with "at", in seconds from the start.',
)
@click.option(
    "--database", metavar="URL", help="Postgres server for the temporary database. Default: a temporary server."
)
@click.option("--keep", is_flag=True, help="Keep the temporary database; needs --database.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def replay(as_json: bool, invoices: Path | None, database: str | None, keep: bool, file: Path) -> None:
    """Run the daemon from FILE, a recording, into a temporary database, and print the ledger.

    Virtual time makes the replay fast, and its output is the same each time. Exit code 1: the recording ended early,
    or lacks an answer that the daemon needs; the ledger shows the result up to there.

    Example: railwatch replay trouble.rec.gz
    """
    from railwatch.ops.logs import configure_logging
    from railwatch.replay.ledger import render_ledger
    from railwatch.replay.recording import NotARecording, read_recording

    if keep and database is None:
        raise click.UsageError("--keep needs --database URL: the temporary server ends with the command")
    configure_logging("auto", "error")
    try:
        recording = read_recording(file)
    except NotARecording as error:
        raise InvalidInput(str(error)) from error
    requests = None if invoices is None else _read_invoices(invoices)
    outcome, place = _replay(recording, requests, database, keep)
    complete = outcome.missing is None and recording.cut is None
    if as_json:
        emit(
            {
                "complete": complete,
                "cut": recording.cut,
                "missing": None if outcome.missing is None else asdict(outcome.missing),
                "seconds": outcome.seconds,
                "made_by": recording.header.made_by,
                **outcome.ledger,
            }
        )
    else:
        say_lines(render_ledger(outcome.ledger).removesuffix("\n"))
    if outcome.missing is not None:
        say(f"railwatch: the replay ended early: {outcome.missing}", err=True)
    if recording.cut is not None:
        say(f"railwatch: the recording ended early, at {recording.length:.1f} s: {recording.cut}", err=True)
    if keep:
        say(f"railwatch: the result is in database {place}", err=True)
    click.get_current_context().exit(Exit.OK if complete else Exit.REJECTED)


def _replay(recording: Any, requests: "Requests | None", url: str | None, keep: bool) -> "tuple[Outcome, str]":
    """Create the database, replay, and drop it. The replay has an event loop of its own, with virtual time."""
    from railwatch.daemon.registry import UnknownAdapter
    from railwatch.replay.replay import replay
    from railwatch.store.database import public_url
    from railwatch.store.errors import Refused
    from railwatch.store.scratch import scratch_database

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        dsn = runner.run(stack.enter_async_context(scratch_database(url, clock=True, keep=keep)))
        try:
            return replay(recording, dsn, requests), public_url(dsn)
        except Refused as refused:
            raise InvalidInput(f"the database rejected an invoice: {refused}") from refused
        except UnknownAdapter as error:
            raise NotFound(str(error)) from error
        except ValueError as error:
            raise UnusableConfig(f"this version cannot use the recorded rail's configuration: {error}") from error
        finally:
            runner.run(stack.aclose())

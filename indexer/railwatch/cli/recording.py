"""`railwatch record` and `railwatch replay`: keep what a rail's nodes say, and drive the daemon from it again."""

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
"""Open invoices that are recorded with a rail, the newest first."""
MINUTES_MAX = 527_040.0
"""A year."""
MB = 1_000_000


@click.command()
@config_option
@json_option
@click.option("--rail", metavar="NAME", required=True, help="The rail whose nodes are to be recorded.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True, max=MINUTES_MAX),
    required=True,
    metavar="M",
    help="For how long.",
)
@click.option("--watch", metavar="ADDRESS", multiple=True, help="Watch this address; may be repeated.")
@click.option(
    "--invoices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Watch these: a JSON list of requests as create_invoice takes them.",
)
@click.option(
    "--max-mb",
    type=click.IntRange(min=1, max=1_000_000),
    default=200,
    show_default=True,
    help="End when the file has so many.",
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
    """Write what the nodes of a rail say to FILE, for M minutes or until Ctrl-C, without what is secret.

    The rail is followed as `run` does it, into a database that is made for the while, so a daemon may run beside it.
    Without --watch and --invoices the addresses that are watched now are read from the configured database; nothing is
    written there. docs/record-replay.md says what is in the file.
    """
    if watch and invoices:
        raise click.UsageError("give either --watch or --invoices")
    found = rail_config(config, rail)
    if file.exists():
        raise InvalidInput(f"{file} exists; name a new file")
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
        raise InvalidInput(f"an invoice to be watched was refused: {refused}") from refused
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from error


async def _requests(config: Config, rail: RailConfig, watch: tuple[str, ...], invoices: Path | None) -> "Requests":
    """What is to be watched. Only the database's own addresses need the database, and it is only read."""
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
        error.add_note("--watch ADDRESS or --invoices FILE records without the database")
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
        "time": "the time was up",
        "interrupted": "it was interrupted, and the file says so",
        "full": "--max-mb was reached, and the file says so",
    }
    large = f"; {end.left_out} answers were too large and left out" if end.left_out else ""
    return (
        f"\n{file}: {end.answers} answers in {end.seconds:.0f} s, {end.megabytes:.2f} MB; {ends[str(end.why)]}{large}\n"
        f"Look through it before you send it on (zcat {file} | less), and play it: railwatch replay {file}"
    )


@click.command()
@json_option
@click.option(
    "--invoices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Register these in place of the recorded ones: a JSON list as create_invoice takes it, each also with "
    '"at", in seconds from the start.',
)
@click.option("--database", metavar="URL", help="Make the scratch database on this server, and not on one of its own.")
@click.option("--keep", is_flag=True, help="Do not drop the scratch database; needs --database.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def replay(as_json: bool, invoices: Path | None, database: str | None, keep: bool, file: Path) -> None:
    """Drive the daemon from FILE, a recording, into a scratch database, and print the ledger.

    It takes no longer than the work does, and prints the same each time. Exit code 1: the recording ended before its
    time, or lacks an answer that the daemon asked for; the ledger is what there was by then.
    """
    from railwatch.ops.logs import configure_logging
    from railwatch.replay.ledger import render_ledger
    from railwatch.replay.recording import NotARecording, read_recording

    if keep and database is None:
        raise click.UsageError("--keep needs --database: a server of its own ends with the command")
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
        say(f"railwatch: the recording ends at {recording.length:.1f} s, early: {recording.cut}", err=True)
    if keep:
        say(f"railwatch: kept in database {place}", err=True)
    click.get_current_context().exit(Exit.OK if complete else Exit.REJECTED)


def _replay(recording: Any, requests: "Requests | None", url: str | None, keep: bool) -> "tuple[Outcome, str]":
    """Make the database, play, and drop it: each with its own loop, since the time of the replay's is virtual."""
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
            raise InvalidInput(f"an invoice was refused: {refused}") from refused
        except UnknownAdapter as error:
            raise NotFound(str(error)) from error
        except ValueError as error:
            raise UnusableConfig(f"the recorded rail cannot be configured here: {error}") from error
        finally:
            runner.run(stack.aclose())

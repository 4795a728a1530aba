"""`railwatch explain` and `feed`: the transitions of one invoice, and of all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC

import click

from railwatch.cli.options import LARGEST, config_option, json_option
from railwatch.cli.output import emit, emit_line, jsonable, say, show
from railwatch.cli.resolve_args import dossier
from railwatch.config import Config
from railwatch.ops.database import open_database
from railwatch.store.database import Database
from railwatch.store.notifications import Listener
from railwatch.store.read_models import Dossier, Record, read_feed

CHANNEL = "railwatch"
FORMAT = "railwatch-dossier/1"
"""The format of `explain --json`. Within one number keys are only added, never renamed or given a new meaning."""

PAGE = 500
POLL_SECONDS = 1.0

MARKS = {
    "invoice": " ",
    "detection": "·",
    "exception": "!",
    "refund": "<",
    "settlement": "=",
    "unallocated_transfer": "?",
}


@click.command()
@config_option
@json_option
@click.argument("invoice")
def explain(config: Config, as_json: bool, invoice: str) -> None:
    """Show the whole evidence of INVOICE: an id, MERCHANT/ORDER, a transaction or an address.

    Example: railwatch explain shop/order-1042
    """
    found = asyncio.run(_read(config, invoice))
    if as_json:
        emit({"format": FORMAT, **jsonable(found)})
        return
    from railwatch.ops.explain import render_dossier

    show(render_dossier(found))


async def _read(config: Config, reference: str) -> Dossier:
    async with open_database(config) as database:
        return await dossier(database, reference)


@click.command()
@config_option
@json_option
@click.option(
    "--after",
    type=click.IntRange(min=0, max=LARGEST),
    default=0,
    metavar="N",
    help="Start after this position (seq) of the feed. Default: 0, the beginning.",
)
@click.option("--follow", is_flag=True, help="Print new transitions as they come, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(min=1, max=LARGEST), metavar="N", help="Stop after N transitions.")
def feed(config: Config, as_json: bool, after: int, follow: bool, limit: int | None) -> None:
    """Print the feed of transitions in commit order; with --json, one JSON object a line.

    Marks: "·" a transfer, "!" an exception, "<" a refund, "=" a settlement, none an invoice.

    Example: railwatch feed --after 1200 --follow
    """
    asyncio.run(_print_feed(config, as_json, after, follow, limit))


async def _print_feed(config: Config, as_json: bool, after: int, follow: bool, limit: int | None) -> None:
    remaining = limit
    async with open_database(config, lasting=follow) as database:
        async for row in _transitions(database, after, follow):
            if as_json:
                emit_line(row)
            else:
                say(feed_line(row))
            remaining = None if remaining is None else remaining - 1
            if remaining == 0:
                return


async def _transitions(database: Database, after: int, follow: bool) -> AsyncIterator[Record]:
    """Return the feed after a seq, without gaps. Notifications only shorten the wait between two polls."""
    async with Listener(database.dsn, (CHANNEL,) if follow else ()) as listener:
        while True:
            page = await read_feed(database, after, PAGE)
            for row in page:
                yield row
                after = row["seq"]
            if len(page) < PAGE:
                if not follow:
                    return
                await listener.wait(POLL_SECONDS)


def feed_line(row: Record) -> str:
    """Return one transition as a line with its reason, so that `reversed` is visible at once."""
    clock = row["recorded_at"].astimezone(UTC).strftime("%H:%M:%S")
    move = f"{row['from_state'] or ''} → {row['to_state']}".lstrip()
    about = row["invoice_id"] or row["subject_id"]
    return f"{row['seq']:>6} {clock} {about} {MARKS.get(row['subject'], ' ')} {move} ({row['reason']})"

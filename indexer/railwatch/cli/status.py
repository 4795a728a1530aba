"""`railwatch status`: the state of every rail, and open work."""

import asyncio

import click

from railwatch.cli.options import config_option, json_option
from railwatch.cli.output import console, emit, show
from railwatch.config import Config
from railwatch.ops.database import open_database
from railwatch.store.read_models import Status, read_status

REFRESH_SECONDS = 1.0


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
def status(config: Config, as_json: bool, watch: bool) -> None:
    """Show all rails, invoices by state, open exceptions, and the consumers of the feed.

    Columns: `behind` counts blocks to the node's newest one, `changed` is the age of the last change.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other; a program runs `status --json` again")
    if watch:
        asyncio.run(_watch(config))
        return
    from railwatch.ops.status import render_status

    found = asyncio.run(_once(config))
    if as_json:
        emit(found)
    else:
        show(render_status(found))


async def _once(config: Config) -> Status:
    async with open_database(config) as database:
        return await read_status(database)


async def _watch(config: Config) -> None:
    from rich.live import Live

    from railwatch.ops.status import render_status
    from railwatch.terminal import Escaped

    async with open_database(config, lasting=True) as database:
        with Live(console=console(), auto_refresh=False, transient=False) as live:
            while True:
                live.update(Escaped(render_status(await read_status(database))), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)

"""`railwatch rescan` and `exceptions`: what an operator does when something needs a person."""

import asyncio

import click

from indexer.cli.lookup import rail_config
from indexer.cli.options import config_option, json_option
from indexer.cli.output import emit, show
from indexer.config import Config
from indexer.ops.access import open_database
from indexer.store.invoices import request_rescan
from indexer.store.reads import Record, list_exceptions


@click.command()
@config_option
@json_option
@click.argument("rail")
@click.option("--from", "first", type=click.IntRange(min=0), required=True, metavar="N", help="First block, inclusive.")
@click.option("--to", "last", type=click.IntRange(min=0), metavar="N", help="Last block; without it, the cursor.")
def rescan(config: Config, as_json: bool, rail: str, first: int, last: int | None) -> None:
    """Ask the daemon to look through blocks of RAIL again. What is known stays as it is."""
    rail_config(config, rail)
    made = asyncio.run(_request(config, rail, first, last))
    if as_json:
        emit({"id": made, "rail": rail, "from_height": first, "to_height": last})
    else:
        click.echo(f"rescan {made} of {rail} is asked for; `railwatch status` shows how far it is")


async def _request(config: Config, rail: str, first: int, last: int | None) -> int:
    async with open_database(config) as database:
        return await request_rescan(database, rail, first, last)


@click.group()
def exceptions() -> None:
    """What people or policies have to look at."""


@exceptions.command("list")
@config_option
@json_option
@click.option("--all", "resolved", is_flag=True, help="Also those that are resolved.")
@click.option("--kind", metavar="KIND", help="Only this kind, such as underpaid.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N")
def list_(config: Config, as_json: bool, resolved: bool, kind: str | None, limit: int) -> None:
    """List exceptions, the worst and oldest first."""
    found = asyncio.run(_list(config, resolved, kind, limit))
    if as_json:
        emit(found)
        return
    from indexer.ops.lists import render_exceptions

    show(render_exceptions(found))


async def _list(config: Config, resolved: bool, kind: str | None, limit: int) -> list[Record]:
    async with open_database(config) as database:
        return await list_exceptions(database, resolved=resolved, kind=kind, limit=limit)

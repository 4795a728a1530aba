"""`railwatch rescan` and `exceptions`: what an operator does when something needs a person."""

import asyncio

import click

from indexer.cli.lookup import exception_id, rail_config
from indexer.cli.options import actor_option, config_option, json_option
from indexer.cli.output import emit, show
from indexer.config import Config
from indexer.ops.access import open_database
from indexer.store.invoices import Act, annotate_exception, request_rescan, resolve_exception
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


@exceptions.command()
@config_option
@json_option
@actor_option
@click.argument("exception")
@click.option("--resolution", required=True, metavar="TEXT", help="What was decided.")
@click.option("--note", metavar="TEXT", help="What was found out; added to its notes.")
def resolve(config: Config, as_json: bool, actor: str, exception: str, resolution: str, note: str | None) -> None:
    """Close EXCEPTION (its id, or the first digits). It stays closed while the facts stand."""
    stands = asyncio.run(_resolve(config, exception, actor, resolution, note))
    if as_json:
        emit({"exception": exception, "resolution": stands})
    else:
        click.echo(f"resolved: {stands}")


async def _resolve(config: Config, reference: str, actor: str, resolution: str, note: str | None) -> str:
    async with open_database(config) as database:
        known = await exception_id(database, reference)
        return await resolve_exception(database, known, Act(actor, "operator"), resolution=resolution, note=note)


@exceptions.command()
@config_option
@actor_option
@click.argument("exception")
@click.option("--owner", metavar="NAME", help="Who looks at it from now on.")
@click.option("--text", metavar="TEXT", help="What was found out; added to its notes.")
def note(config: Config, actor: str, exception: str, owner: str | None, text: str | None) -> None:
    """Give EXCEPTION an owner, or add to its notes. Nothing that was noted is replaced."""
    asyncio.run(_note(config, exception, actor, owner, text))


async def _note(config: Config, reference: str, actor: str, owner: str | None, text: str | None) -> None:
    async with open_database(config) as database:
        known = await exception_id(database, reference)
        await annotate_exception(database, known, Act(actor, "operator"), note=text, owner=owner)

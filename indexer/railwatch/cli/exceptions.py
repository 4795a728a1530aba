"""`railwatch rescan` and `exceptions`: what an operator does when something needs a person."""

import asyncio
from uuid import UUID

import click

from railwatch.cli.options import LARGEST, actor_option, config_option, json_option
from railwatch.cli.output import emit, say, show
from railwatch.cli.resolve_args import exception_id, rail_config
from railwatch.config import Config
from railwatch.ops.database import open_database
from railwatch.store.invoices import (
    Act,
    annotate_exception,
    cancel_rescan,
    request_rescan,
    resolve_exception,
)
from railwatch.store.read_models import Record, list_exceptions, list_rescans


class WithDefault(click.Group):
    """A group whose first command needs no name: ``rescan RAIL`` means ``rescan request RAIL``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take what names no command for the arguments of ``request``."""
        known = args[0] in self.commands or args[0] in ctx.help_option_names
        return super().resolve_command(ctx, args if known else ["request", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As `resolve_command`; an option before the rail belongs to ``request`` as well."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["request", *args]
        return super().parse_args(ctx, args)


@click.group(cls=WithDefault)
def rescan() -> None:
    """Look through blocks of a rail again: `rescan RAIL --from N`, `rescan list`, `rescan cancel ID`."""


@rescan.command("request")
@config_option
@json_option
@click.argument("rail")
@click.option(
    "--from",
    "first",
    type=click.IntRange(min=0, max=LARGEST),
    required=True,
    metavar="N",
    help="First block, inclusive.",
)
@click.option(
    "--to", "last", type=click.IntRange(min=0, max=LARGEST), metavar="N", help="Last block; without it, the cursor."
)
def request_(config: Config, as_json: bool, rail: str, first: int, last: int | None) -> None:
    """Ask the daemon to look through blocks of RAIL again. What is known stays as it is.

    A rail has one open rescan: another request widens it.
    """
    rail_config(config, rail)
    made = asyncio.run(_request(config, rail, first, last))
    if as_json:
        emit({"id": made, "rail": rail, "from_height": first, "to_height": last})
    else:
        say(f"rescan {made} of {rail} is asked for; `railwatch status` shows how far it is")


async def _request(config: Config, rail: str, first: int, last: int | None) -> UUID:
    async with open_database(config) as database:
        return await request_rescan(database, rail, first, last)


@rescan.command("list")
@config_option
@json_option
@click.option("--limit", type=click.IntRange(min=1, max=LARGEST), default=100, show_default=True, metavar="N")
def list_rescans_(config: Config, as_json: bool, limit: int) -> None:
    """List open rescans, and the newest that have ended."""
    found = asyncio.run(_list_rescans(config, limit))
    if as_json:
        emit(found)
        return
    from railwatch.ops.list_tables import render_rescans

    show(render_rescans(found))


async def _list_rescans(config: Config, limit: int) -> list[Record]:
    async with open_database(config) as database:
        return await list_rescans(database, limit=limit)


@rescan.command("cancel")
@config_option
@json_option
@actor_option
@click.argument("rescan_id", metavar="ID", type=click.UUID)
@click.option("--reason", metavar="TEXT", help="Why.")
def cancel_rescan_(config: Config, as_json: bool, actor: str, rescan_id: UUID, reason: str | None) -> None:
    """End the open rescan ID. What it found stays."""
    outcome = asyncio.run(_cancel_rescan(config, rescan_id, actor, reason))
    if as_json:
        emit({"id": rescan_id, "outcome": outcome})
    else:
        say(f"rescan {rescan_id}: {outcome}")


async def _cancel_rescan(config: Config, rescan_id: UUID, actor: str, reason: str | None) -> str:
    async with open_database(config) as database:
        return await cancel_rescan(database, rescan_id, actor, reason)


@click.group()
def exceptions() -> None:
    """What people or policies have to look at."""


@exceptions.command("list")
@config_option
@json_option
@click.option("--all", "resolved", is_flag=True, help="Also those that are resolved.")
@click.option("--kind", metavar="KIND", help="Only this kind, such as underpaid.")
@click.option("--limit", type=click.IntRange(min=1, max=LARGEST), default=100, show_default=True, metavar="N")
def list_(config: Config, as_json: bool, resolved: bool, kind: str | None, limit: int) -> None:
    """List exceptions, the worst and oldest first."""
    found = asyncio.run(_list(config, resolved, kind, limit))
    if as_json:
        emit(found)
        return
    from railwatch.ops.list_tables import render_exceptions

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
@click.option(
    "--verdict",
    type=click.Choice(["accepted", "rejected"]),
    help="Of a content_mismatch: accepted, the payment becomes final; rejected, it is dropped.",
)
def resolve(
    config: Config,
    as_json: bool,
    actor: str,
    exception: str,
    resolution: str,
    note: str | None,
    verdict: str | None,
) -> None:
    """Close EXCEPTION (its id, or the first digits). It stays closed while the facts stand."""
    stands = asyncio.run(_resolve(config, exception, actor, resolution, note, verdict))
    if as_json:
        emit({"exception": exception, "resolution": stands})
    else:
        say(f"resolved: {stands}")


async def _resolve(
    config: Config, reference: str, actor: str, resolution: str, note: str | None, verdict: str | None
) -> str:
    async with open_database(config) as database:
        known = await exception_id(database, reference)
        act = Act(actor, "operator")
        return await resolve_exception(database, known, act, resolution=resolution, note=note, verdict=verdict)


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

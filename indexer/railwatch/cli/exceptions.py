"""`railwatch rescan` and `exceptions`: manual operations on blocks and exceptions."""

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
    """A group with a default command: ``rescan RAIL`` means ``rescan request RAIL``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the named command; without one, ``request`` with all arguments."""
        known = args[0] in self.commands or args[0] in ctx.help_option_names
        return super().resolve_command(ctx, args if known else ["request", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as `resolve_command` does; an option before the rail belongs to ``request`` too."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["request", *args]
        return super().parse_args(ctx, args)


@click.group(cls=WithDefault)
def rescan() -> None:
    """Read blocks of a rail again, to find payments that were missed.

    Examples: railwatch rescan eth --from 19000000, railwatch rescan list, railwatch rescan cancel ID
    """


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
    help="First block (height, inclusive).",
)
@click.option(
    "--to",
    "last",
    type=click.IntRange(min=0, max=LARGEST),
    metavar="N",
    help="Last block (height, inclusive). Default: the cursor.",
)
def request_(config: Config, as_json: bool, rail: str, first: int, last: int | None) -> None:
    """Request that the daemon reads blocks of RAIL again. Known transfers do not change.

    A rail has one open rescan; a second request extends it. `railwatch rescan list` shows the progress.
    """
    rail_config(config, rail)
    made = asyncio.run(_request(config, rail, first, last))
    if as_json:
        emit({"id": made, "rail": rail, "from_height": first, "to_height": last})
    else:
        say(f"rescan {made} of {rail} is requested; see its progress with: railwatch rescan list")


async def _request(config: Config, rail: str, first: int, last: int | None) -> UUID:
    async with open_database(config) as database:
        return await request_rescan(database, rail, first, last)


@rescan.command("list")
@config_option
@json_option
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=LARGEST),
    default=100,
    show_default=True,
    metavar="N",
    help="Show at most N rescans.",
)
def list_rescans_(config: Config, as_json: bool, limit: int) -> None:
    """List open rescans, then the newest that have ended."""
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
@click.option("--reason", metavar="TEXT", help="Reason, kept with the rescan.")
def cancel_rescan_(config: Config, as_json: bool, actor: str, rescan_id: UUID, reason: str | None) -> None:
    """Cancel the open rescan ID. Transfers that it found stay."""
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
    """List, resolve and annotate payment exceptions.

    docs/runbooks has a page for each kind of exception.
    """


@exceptions.command("list")
@config_option
@json_option
@click.option("--all", "resolved", is_flag=True, help="Include resolved exceptions.")
@click.option("--kind", metavar="KIND", help="Only this kind, such as underpaid or reversed.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=LARGEST),
    default=100,
    show_default=True,
    metavar="N",
    help="Show at most N exceptions.",
)
def list_(config: Config, as_json: bool, resolved: bool, kind: str | None, limit: int) -> None:
    """List open exceptions, by severity, oldest first."""
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
@click.option("--resolution", required=True, metavar="TEXT", help='The decision, such as "refunded by hand".')
@click.option("--note", metavar="TEXT", help="A finding to add to its notes.")
@click.option(
    "--verdict",
    type=click.Choice(["accepted", "rejected"]),
    help="Only for content_mismatch. accepted: the payment becomes final. rejected: it is dropped.",
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
    """Resolve EXCEPTION (its id, or at least 4 first digits). It stays resolved as long as its cause persists.

    Example: railwatch exceptions resolve 5f2c --resolution "customer topped up"
    """
    effective = asyncio.run(_resolve(config, exception, actor, resolution, note, verdict))
    if as_json:
        emit({"exception": exception, "resolution": effective})
    else:
        say(f"resolved: {effective}")


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
@click.option("--owner", metavar="NAME", help="The person who handles it from now on.")
@click.option("--text", metavar="TEXT", help="A finding to add to its notes.")
def note(config: Config, actor: str, exception: str, owner: str | None, text: str | None) -> None:
    """Set the owner of EXCEPTION, or add to its notes. Earlier notes stay."""
    asyncio.run(_note(config, exception, actor, owner, text))


async def _note(config: Config, reference: str, actor: str, owner: str | None, text: str | None) -> None:
    async with open_database(config) as database:
        known = await exception_id(database, reference)
        await annotate_exception(database, known, Act(actor, "operator"), note=text, owner=owner)

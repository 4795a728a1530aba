"""`railwatch audit`: whether the tables hold what a node tells now."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from railwatch.cli.errors import Exit, InvalidInput, NotFound, UnusableConfig
from railwatch.cli.options import LARGEST, config_option, json_option
from railwatch.cli.output import complain, emit, show
from railwatch.cli.resolve_args import rail_config
from railwatch.config import Config, NodeConfig, RailConfig
from railwatch.ops.database import open_database
from railwatch.ops.formatting import printable_text
from railwatch.rail import RailError, Watches
from railwatch.store.audits import AuditedRail, AuditStore

if TYPE_CHECKING:
    from railwatch.ops.audit import Audit

LONG = 3_000
"""Heights from which on a window is told how far it is."""

ENTER_SECONDS = 30.0
"""How long a node may take to be entered."""


@click.command()
@config_option
@json_option
@click.option("--rail", "name", metavar="NAME", help="Only this rail; without it, each one.")
@click.option("--from", "first", type=click.IntRange(min=0, max=LARGEST), metavar="H", help="First block, inclusive.")
@click.option(
    "--to", "last", type=click.IntRange(min=0, max=LARGEST), metavar="H", help="Last block; without it, the cursor."
)
@click.option("--node", metavar="NAME", help="Ask this node; without it, the first that can tell.")
def audit(
    config: Config, as_json: bool, name: str | None, first: int | None, last: int | None, node: str | None
) -> None:
    """Compare what is stored of a range of blocks with what a node tells of them now. Changes nothing.

    Without --from it begins at the oldest payment that is not final, or 1,000 blocks below the cursor. It ends with
    exit code 0 if nothing differs, 1 if something does, and 6 if no node can tell.
    """
    if first is not None and last is not None and first > last:
        raise InvalidInput(f"--from {first} lies above --to {last}; give the lower block first")
    rails = [rail_config(config, name)] if name is not None else config.rails
    audits, failures = asyncio.run(_audit(config, rails, first, last, node))
    if as_json:
        ok = not failures and not any(each.differences for each in audits)
        emit({"ok": ok, "audits": audits, "failures": [str(each) for each in failures]})
    else:
        from railwatch.ops.audit import render_audit

        for each in audits:
            show(render_audit(each))
    for failure in failures:
        complain(f"railwatch: {printable_text(failure)}")
    click.get_current_context().exit(_code(audits, failures))


def _code(audits: Sequence["Audit"], failures: Sequence[Exception]) -> Exit:
    from railwatch.ops.audit import NothingToCompare

    if any(each.differences for each in audits) or any(isinstance(each, NothingToCompare) for each in failures):
        return Exit.REJECTED
    return Exit.NODE if failures else Exit.OK


async def _audit(
    config: Config, rails: Sequence[RailConfig], first: int | None, last: int | None, node: str | None
) -> tuple[list["Audit"], list[Exception]]:
    """Each rail's audit, or why it is not possible."""
    from railwatch.ops.audit import CannotTell, NothingToCompare

    audits: list[Audit] = []
    failures: list[Exception] = []
    async with open_database(config, read_only=True) as database:
        for rail in rails:
            try:
                audits.append(await _by_somebody(AuditStore(database), rail, first, last, node))
            except (CannotTell, NothingToCompare) as reason:
                failures.append(reason)
    return audits, failures


async def _by_somebody(
    store: AuditStore, rail: RailConfig, first: int | None, last: int | None, chosen: str | None
) -> "Audit":
    """The audit by the chosen node, else by the first that can tell. Raises `CannotTell` with each one's reason."""
    from railwatch.daemon.registry import named_nodes
    from railwatch.ops.audit import CannotTell

    nodes = named_nodes(rail)
    if chosen is not None and chosen not in nodes:
        raise NotFound(f'rail {rail.name} has no node "{chosen}"; it has {", ".join(nodes)}')
    reasons = []
    for name, node in nodes.items():
        if chosen in (None, name):
            try:
                return await _by_node(store, rail, name, node, first, last)
            except CannotTell as reason:
                reasons.append(str(reason))
    raise CannotTell("; ".join(reasons))


async def _by_node(
    store: AuditStore, rail: RailConfig, name: str, node: NodeConfig, first: int | None, last: int | None
) -> "Audit":
    from railwatch.daemon.registry import create_adapter
    from railwatch.ops.audit import Auditor, CannotTell

    try:
        adapter = create_adapter(rail, node)
    except ValueError as wrong:
        raise UnusableConfig(
            f"rail {rail.name}: {wrong}; `railwatch check` looks at the whole configuration"
        ) from wrong
    try:
        async with asyncio.timeout(ENTER_SECONDS):
            await adapter.__aenter__()
    except (RailError, TimeoutError) as away:
        why = str(away) or f"no answer within {ENTER_SECONDS:.0f} s"
        raise CannotTell(f"rail {rail.name}: node {name} cannot be asked: {why}") from away
    try:
        return await Auditor(store, adapter, name, _watches_of, _show_progress).audit(rail.name, first, last)
    finally:
        await adapter.__aexit__(None, None, None)


def _watches_of(keys: Iterable[bytes], rail: AuditedRail) -> Watches:
    from railwatch.daemon.watch.watchlist import ExplicitWatches

    return ExplicitWatches(frozenset(keys), rail.assets)


def _show_progress(first: int, reached: int, last: int) -> None:
    if last - first >= LONG and sys.stderr.isatty():
        end = "\n" if reached == last else "\r"
        click.echo(f"block {reached} of {first} to {last}{end}", err=True, nl=False)

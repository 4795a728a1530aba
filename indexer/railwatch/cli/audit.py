"""`railwatch audit`: a comparison of the tables with a node."""

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

PROGRESS_MIN = 3_000
"""Heights of a window from which on the command shows its progress."""

CONNECT_SECONDS = 30.0
"""Seconds that a node has to connect."""


@click.command()
@config_option
@json_option
@click.option("--rail", "name", metavar="NAME", help="Audit only this rail. Default: all configured rails.")
@click.option(
    "--from",
    "first",
    type=click.IntRange(min=0, max=LARGEST),
    metavar="H",
    help="First block to compare (height, inclusive).",
)
@click.option(
    "--to",
    "last",
    type=click.IntRange(min=0, max=LARGEST),
    metavar="H",
    help="Last block to compare (height, inclusive). Default: the cursor.",
)
@click.option("--node", metavar="NAME", help="Compare with this node. Default: the first that has the blocks.")
def audit(
    config: Config, as_json: bool, name: str | None, first: int | None, last: int | None, node: str | None
) -> None:
    """Compare the stored transfers of a range of blocks with a node's. Changes nothing.

    Without --from the range starts at the oldest payment that is not final, or 1,000 blocks below the cursor. Exit
    code 0: no difference. 1: differences, each with the next command. 6: no node can return the blocks.

    Example: railwatch audit --rail eth --from 19000000 --to 19000100
    """
    if first is not None and last is not None and first > last:
        raise InvalidInput(f"--from {first} is above --to {last}; give the lower height as --from")
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
    """Return each rail's audit, or the error that prevents it."""
    from railwatch.ops.audit import NodeCannotAnswer, NothingToCompare

    audits: list[Audit] = []
    failures: list[Exception] = []
    async with open_database(config, read_only=True) as database:
        for rail in rails:
            try:
                audits.append(await _by_first_able(AuditStore(database), rail, first, last, node))
            except (NodeCannotAnswer, NothingToCompare) as reason:
                failures.append(reason)
    return audits, failures


async def _by_first_able(
    store: AuditStore, rail: RailConfig, first: int | None, last: int | None, chosen: str | None
) -> "Audit":
    """Return the audit by the chosen node, else by the first that can answer.

    Raises `NodeCannotAnswer` with each node's reason, and `NotFound` for an unknown node.
    """
    from railwatch.daemon.registry import named_nodes
    from railwatch.ops.audit import NodeCannotAnswer

    nodes = named_nodes(rail)
    if chosen is not None and chosen not in nodes:
        raise NotFound(f'rail {rail.name} has no node "{chosen}"; give one of: {", ".join(nodes)}')
    reasons = []
    for name, node in nodes.items():
        if chosen in (None, name):
            try:
                return await _by_node(store, rail, name, node, first, last)
            except NodeCannotAnswer as reason:
                reasons.append(str(reason))
    raise NodeCannotAnswer("; ".join(reasons))


async def _by_node(
    store: AuditStore, rail: RailConfig, name: str, node: NodeConfig, first: int | None, last: int | None
) -> "Audit":
    from railwatch.daemon.registry import create_adapter
    from railwatch.ops.audit import Auditor, NodeCannotAnswer

    try:
        adapter = create_adapter(rail, node)
    except ValueError as error:
        raise UnusableConfig(f"rail {rail.name}: {error}; check the whole configuration: railwatch check") from error
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await adapter.__aenter__()
    except (RailError, TimeoutError) as failure:
        reason = str(failure) or f"no answer within {CONNECT_SECONDS:.0f} s"
        raise NodeCannotAnswer(f"rail {rail.name}: node {name} is unavailable: {reason}") from failure
    try:
        return await Auditor(store, adapter, name, _watches_of, _show_progress).audit(rail.name, first, last)
    finally:
        await adapter.__aexit__(None, None, None)


def _watches_of(keys: Iterable[bytes], rail: AuditedRail) -> Watches:
    from railwatch.daemon.watch.watchlist import ExplicitWatches

    return ExplicitWatches(frozenset(keys), rail.assets)


def _show_progress(first: int, reached: int, last: int) -> None:
    if last - first >= PROGRESS_MIN and sys.stderr.isatty():
        end = "\n" if reached == last else "\r"
        click.echo(f"block {reached} of {first} to {last}{end}", err=True, nl=False)

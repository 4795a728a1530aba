"""`railwatch rail`: an operator's decisions about a rail."""

import asyncio
from typing import TYPE_CHECKING

import click

from railwatch.cli.errors import NotFound
from railwatch.cli.options import actor_option, config_option, json_option
from railwatch.cli.output import emit, say, show
from railwatch.cli.resolve_args import rail_config
from railwatch.config import Config, RailConfig
from railwatch.ops.database import open_database
from railwatch.rail import RailError
from railwatch.store.database import Database
from railwatch.store.invoices import accept_chain as accept
from railwatch.store.invoices import rename_rail, resume_rail
from railwatch.store.rails import require_deep_reorg

if TYPE_CHECKING:
    from railwatch.ops.chain_acceptance import Proposal

ANSWER_SECONDS = 120.0
"""Seconds that the nodes have to connect and to return the fork point."""


@click.group()
def rail() -> None:
    """Resume a halted rail, or rename a rail."""


@rail.command()
@config_option
@click.argument("old")
@click.argument("new")
def rename(config: Config, old: str, new: str) -> None:
    """Rename rail OLD to NEW, with its invoices, transfers and position. Stop its daemon first.

    Earlier transitions of the feed keep the old name.

    Example: railwatch rail rename eth ethereum
    """
    asyncio.run(_rename(config, old, new))
    say(f"renamed {old} to {new}; set that name in its [[rail]] and [[policy]] tables, then start: railwatch run")


async def _rename(config: Config, old: str, new: str) -> None:
    async with open_database(config) as database:
        await rename_rail(database, old, new)


@rail.command()
@config_option
@json_option
@actor_option
@click.argument("name")
@click.option("--reason", metavar="TEXT", help="How the cause was fixed, or why the chain is accepted.")
@click.option(
    "--accept-chain",
    is_flag=True,
    help="After DeepReorg: follow the node's chain, and reverse final payments above the fork.",
)
@click.option("--yes", is_flag=True, help="Accept the chain without a question.")
def resume(
    config: Config, as_json: bool, actor: str, name: str, reason: str | None, accept_chain: bool, yes: bool
) -> None:
    """Resume the halted rail NAME from its last committed block, without a restart of the daemon.

    Fix the cause first (docs/runbooks/rail-halted.md): the rail halts again while it persists. Resuming alone never
    accepts a different chain.

    With --accept-chain, after a DeepReorg, the command shows the fork point and the payments that it would reverse,
    final ones included. It changes nothing before you confirm. With --json it asks nothing, and changes nothing
    without --yes.

    Example: railwatch rail resume eth --reason "node restored"
    """
    configured = rail_config(config, name)
    if accept_chain:
        asyncio.run(_accept_chain(config, configured, actor, reason, as_json=as_json, yes=yes))
        return
    state = asyncio.run(_resume(config, name, actor, reason))
    if as_json:
        emit({"rail": name, "state": state})
    else:
        say(f"rail {name} is resumed; see its state with: railwatch status")


async def _resume(config: Config, name: str, actor: str, reason: str | None) -> str:
    async with open_database(config) as database:
        return await resume_rail(database, name, actor, reason)


async def _accept_chain(
    config: Config, configured: RailConfig, actor: str, reason: str | None, *, as_json: bool, yes: bool
) -> None:
    from railwatch.ops.chain_acceptance import render_proposal

    async with open_database(config) as database:
        await require_deep_reorg(database, configured.name)
        proposal = await _proposal(database, configured)
        if not as_json:
            show(render_proposal(proposal))
        accepted = None
        if yes or (not as_json and click.confirm("Follow the node's chain?")):
            given = reason or "no reason given"
            accepted = await accept(
                database, configured.name, proposal.fork, common=proposal.common, actor=actor, reason=given
            )
    if as_json:
        emit({"proposal": proposal, "accepted": accepted})
    else:
        say("nothing was changed" if accepted is None else f"accepted; rail {configured.name} follows the node's chain")


async def _proposal(database: Database, configured: RailConfig) -> "Proposal":
    from railwatch.daemon.registry import open_rail
    from railwatch.ops.chain_acceptance import propose

    nodes = open_rail(configured)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await nodes.__aenter__()
            return await propose(database, nodes, configured.name)
    except (RailError, TimeoutError) as failure:
        reason = str(failure) or f"no answer within {ANSWER_SECONDS:.0f} s"
        raise NotFound(
            f"rail {configured.name}: its nodes are unavailable: {reason}; query each of them with: railwatch check"
        ) from failure
    finally:
        await nodes.__aexit__(None, None, None)

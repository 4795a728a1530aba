"""`railwatch rail`: what an operator decides about a rail."""

import asyncio

import click

from indexer.cli.lookup import rail_config
from indexer.cli.options import actor_option, config_option, json_option
from indexer.cli.output import emit, say
from indexer.config import Config
from indexer.ops.access import open_database
from indexer.store.invoices import rename_rail, resume_rail


@click.group()
def rail() -> None:
    """What an operator decides about a rail."""


@rail.command()
@config_option
@click.argument("old")
@click.argument("new")
def rename(config: Config, old: str, new: str) -> None:
    """Give rail OLD the name NEW, with its invoices, transfers and position. Stop its daemon first.

    Lines of the feed keep the name that the rail had then.
    """
    asyncio.run(_rename(config, old, new))
    say(f"renamed {old} to {new}; give its [[rail]] and [[policy]] tables that name, and start the daemon")


async def _rename(config: Config, old: str, new: str) -> None:
    async with open_database(config) as database:
        await rename_rail(database, old, new)


@rail.command()
@config_option
@json_option
@actor_option
@click.argument("name")
@click.option("--reason", metavar="TEXT", help="What was done about the cause.")
def resume(config: Config, as_json: bool, actor: str, name: str, reason: str | None) -> None:
    """Let the halted rail NAME go on from its last committed block, without a restart of the daemon.

    Do this once the cause is gone: a rail that meets it again halts again. It never accepts another chain.
    """
    rail_config(config, name)
    state = asyncio.run(_resume(config, name, actor, reason))
    if as_json:
        emit({"rail": name, "state": state})
    else:
        say(f"rail {name} goes on; `railwatch status` shows how it is")


async def _resume(config: Config, name: str, actor: str, reason: str | None) -> str:
    async with open_database(config) as database:
        return await resume_rail(database, name, actor, reason)

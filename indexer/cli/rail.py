"""`railwatch rail`: what an operator does with a rail as a whole."""

import asyncio

import click

from indexer.cli.options import config_option
from indexer.config import Config
from indexer.ops.access import open_database
from indexer.store.invoices import rename_rail


@click.group()
def rail() -> None:
    """Rails as a whole."""


@rail.command()
@config_option
@click.argument("old")
@click.argument("new")
def rename(config: Config, old: str, new: str) -> None:
    """Give rail OLD the name NEW, with its invoices, transfers and position. Stop its daemon first.

    Lines of the feed keep the name that the rail had then.
    """
    asyncio.run(_rename(config, old, new))
    click.echo(f"renamed {old} to {new}; give its [[rail]] and [[policy]] tables that name, and start the daemon")


async def _rename(config: Config, old: str, new: str) -> None:
    async with open_database(config) as database:
        await rename_rail(database, old, new)

"""`railwatch unallocated`: transfers that carry the reference of no invoice, and whom a person gives them to."""

import asyncio
from uuid import UUID

import click

from railwatch.cli.options import LARGEST, actor_option, config_option, json_option
from railwatch.cli.output import emit, say, show
from railwatch.cli.resolve_args import invoice_id, transfer_id
from railwatch.config import Config
from railwatch.ops.database import open_database
from railwatch.store.invoices import Act, assign_transfer
from railwatch.store.read_models import Record, list_unallocated, show_unallocated


@click.group()
def unallocated() -> None:
    """List and assign transfers that reached a shared address without the reference of any invoice.

    docs/runbooks/exception-unallocated-transfer.md says how to find out whose one is.
    """


@unallocated.command("list")
@config_option
@json_option
@click.option("--all", "assigned", is_flag=True, help="Include those that are assigned already.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=LARGEST),
    default=100,
    show_default=True,
    metavar="N",
    help="Show at most N transfers.",
)
def list_(config: Config, as_json: bool, assigned: bool, limit: int) -> None:
    """List the transfers that are not assigned, newest first."""
    found = asyncio.run(_list(config, assigned, limit))
    if as_json:
        emit(found)
        return
    from railwatch.ops.list_tables import render_unallocated

    show(render_unallocated(found))


async def _list(config: Config, assigned: bool, limit: int) -> list[Record]:
    async with open_database(config) as database:
        return await list_unallocated(database, assigned=assigned, limit=limit)


@unallocated.command("show")
@config_option
@json_option
@click.argument("transfer")
def show_(config: Config, as_json: bool, transfer: str) -> None:
    """Show TRANSFER (its id, its first 4 digits, or its transaction), and which invoices it may belong to."""
    found = asyncio.run(_show(config, transfer))
    if as_json:
        emit(found)
        return
    from railwatch.ops.list_tables import render_unallocated_transfer

    show(render_unallocated_transfer(found))


async def _show(config: Config, reference: str) -> Record:
    async with open_database(config) as database:
        return await show_unallocated(database, await transfer_id(database, reference))


@unallocated.command()
@config_option
@json_option
@actor_option
@click.argument("transfer")
@click.argument("invoice")
@click.option("--reason", required=True, metavar="TEXT", help="How you know whose it is; kept in the feed.")
def assign(config: Config, as_json: bool, actor: str, transfer: str, invoice: str, reason: str) -> None:
    """Give TRANSFER to INVOICE (MERCHANT/ORDER or id). The daemon counts it within about a second.

    This cannot be undone: a transfer pays one invoice. Example:
    railwatch unallocated assign 5f2c shop/1001 --reason "the customer sent the receipt"
    """
    order, made = asyncio.run(_assign(config, transfer, invoice, actor, reason))
    if as_json:
        emit({"detection": made, "invoice": order})
    else:
        say(f"assigned to invoice {order}")
        say(f"see its state with: railwatch explain {order}")


async def _assign(config: Config, transfer: str, invoice: str, actor: str, reason: str) -> tuple[UUID, UUID]:
    async with open_database(config) as database:
        order = await invoice_id(database, invoice)
        known = await transfer_id(database, transfer)
        return order, await assign_transfer(database, known, order, Act(actor, "operator"), reason)

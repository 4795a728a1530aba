"""`railwatch invoice`: registration, display and manual operations of invoices."""

import asyncio

import click

from railwatch.cli.invoice_actions import cancel, hold, refund, release
from railwatch.cli.invoice_create import create
from railwatch.cli.options import LARGEST, config_option, json_option
from railwatch.cli.output import emit, show
from railwatch.cli.resolve_args import dossier
from railwatch.config import Config
from railwatch.core.states import InvoiceState
from railwatch.ops.database import open_database
from railwatch.store.read_models import Dossier, Record, list_invoices


@click.group()
def invoice() -> None:
    """Register, show and change invoices by hand. INVOICE is an id, or MERCHANT/ORDER."""


invoice.add_command(create)


@invoice.command("show")
@config_option
@json_option
@click.argument("invoice")
def show_(config: Config, as_json: bool, invoice: str) -> None:
    """Show INVOICE: terms, destinations and sums. `railwatch explain` shows the whole evidence."""
    found = asyncio.run(_read(config, invoice))
    if as_json:
        emit({**found.invoice, "destinations": found.destinations})
        return
    from railwatch.ops.explain import render_invoice

    show(render_invoice(found))


async def _read(config: Config, reference: str) -> Dossier:
    async with open_database(config) as database:
        return await dossier(database, reference)


@invoice.command("list")
@config_option
@json_option
@click.option("--state", type=click.Choice([each.value for each in InvoiceState]), help="Only invoices in this state.")
@click.option("--merchant", metavar="ID", help="Only invoices of this merchant.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=LARGEST),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most N invoices.",
)
def list_(config: Config, as_json: bool, state: str | None, merchant: str | None, limit: int) -> None:
    """List invoices, newest first."""
    found = asyncio.run(_list(config, state, merchant, limit))
    if as_json:
        emit(found)
        return
    from railwatch.ops.list_tables import render_invoices

    show(render_invoices(found))


async def _list(config: Config, state: str | None, merchant: str | None, limit: int) -> list[Record]:
    async with open_database(config) as database:
        return await list_invoices(database, state=state, merchant=merchant, limit=limit)


for act in (cancel, hold, release, refund):
    invoice.add_command(act)

"""`railwatch invoice cancel|hold|release|refund`: manual operations, with actor and reason in the feed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import click

from railwatch.cli.errors import InvalidInput, NotFound
from railwatch.cli.options import actor_option, config_option, json_option
from railwatch.cli.output import emit, say
from railwatch.cli.resolve_args import dossier, invoice_id
from railwatch.config import Config
from railwatch.ops.amounts import base_units
from railwatch.ops.database import open_database
from railwatch.store.database import Database
from railwatch.store.invoices import Act, Refund, cancel_invoice, hold_invoice, record_refund, release_invoice
from railwatch.store.read_models import Dossier

Result = TypeVar("Result")


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option("--note", metavar="TEXT", help="Reason, kept as evidence.")
def cancel(config: Config, as_json: bool, actor: str, invoice: str, note: str | None) -> None:
    """Cancel INVOICE, which must have no payment. Its address stays watched."""
    _move(config, as_json, invoice, lambda database, known: cancel_invoice(database, known, _by(actor), note=note))


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option("--reason", required=True, metavar="TEXT", help="Reason, shown with the invoice everywhere.")
def hold(config: Config, as_json: bool, actor: str, invoice: str, reason: str) -> None:
    """Hold INVOICE: it stays `flagged` until `railwatch invoice release`, whatever the chain shows."""
    _move(config, as_json, invoice, lambda database, known: hold_invoice(database, known, _by(actor), reason=reason))


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option("--reason", metavar="TEXT", help="Reason, kept as evidence.")
def release(config: Config, as_json: bool, actor: str, invoice: str, reason: str | None) -> None:
    """End the hold of INVOICE, and print its state, which follows from its payments."""
    _move(config, as_json, invoice, lambda database, known: release_invoice(database, known, _by(actor), reason=reason))


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option(
    "--tx", required=True, metavar="TEXT", help="Transaction id of the refund. Recording one twice changes nothing."
)
@click.option("--amount", type=click.IntRange(min=1), metavar="N", help="Refunded amount in base units.")
@click.option("--display-amount", metavar="X", help='Refunded amount in display units, such as "1.5".')
@click.option("--rail", metavar="NAME", help="Rail of the original payment; needed if there are several.")
@click.option(
    "--asset",
    metavar="SYMBOL",
    help="Asset of the original payment (symbol or CAIP-19 id); needed if there are several.",
)
@click.option("--reason", metavar="TEXT", help="Reason, kept as evidence.")
def refund(
    config: Config,
    as_json: bool,
    actor: str,
    invoice: str,
    tx: str,
    amount: int | None,
    display_amount: str | None,
    rail: str | None,
    asset: str | None,
    reason: str | None,
) -> None:
    """Record a refund of INVOICE that was already sent, and print the state: `refunded` once nothing is left.

    This command sends no money.

    Example: railwatch invoice refund shop/order-1042 --tx 0xabc --display-amount 1.5
    """
    if (amount is None) == (display_amount is None):
        raise click.UsageError("give either --amount (base units) or --display-amount")

    async def act(database: Database, known: UUID) -> tuple[UUID, str]:
        found = await dossier(database, str(known))
        units = amount if display_amount is None else _base_units(display_amount, found, rail, asset)
        made = await record_refund(database, known, Refund(units or 0, tx, reason, rail, asset), _by(actor))
        return made, str((await dossier(database, str(known))).invoice["state"])

    made, state = asyncio.run(_with_invoice(config, invoice, act))
    if as_json:
        emit({"invoice": invoice, "refund": made, "state": state})
    else:
        say(state)


def _base_units(text: str, found: Dossier, rail: str | None, asset: str | None) -> int:
    """Return display units of the original payment as base units. Raises `NotFound` if several assets match."""
    decimals = {
        each["decimals"]
        for each in found.detections
        if rail in (None, each["rail"]) and asset in (None, each["asset"], each["symbol"])
    }
    if len(decimals) != 1 or None in decimals:
        raise NotFound("several payments may be meant; give --rail and --asset of the original payment, or --amount")
    try:
        return base_units(text, decimals.pop())
    except ValueError as error:
        raise InvalidInput(f"--display-amount: {error}") from None


def _by(actor: str) -> Act:
    return Act(actor, "operator")


def _move(config: Config, as_json: bool, invoice: str, act: Callable[[Database, UUID], Awaitable[str]]) -> None:
    """Run ``act``, and print the state that it returns."""
    state = asyncio.run(_with_invoice(config, invoice, act))
    if as_json:
        emit({"invoice": invoice, "state": state})
    else:
        say(state)


async def _with_invoice(config: Config, reference: str, act: Callable[[Database, UUID], Awaitable[Result]]) -> Result:
    async with open_database(config) as database:
        return await act(database, await invoice_id(database, reference))

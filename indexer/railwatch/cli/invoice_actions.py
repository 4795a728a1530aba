"""`railwatch invoice cancel|hold|release|refund`: what a person does to an invoice, with who and why in the feed."""

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
@click.option("--note", metavar="TEXT", help="Why; kept as evidence.")
def cancel(config: Config, as_json: bool, actor: str, invoice: str, note: str | None) -> None:
    """Withdraw INVOICE, which must not hold money. Its address stays watched."""
    _move(config, as_json, invoice, lambda database, known: cancel_invoice(database, known, _by(actor), note=note))


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option("--reason", required=True, metavar="TEXT", help="Why; shown wherever the invoice is.")
def hold(config: Config, as_json: bool, actor: str, invoice: str, reason: str) -> None:
    """Hold INVOICE: it is `flagged` until somebody releases it, whatever the chain says."""
    _move(config, as_json, invoice, lambda database, known: hold_invoice(database, known, _by(actor), reason=reason))


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option("--reason", metavar="TEXT", help="Why; kept as evidence.")
def release(config: Config, as_json: bool, actor: str, invoice: str, reason: str | None) -> None:
    """End the hold of INVOICE, and print the state that the facts demand by now."""
    _move(config, as_json, invoice, lambda database, known: release_invoice(database, known, _by(actor), reason=reason))


@click.command()
@config_option
@json_option
@actor_option
@click.argument("invoice")
@click.option(
    "--tx", required=True, metavar="TEXT", help="The refund's own transaction; recording it again is harmless."
)
@click.option("--amount", type=click.IntRange(min=1), metavar="N", help="What was given back, in base units.")
@click.option("--display-amount", metavar="X", help='The same in display units, such as "1.5".')
@click.option("--rail", metavar="NAME", help="Where the money had come, if in several ways.")
@click.option("--asset", metavar="SYMBOL", help="What had come, if several assets had: symbol or CAIP-19 id.")
@click.option("--reason", metavar="TEXT", help="Why; kept as evidence.")
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
    """Record that money of INVOICE was given back, and print its state: `refunded` once nothing is left.

    This moves no money: it writes down a refund that was sent.
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
    """An amount in display units of what had come; the function says whether that is plain."""
    decimals = {
        each["decimals"]
        for each in found.detections
        if rail in (None, each["rail"]) and asset in (None, each["asset"], each["symbol"])
    }
    if len(decimals) != 1 or None in decimals:
        raise NotFound("what was refunded is not plain: name --rail and --asset of what had come, or give --amount")
    try:
        return base_units(text, decimals.pop())
    except ValueError as error:
        raise InvalidInput(f"--display-amount: {error}") from None


def _by(actor: str) -> Act:
    return Act(actor, "operator")


def _move(config: Config, as_json: bool, invoice: str, act: Callable[[Database, UUID], Awaitable[str]]) -> None:
    """Do ``act``, and print the state that it leads to."""
    state = asyncio.run(_with_invoice(config, invoice, act))
    if as_json:
        emit({"invoice": invoice, "state": state})
    else:
        say(state)


async def _with_invoice(config: Config, reference: str, act: Callable[[Database, UUID], Awaitable[Result]]) -> Result:
    async with open_database(config) as database:
        return await act(database, await invoice_id(database, reference))

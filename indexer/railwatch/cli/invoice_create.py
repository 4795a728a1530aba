"""`railwatch invoice create`: the registration of an invoice, from options or from a file."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TextIO
from uuid import UUID

import click

from railwatch.cli.errors import InvalidInput, NotFound
from railwatch.cli.options import Seconds, config_option, json_option
from railwatch.cli.output import emit, say
from railwatch.config import Config
from railwatch.ops.amounts import base_units
from railwatch.ops.database import open_database
from railwatch.store.database import Database
from railwatch.store.invoices import asset_decimals, create_invoice, watch_states
from railwatch.store.read_models import Record

WAIT_SECONDS = 30.0
POLL_SECONDS = 0.1

REQUIRED = ("merchant", "order", "rail", "asset", "address", "expires_in")


def read_json(text: str) -> Any:
    """Return decoded JSON that Postgres can hold. Raises ValueError with the cause."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it contains a lone surrogate") from None
    return found


class Json(click.ParamType[Any]):
    """A JSON object on the command line."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the object as a dict."""
        try:
            found = read_json(value)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail('not a JSON object, such as {"confirmations": 3}', param, ctx)
        return found


@click.command()
@config_option
@json_option
@click.option("--merchant", metavar="ID", help="Your id of the merchant.")
@click.option("--order", metavar="ID", help="Your id of the order. Merchant and order together name the invoice.")
@click.option("--rail", metavar="NAME", help="Rail of the payment, as configured.")
@click.option("--asset", metavar="SYMBOL", help="Symbol of the asset, or its CAIP-19 id.")
@click.option("--address", metavar="TEXT", help="Address for this invoice only.")
@click.option("--reference", metavar="TEXT", help="Memo, tag or reference, on rails that have one.")
@click.option("--amount", metavar="N", help="Expected amount in base units.")
@click.option("--display-amount", metavar="X", help='Expected amount in display units, such as "1.5".')
@click.option("--expires-in", type=Seconds(), help="Payment window: 90s, 15m, 12h, 30d, or seconds.")
@click.option("--fiat-amount", metavar="X", help="Total of the order; selects the policy by its up_to.")
@click.option("--fiat-currency", metavar="CODE", help="Currency of that total, such as EUR.")
@click.option(
    "--policy",
    type=Json(),
    help='When a payment counts: {"confirmations": 3} or {"finalized": true}. Default: the configured policy.',
)
@click.option("--metadata", type=Json(), help="Your own JSON object, stored unchanged.")
@click.option(
    "--file",
    type=click.File(),
    help='The whole request as JSON for create_invoice (docs/contract.md); "-" reads stdin.',
)
@click.option("--wait", is_flag=True, help=f"Wait until its addresses are watched, at most {WAIT_SECONDS:.0f} s.")
def create(config: Config, as_json: bool, file: TextIO | None, wait: bool, **options: Any) -> None:
    """Register an invoice and print its id. The same order with the same terms returns the same id.

    Show payment instructions only once the address is watched: use --wait.

    \b
    Example:
      railwatch invoice create --merchant shop --order 1042 --rail eth \\
        --asset USDC --display-amount 25 --address 0x... --expires-in 15m --wait
    """
    given = {name: value for name, value in options.items() if value is not None}
    if file is not None and given:
        raise click.UsageError(f"--file holds the whole request; remove {', '.join(_flags(given))}")
    if file is None and (missing := [name for name in REQUIRED if name not in given]):
        raise click.UsageError(f"give {', '.join(_flags(missing))}, or --file")
    if file is None and ("amount" in given) == ("display_amount" in given):
        raise click.UsageError("give either --amount (base units) or --display-amount")
    request = None if file is None else _parse(file)
    made, destinations = asyncio.run(_create(config, request, given, wait))
    if as_json:
        emit({"id": made, **({"destinations": destinations} if wait else {})})
    else:
        say(str(made))
    if wait:
        _require_watched(destinations)


def _flags(names: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in names]


def _parse(file: TextIO) -> Mapping[str, Any]:
    try:
        request = read_json(file.read())
    except ValueError as error:
        raise InvalidInput(f"{file.name} is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise InvalidInput(
            f"{file.name} contains no JSON object; docs/contract.md describes the request of create_invoice"
        )
    return request


async def _create(
    config: Config, request: Mapping[str, Any] | None, given: Mapping[str, Any], wait: bool
) -> tuple[UUID, list[Record]]:
    async with open_database(config) as database:
        made = await create_invoice(database, request if request is not None else await _request(database, given))
        return made, await _wait(database, made) if wait else []


async def _request(database: Database, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of `create_invoice` from the options."""
    amount = given["amount"] if "amount" in given else await _base_units(database, given)
    destination = {name: given[name] for name in ("rail", "asset", "address", "reference") if name in given}
    optional = ("fiat_amount", "fiat_currency", "policy", "metadata")
    return {
        "merchant_id": given["merchant"],
        "order_id": given["order"],
        "expires_in": given["expires_in"],
        "destinations": [{**destination, "amount": amount}],
        **{name: given[name] for name in optional if name in given},
    }


async def _base_units(database: Database, given: Mapping[str, Any]) -> str:
    decimals = await asset_decimals(database, given["rail"], given["asset"])
    if decimals is None:
        raise NotFound(f'rail "{given["rail"]}" has no asset "{given["asset"]}"; railwatch status lists the rails')
    try:
        return str(base_units(given["display_amount"], decimals))
    except ValueError as error:
        raise InvalidInput(f"--display-amount: {error}") from None


async def _wait(database: Database, invoice: UUID) -> list[Record]:
    """Return the destinations, once each is watched or rejected, or after `WAIT_SECONDS`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + WAIT_SECONDS
    while True:
        found = await watch_states(database, invoice)
        if all(each["watch_state"] != "registered" for each in found) or loop.time() > until:
            return found
        await asyncio.sleep(POLL_SECONDS)


def _require_watched(destinations: list[Record]) -> None:
    """Raise `InvalidInput` unless payment instructions may be shown for every destination."""
    for each in destinations:
        place = f"{each['address']} on {each['rail']}"
        if each["watch_state"] == "rejected":
            raise InvalidInput(f"{place} is rejected: {each['watch_error']}")
        if each["watch_state"] == "registered":
            raise InvalidInput(
                f"{place} is not watched after {WAIT_SECONDS:.0f} s; the invoice stays registered. "
                "Check that a daemon runs and that its rail is live: railwatch status"
            )

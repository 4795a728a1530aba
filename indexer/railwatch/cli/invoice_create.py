"""`railwatch invoice create`: a request put together from options, or taken whole from a file."""

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
    """Decode JSON that Postgres can hold. Raises ValueError that says what is wrong."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    return found


class Json(click.ParamType[Any]):
    """A JSON object on the command line."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As Python values."""
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
@click.option("--merchant", metavar="ID", help="The merchant.")
@click.option("--order", metavar="ID", help="The order; with the merchant it names the invoice.")
@click.option("--rail", metavar="NAME", help="The rail to be paid on.")
@click.option("--asset", metavar="SYMBOL", help="The asset's symbol, or its CAIP-19 id.")
@click.option("--address", metavar="TEXT", help="The address, which must be this invoice's alone.")
@click.option("--reference", metavar="TEXT", help="Memo, tag or reference, on rails that have one.")
@click.option("--amount", metavar="N", help="What to ask for, in base units.")
@click.option("--display-amount", metavar="X", help='The same in display units, such as "1.5".')
@click.option("--expires-in", type=Seconds(), help="The payment window, such as 15m.")
@click.option("--fiat-amount", metavar="X", help="The order's total, which decides the value tier.")
@click.option("--fiat-currency", metavar="CODE", help="Its currency.")
@click.option("--policy", type=Json(), help='When a payment counts: {"confirmations": 3} or {"finalized": true}.')
@click.option("--metadata", type=Json(), help="Your own, returned as it came.")
@click.option("--file", type=click.File(), help='The whole request as JSON, as create_invoice takes it; "-": stdin.')
@click.option("--wait", is_flag=True, help=f"Wait until its addresses are watched, at most {WAIT_SECONDS:.0f} s.")
def create(config: Config, as_json: bool, file: TextIO | None, wait: bool, **options: Any) -> None:
    """Register an invoice and print its id. The same order with the same terms gives the same id.

    Show payment instructions only once its address is watched: --wait.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if file is not None and given:
        raise click.UsageError(f"--file holds the whole request; leave out {', '.join(_flags(given))}")
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
        raise InvalidInput(f"{file.name} holds no JSON object; docs/contract.md shows what create_invoice takes")
    return request


async def _create(
    config: Config, request: Mapping[str, Any] | None, given: Mapping[str, Any], wait: bool
) -> tuple[UUID, list[Record]]:
    async with open_database(config) as database:
        made = await create_invoice(database, request if request is not None else await _request(database, given))
        return made, await _wait(database, made) if wait else []


async def _request(database: Database, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `create_invoice` takes, from the options."""
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
        raise NotFound(f'rail "{given["rail"]}" has no asset "{given["asset"]}"; `railwatch status` lists the rails')
    try:
        return str(base_units(given["display_amount"], decimals))
    except ValueError as error:
        raise InvalidInput(f"--display-amount: {error}") from None


async def _wait(database: Database, invoice: UUID) -> list[Record]:
    """The destinations, once each is watched or rejected, or time is over."""
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
                f"{place} is not watched after {WAIT_SECONDS:.0f} s. The invoice stays registered; "
                "is a daemon running, and its rail live? See `railwatch status`"
            )

"""Which invoices a recording or a replay watches: from a file, from addresses, or from the database."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from railwatch.config import Config, RailConfig
from railwatch.rail import Traits
from railwatch.store.config_sync import asset_id
from railwatch.store.database import Database
from railwatch.store.invoices import create_invoice

Requests = list[dict[str, Any]]


class InvoicesUnusable(ValueError):
    """The file of invoices cannot be used. The message says what is wrong."""


def read_invoices(path: Path) -> Requests:
    """Read a JSON list of requests for `create_invoice`, each with ``at`` (seconds) if it comes later than the start.

    Raises `InvoicesUnusable`, and OSError.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvoicesUnusable(f"{path} is not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvoicesUnusable(f"{path} is not a list of requests, each as create_invoice accepts it")
    if not all(isinstance(each.get("at", 0), int | float) and each.get("at", 0) >= 0 for each in found):
        raise InvoicesUnusable(f'{path}: "at" is a number of seconds from the start')
    return found


def watching(rail: RailConfig, traits: Traits, addresses: Sequence[str]) -> Requests:
    """Return an invoice for each address that asks for one base unit of any asset of the rail."""
    assets = [asset_id(rail.chain_id, traits, each.contract) for each in rail.assets]
    return [
        {
            "merchant_id": "recorded",
            "order_id": str(number),
            "expires_in": 86_400,
            "accept_before": 3600,
            "destinations": [
                {"rail": rail.name, "asset": asset, "address": address, "amount": "1"} for asset in assets
            ],
        }
        for number, address in enumerate(addresses, 1)
    ]


async def register(database: Database, requests: Requests) -> None:
    """Register invoices, in their order. Raises `RpcRejected` as `create_invoice` does."""
    for request in requests:
        await create_invoice(database, {name: value for name, value in request.items() if name != "at"})


def scratch_config(config: Config, rail: RailConfig, dsn: str) -> Config:
    """Return a configuration that follows one rail into another database, and does nothing else."""
    policies = [each.model_dump(mode="json") for each in config.policies if each.rail == rail.name]
    return Config.model_validate(
        {
            "database": {"url": dsn},
            "rail": [rail],
            "policy": policies,
            "invoices": {"keep_watching": config.invoices.keep_watching},
        }
    )

"""Rails and requests for tests of the contract's functions."""

from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from railwatch.core.policy import Policy
from railwatch.rail import AssetSpec, ChainId
from railwatch.store.config_sync import PolicyRow, RailMirror
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import create_invoice
from railwatch_fake import Rules
from railwatch_fake.adapter import traits_of

PLAIN, FINAL = traits_of(Rules()), traits_of(Rules(finality=8))
ASSETS = (AssetSpec("COIN", None, 8), AssetSpec("GOLD", "gold", 6))

RAILS = [
    RailMirror(
        "plain",
        ChainId("fake:plain"),
        PLAIN,
        ASSETS,
        (
            PolicyRow(None, Decimal(100), Policy(1), "configuration"),
            PolicyRow(None, Decimal(5000), Policy(2), "configuration"),
            PolicyRow(None, None, Policy(3), "configuration"),
            PolicyRow("GOLD", Decimal(100), Policy(7), "configuration"),
            PolicyRow("GOLD", None, Policy(9), "configuration"),
            PolicyRow(None, None, Policy(60), "default"),
        ),
    ),
    RailMirror(
        "final",
        ChainId("fake:final"),
        FINAL,
        ASSETS,
        (
            PolicyRow(None, Decimal(10), Policy(1), "configuration"),
            PolicyRow(None, Decimal(100), Policy(12), "default"),
            PolicyRow(None, None, Policy(None, 5), "default"),
        ),
    ),
    RailMirror(
        "capped",
        ChainId("fake:capped"),
        replace(FINAL, max_confirmations=1, family="elsewhere"),
        ASSETS,
        (PolicyRow(None, None, Policy(None), "default"),),
    ),
]

_numbers = count(1)


def fresh() -> str:
    return f"fake:{next(_numbers):042x}"


def way(**more: Any) -> dict[str, Any]:
    return {"rail": "plain", "asset": "COIN", "address": fresh(), "amount": 100, **more}


def order(**more: Any) -> dict[str, Any]:
    return {
        "merchant_id": "shop",
        "order_id": f"order {next(_numbers)}",
        "expires_in": 3600,
        "destinations": [way()],
        **more,
    }


async def counts(database: Database) -> tuple[int, ...]:
    tables = ("invoices", "destinations", "transitions")
    return tuple([await database.value(f"select count(*) from railwatch.{table}") for table in tables])


async def refusal(database: Database, request: Any) -> Refused:
    """What `create_invoice` refuses ``request`` with; nothing of it may stay."""
    before = await counts(database)
    with pytest.raises(Refused) as caught:
        await create_invoice(database, request)
    assert await counts(database) == before
    return caught.value

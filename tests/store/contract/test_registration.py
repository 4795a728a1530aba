"""`create_invoice` and `create_invoices`: what they accept, what they refuse, and in which words."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import create_invoice
from tests.store.contract.requests import counts, order, refusal, way

# What is taken


async def test_an_order_is_registered_and_told_in_one_breath(database: Database) -> None:
    request = order(fiat_amount="49.90", fiat_currency="EUR", metadata={"cart": [1, 2]}, tolerance_bps=50)
    made = await create_invoice(database, request)
    row = await database.row("select * from railwatch.invoices where id = $1", made)
    assert row is not None
    assert (row["state"], row["version"], row["time_basis"], row["tolerance_bps"]) == ("created", 1, "first_seen", 50)
    assert (row["fiat_amount"], row["metadata"]) == (Decimal("49.90"), {"cart": [1, 2]})
    assert (row["expires_at"] - row["created_at"]).total_seconds() == 3600
    assert (row["closes_at"] - row["expires_at"]).total_seconds() == 1000
    [line] = await database.rows("select * from railwatch.transitions where invoice_id = $1", made)
    assert (line["from_state"], line["to_state"], line["cause"], line["subject"]) == (
        None,
        "created",
        "service",
        "invoice",
    )
    assert await database.value("select last_seq from railwatch.feed_position") == line["seq"]


@pytest.mark.parametrize("amount", [1, "1", "007", 2**256 - 1, str(2**256 - 1), 10**30])
async def test_amounts_are_exact_up_to_the_largest_that_a_chain_can_hold(database: Database, amount: int | str) -> None:
    # As text: Python's and Postgres' JSON agree on integers of any size, other clients send digits.
    text = json.dumps(order(destinations=[way(amount=amount)]))
    made = await database.value("select railwatch.create_invoice(($1::text)::jsonb)", text)
    kept = await database.value("select expected_amount from railwatch.destinations where invoice_id = $1", made)
    assert int(kept) == int(amount)


@pytest.mark.parametrize("asset", ["GOLD", "fake:plain/token:gold", "fake:plain/token:GOLD"])
async def test_an_asset_is_named_by_symbol_or_by_its_id(database: Database, asset: str) -> None:
    made = await create_invoice(database, order(destinations=[way(asset=asset)]))
    kept = await database.value("select asset from railwatch.destinations where invoice_id = $1", made)
    assert kept == "fake:plain/token:gold"


# What is refused

BAD_WAYS: list[tuple[dict[str, Any], str, str]] = [
    ({"rail": "mainnet"}, "RW002", "unknown rail"),
    ({"rail": None}, "RW002", "none given"),
    ({"asset": "DOGE"}, "RW003", "unknown asset"),
    ({"asset": "fake:final/token:gold"}, "RW003", "unknown asset"),
    ({"asset": None}, "RW003", "none given"),
    ({"amount": -5}, "RW004", "-5"),
    ({"amount": "-5"}, "RW004", "-5"),
    ({"amount": 0}, "RW004", "0"),
    ({"amount": 1.5}, "RW004", "1.5"),
    ({"amount": "1.5"}, "RW004", "1.5"),
    ({"amount": 1e-8}, "RW004", "amount"),
    ({"amount": "1e3"}, "RW004", "1e3"),
    ({"amount": " 1"}, "RW004", "amount"),
    ({"amount": ""}, "RW004", "amount"),
    ({"amount": "0x10"}, "RW004", "0x10"),
    ({"amount": True}, "RW004", "true"),
    ({"amount": None}, "RW004", "amount"),
    ({"amount": [1]}, "RW004", "amount"),
    ({"amount": str(2**256)}, "RW004", "2^256"),
    ({"amount": "9" * 5000}, "RW004", "amount"),
    ({"address": ""}, "RW001", "address"),
    ({"address": None}, "RW001", "address"),
    ({"address": "f" * 201}, "RW001", "address"),
    ({"adress": "typo"}, "RW001", '"adress"'),
]


@pytest.mark.parametrize(("wrong", "code", "says"), BAD_WAYS, ids=[f"{each[0]!s:.40}" for each in BAD_WAYS])
async def test_a_bad_destination_is_refused_with_its_place_and_reason(
    database: Database, wrong: dict[str, Any], code: str, says: str
) -> None:
    refused = await refusal(database, order(destinations=[way(), way(**wrong)]))
    assert refused.code == code
    assert "destinations[2]" in str(refused)
    assert says in str(refused)


BAD_ORDERS: list[tuple[dict[str, Any], str, str]] = [
    ({"merchant_id": None}, "RW001", "merchant_id"),
    ({"merchant_id": 5}, "RW001", "merchant_id"),
    ({"order_id": ""}, "RW001", "order_id"),
    ({"order_id": "x" * 201}, "RW001", "order_id"),
    ({"destinations": []}, "RW001", "destinations"),
    ({"destinations": {}}, "RW001", "destinations"),
    ({"destinations": [5]}, "RW001", "destinations[1]"),
    ({"destinations": [{}] * 21}, "RW001", "destinations"),
    ({"surprise": 1}, "RW001", '"surprise"'),
    ({"time_basis": "whenever"}, "RW001", "whenever"),
    ({"tolerance_bps": 10001}, "RW001", "tolerance_bps"),
    ({"tolerance_bps": 0.5}, "RW001", "tolerance_bps"),
    ({"fiat_amount": "much"}, "RW001", "fiat_amount"),
    ({"fiat_amount": "-1"}, "RW001", "fiat_amount"),
    ({"expires_in": 0}, "RW005", "expires_in"),
    ({"expires_in": -60}, "RW005", "expires_in"),
    ({"expires_in": 1.5}, "RW005", "expires_in"),
    ({"expires_in": "60"}, "RW005", "expires_in"),
    ({"expires_at": "2020-01-01T00:00:00Z", "expires_in": ...}, "RW005", "in the past"),
    ({"expires_at": "soon", "expires_in": ...}, "RW005", "soon"),
    ({"expires_at": "2030-02-31T00:00:00Z", "expires_in": ...}, "RW005", "2030-02-31"),
    ({"expires_at": 1893456000, "expires_in": ...}, "RW005", "not a time"),
    ({"expires_in": ...}, "RW005", "expires_at or expires_in"),
    ({"expires_at": "2030-01-01T00:00:00Z"}, "RW005", "expires_at or expires_in"),
    ({"closes_in": -1}, "RW005", "closes_in"),
    ({"rate_locked_at": "then"}, "RW005", "rate_locked_at"),
    ({"policy": {"confirmations": 0}}, "RW008", "policy"),
    ({"policy": {"confirmations": -1}}, "RW008", "policy"),
    ({"policy": {"confirmations": 1.5}}, "RW008", "policy"),
    ({"policy": {"confirmations": 2, "finalized": True}}, "RW008", "policy"),
    ({"policy": {"finalized": False}}, "RW008", "policy"),
    ({"policy": {"finalized": True}}, "RW008", "has no finality"),
    ({"policy": {}}, "RW008", "policy"),
    ({"policy": "strict"}, "RW008", "policy"),
]


@pytest.mark.parametrize(("wrong", "code", "says"), BAD_ORDERS, ids=[f"{each[0]!s:.50}" for each in BAD_ORDERS])
async def test_a_bad_order_is_refused_with_the_field_and_reason(
    database: Database, wrong: dict[str, Any], code: str, says: str
) -> None:
    request = {key: value for key, value in order(**wrong).items() if value is not ...}
    refused = await refusal(database, request)
    assert refused.code == code
    assert says in str(refused)


@pytest.mark.parametrize("request_", [None, [], "order", 5])
async def test_what_is_no_object_is_refused(database: Database, request_: Any) -> None:
    assert (await refusal(database, request_)).code == "RW001"


@pytest.mark.parametrize("moment", ["infinity", "20000-01-01T00:00:00Z", "tomorrow"])
async def test_a_time_that_no_client_could_read_back_is_refused(database: Database, moment: str) -> None:
    request = {key: value for key, value in order(expires_at=moment).items() if key != "expires_in"}
    assert (await refusal(database, request)).code == "RW005"


async def test_a_reference_is_refused_where_the_rail_knows_none(database: Database) -> None:
    """It would match no transfer, so that the payment would never be seen."""
    await database.value("update railwatch.rails set has_references = false")
    request = order()
    request["destinations"][0]["reference"] = "memo 7"
    assert (await refusal(database, request)).code == "RW011"


async def test_an_amount_is_the_same_terms_however_it_is_written(database: Database) -> None:
    request = order()
    request["destinations"][0]["amount"] = 100
    made = await create_invoice(database, request)
    request["destinations"][0]["amount"] = "100"
    assert await create_invoice(database, request) == made


async def test_many_invoices_are_registered_in_one_commit_all_or_none(database: Database) -> None:
    call = "select array(select railwatch.create_invoices($1))"
    orders = [order() for _ in range(20)]
    made = await database.value(call, orders)
    assert made == await database.value(call, orders), "in their order, and again the same"
    moments = "select count(distinct created_at) from railwatch.invoices where id = any ($1)"
    assert (len(set(made)), await database.value(moments, made)) == (20, 1)
    before = await counts(database)
    with pytest.raises(Refused) as caught:
        await database.value(call, [order(), {**order(), "expires_in": -1}])
    assert caught.value.code == "RW005"
    assert await counts(database) == before
    for wrong in ([], [order()] * 1001):
        with pytest.raises(Refused, match="1 to 1000"):
            await database.value(call, wrong)


async def test_bursts_in_opposite_orders_do_not_deadlock(database: Database) -> None:
    orders = [order() for _ in range(30)]
    call = "select array(select railwatch.create_invoices($1))"
    there, back = await asyncio.gather(database.value(call, orders), database.value(call, orders[::-1]))
    assert there == back[::-1]

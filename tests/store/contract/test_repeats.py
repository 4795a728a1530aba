"""Repeated orders, shared addresses, and the policy that an order gets."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from railwatch.core.states import END_STATES, InvoiceState
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import create_invoice
from tests.store.contract.requests import counts, fresh, order, refusal, way

# Once


async def test_the_same_order_again_is_the_same_invoice(database: Database) -> None:
    request = order()
    made = await create_invoice(database, request)
    before = await counts(database)
    assert await create_invoice(database, request) == made
    assert await create_invoice(database, {**request, "metadata": {"seen": "twice"}}) == made
    assert await counts(database) == before


async def test_the_same_order_is_the_same_invoice_also_after_it_ended(database: Database) -> None:
    request = order()
    made = await create_invoice(database, request)
    await database.value("select railwatch.cancel_invoice($1)", made)
    assert await create_invoice(database, request) == made


@pytest.mark.parametrize("other", [{"expires_in": 60}, {"destinations": [way(amount=101)]}, {"tolerance_bps": 1}])
async def test_the_same_order_with_other_terms_is_refused_and_names_the_first(
    database: Database, other: dict[str, Any]
) -> None:
    request = order()
    made = await create_invoice(database, request)
    refused = await refusal(database, {**request, **other})
    assert refused.code == "RW006"
    assert str(made) in str(refused)


async def test_one_order_from_eight_connections_is_one_invoice(database: Database) -> None:
    request = order()
    made = await asyncio.gather(*(create_invoice(database, request) for _ in range(8)))
    assert len(set(made)) == 1
    assert await database.value("select count(*) from railwatch.transitions where invoice_id = $1", made[0]) == 1


async def test_one_address_from_eight_connections_has_one_winner(database: Database) -> None:
    address = fresh()
    # In either case, because the rail folds it; on two rails, because they share an address space.
    ways = [way(address=text, rail=rail) for text in (address, address.upper()) for rail in ("plain", "final")] * 2
    made = await asyncio.gather(
        *(create_invoice(database, order(destinations=[each])) for each in ways), return_exceptions=True
    )
    assert len([each for each in made if isinstance(each, UUID)]) == 1
    assert [each.code for each in made if isinstance(each, Refused)] == ["RW007"] * 7


OPEN = sorted(set(InvoiceState) - END_STATES)


@pytest.mark.parametrize("state", OPEN)
async def test_the_address_of_an_open_invoice_is_refused(database: Database, state: InvoiceState) -> None:
    address = fresh()
    first = await create_invoice(database, order(destinations=[way(address=address)]))
    await database.value("update railwatch.invoices set state = $2 where id = $1", first, state.value)
    refused = await refusal(database, order(destinations=[way(address=address.upper())]))
    assert refused.code == "RW007"
    assert str(first) in str(refused)
    assert (await refusal(database, order(destinations=[way(address=address, rail="final")]))).code == "RW007"


@pytest.mark.parametrize("state", sorted(END_STATES))
async def test_the_address_of_an_ended_invoice_may_be_used_again(database: Database, state: InvoiceState) -> None:
    address = fresh()
    first = await create_invoice(database, order(destinations=[way(address=address)]))
    await database.value("update railwatch.invoices set state = $2 where id = $1", first, state.value)
    assert await create_invoice(database, order(destinations=[way(address=address)])) != first


async def test_an_address_is_told_apart_by_its_reference_and_by_its_family(database: Database) -> None:
    address = fresh()
    await create_invoice(database, order(destinations=[way(address=address, reference="a")]))
    await create_invoice(database, order(destinations=[way(address=address, reference="b")]))
    await create_invoice(database, order(destinations=[way(address=address, rail="capped")]))
    refused = await refusal(database, order(destinations=[way(address=address, reference="a")]))
    assert refused.code == "RW007"


async def test_one_invoice_may_ask_for_two_assets_at_one_address(database: Database) -> None:
    address = fresh()
    made = await create_invoice(
        database, order(destinations=[way(address=address), way(address=address, asset="GOLD")])
    )
    assert await database.value("select count(*) from railwatch.destinations where invoice_id = $1", made) == 2


async def test_one_invoice_asks_for_one_amount_of_an_asset_at_an_address(database: Database) -> None:
    """Of (100, 50) at one address nobody could say which of the two a payment of 50 is for."""
    address = fresh()
    for other in (address, address.upper()):
        twice = [way(address=address, amount="100"), way(address=other, amount="50")]
        with pytest.raises(Refused, match="there twice") as refused:
            await create_invoice(database, order(destinations=twice))
        assert refused.value.code == "RW001"
    made = "select count(*) from railwatch.destinations where lower(address) = lower($1)"
    assert await database.value(made, address) == 0


# Policies

CHOICES: list[tuple[str, str, str | None, dict[str, Any], str]] = [
    ("plain", "COIN", "100", {"confirmations": 1}, "configuration"),
    ("plain", "COIN", "100.01", {"confirmations": 2}, "configuration"),
    ("plain", "COIN", "5000", {"confirmations": 2}, "configuration"),
    ("plain", "COIN", "5001", {"confirmations": 3}, "configuration"),
    ("plain", "COIN", None, {"confirmations": 3}, "configuration"),
    ("plain", "GOLD", "100", {"confirmations": 7}, "configuration"),
    ("plain", "GOLD", "101", {"confirmations": 9}, "configuration"),
    ("plain", "GOLD", None, {"confirmations": 9}, "configuration"),
    ("final", "COIN", "10", {"confirmations": 1}, "configuration"),
    ("final", "COIN", "11", {"confirmations": 12}, "default"),
    ("final", "COIN", "101", {"finalized": True, "plus": 5}, "default"),
    ("final", "COIN", None, {"finalized": True, "plus": 5}, "default"),
]


@pytest.mark.parametrize(("rail", "asset", "fiat", "policy", "origin"), CHOICES)
async def test_the_policy_follows_from_rail_asset_and_tier(
    database: Database, rail: str, asset: str, fiat: str | None, policy: dict[str, Any], origin: str
) -> None:
    total = {} if fiat is None else {"fiat_amount": fiat, "fiat_currency": "EUR"}
    made = await create_invoice(database, order(destinations=[way(rail=rail, asset=asset)], **total))
    row = await database.row("select policy, policy_origin from railwatch.destinations where invoice_id = $1", made)
    assert row is not None
    assert (row["policy"], row["policy_origin"]) == (policy, origin)
    assert await database.value("select policy from railwatch.invoices where id = $1", made) == policy


async def test_an_invoices_own_policy_comes_before_all_others_and_must_be_possible(database: Database) -> None:
    made = await create_invoice(database, order(policy={"confirmations": 4}))
    row = await database.row("select policy, policy_origin from railwatch.destinations where invoice_id = $1", made)
    assert row is not None
    assert tuple(row) == ({"confirmations": 4}, "invoice")
    made = await create_invoice(database, order(policy={"finalized": True}, destinations=[way(rail="final")]))
    assert await database.value("select policy from railwatch.invoices where id = $1", made) == {
        "finalized": True,
        "plus": 0,
    }
    deep = order(policy={"confirmations": 2}, destinations=[way(rail="capped")])
    assert (await refusal(database, deep)).code == "RW008"

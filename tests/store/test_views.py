"""Reading out: display units to the last digit, what a customer is told, and finding an order by whatever one has."""

import re
from decimal import Decimal
from typing import Any

import pytest

from railwatch.core.states import InvoiceState
from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

CUSTOMER = {
    "created": "waiting",
    "detected": "received",
    "confirming": "confirming",
    "paid": "complete",
    "overpaid": "complete",
    "underpaid": "issue",
    "late_paid": "issue",
    "expired": "issue",
    "cancelled": "issue",
    "flagged": "issue",
    "refunded": "issue",
}


@pytest.mark.parametrize("state", list(InvoiceState))
async def test_a_customer_is_told_one_of_five_things(database: Database, state: InvoiceState) -> None:
    told = "select railwatch.customer_state($1, null)"
    assert await database.value(told, state.value) == CUSTOMER[state]


async def test_a_customer_whose_payment_was_taken_back_is_not_told_to_wait(database: Database) -> None:
    assert await database.value("select railwatch.customer_state('created', now())") == "issue"
    assert await database.value("select railwatch.customer_state('confirming', now())") == "confirming"


@pytest.mark.parametrize(
    ("amount", "decimals", "shown"),
    [
        ("1", 18, "0.000000000000000001"),
        ("123456789012345678901", 18, "123.456789012345678901"),
        (str(2**256 - 1), 18, "115792089237316195423570985008687907853269984665640564039457.584007913129639935"),
        ("1500000", 6, "1.5"),
        ("1000000", 6, "1"),
        ("0", 6, "0"),
        ("7", 0, "7"),
    ],
)
async def test_display_units_are_exact(database: Database, amount: str, decimals: int, shown: str) -> None:
    told = await database.value("select railwatch.display($1, $2)::text", Decimal(amount), decimals)
    assert told == shown
    assert await database.value("select railwatch.display($1, null)", Decimal(amount)) is None


async def test_an_order_is_found_by_whatever_one_has(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(rules=Rules(tokens=("gold",)))]) as stage:
        first, second = await stage.invoice(100), await stage.invoice(100)
        tx = await stage.pay(first)
        await stage.mine(2)
        await database.value("select railwatch.record_refund($1, 100, 'back-1', actor => 'ann')", first.id)

        async def found(text: str) -> list[tuple[str, Placed]]:
            rows = await database.rows("select found_by, invoice_id from railwatch.find_orders($1)", text)
            known = {each.id: each for each in (first, second)}
            return [(row["found_by"], known[row["invoice_id"]]) for row in rows]

        assert await found(str(first.id)) == [("invoice", first)]
        assert await found("2") == [("order", second)]
        assert await found("shop/1") == [("order", first)]
        assert await found(tx) == [("transaction", first)]
        assert await found("back-1") == [("refund", first)]
        assert await found(second.address) == [("address", second)]
        assert await found(second.address.upper()) == [("address", second)]
        for nothing in ("", "shop/", "shop", "' or true --", "%"):
            assert await found(nothing) == []


LOOKUPS = {
    "select * from railwatch.invoices where order_id = 'x'": "invoices_order",
    "select * from railwatch.invoices where merchant_id = 'm'": "invoices_merchant_id_order_id_key",
    "select * from railwatch.order_transfers where tx_id = 'x'": "detections_tx_id_rail_tx_index_key",
    "select * from railwatch.destinations where address_folded = 'x'": "destinations_case_folded",
    "select * from railwatch.refunds where tx_id = 'x'": "refunds_tx",
    "select * from railwatch.orders where order_id = 'x'": "invoices_order",
    "select * from railwatch.order_money where invoice_id = gen_random_uuid()": "detections_invoice",
}


@pytest.mark.parametrize("query", LOOKUPS)
async def test_lookups_have_their_index(database: Database, query: str) -> None:
    async with database.transaction() as connection:
        await connection.execute("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"explain {query}"))
    assert re.search(rf"(using|on) {LOOKUPS[query]} ", plan), plan


async def test_what_stands_beside_an_order_is_seen_at_once(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(rules=Rules(tokens=("gold",)))]) as stage:
        terms: dict[str, Any] = {
            "fiat_amount": "49.90",
            "fiat_currency": "EUR",
            "rate_locked_at": "2030-01-31T12:00:00Z",
        }
        invoice = await stage.invoice(100, **terms)
        await stage.pay(invoice, 40)
        await stage.pay(invoice, 7, stage.sim.assets[1])
        await stage.mine(2)
        row = await database.row("select * from railwatch.orders")
        assert row is not None
        assert (row["state"], row["customer_state"], row["payable"], row["rails_live"]) == (
            *("underpaid", "issue", True, True),
        )
        assert (row["exceptions"], row["severity"]) == (2, "warning")
        [coin, gold] = await database.rows("select * from railwatch.order_money order by symbol")
        assert (coin["fiat_amount"], coin["fiat_currency"], str(coin["rate_locked_at"].year)) == (
            *(Decimal("49.90"), "EUR", "2030"),
        )
        assert (coin["expected_amount"], coin["received_amount"], coin["refunded_amount"]) == (100, 40, 0)
        assert (coin["policy"], coin["policy_origin"]) == ({"confirmations": 2}, "configuration")
        assert (gold["expected_amount"], gold["received_amount"], gold["received"]) == (None, 7, Decimal("0.000007"))
        [transfer] = await database.rows("select * from railwatch.order_transfers where symbol = 'GOLD'")
        assert (transfer["kind"], transfer["confirmations"], transfer["amount"]) == (
            *("wrong_asset", 2, Decimal("0.000007")),
        )
        [way] = await database.rows("select * from railwatch.order_destinations")
        assert (way["expected"], way["seen"], way["confirmed"]) == tuple(
            Decimal(each) for each in ("0.000001", "0.0000004", "0.0000004")
        )

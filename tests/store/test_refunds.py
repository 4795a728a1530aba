"""What is given back, and where it was booked: recorded once, never overwritten; `refunded` when nothing is left."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from railwatch.core.states import INVOICE_MOVES, InvoiceState
from railwatch.store.errors import Refused
from tests.scenarios.daemon_harness import DaemonHarness
from tests.store.manual_ops import code_of, hold, last_line, paid, refund


async def test_a_payment_is_given_back_in_two_parts(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    first = await refund(stage, invoice, 40, reason="damaged")
    assert await stage.state(invoice) == "paid"
    line = await last_line(stage, invoice, "refund")
    assert (line["subject_id"], line["from_state"], line["to_state"], line["reason"]) == (
        *(first, None, "recorded", "refunded"),
    )
    assert (line["rail"], line["tx_id"]) == (stage.chain.name, "back-1")
    assert line["evidence"] == {
        "login": "postgres",
        "actor": "ann",
        "reason": "damaged",
        "amount": "40",
        "asset": stage.sim.native,
    }
    await refund(stage, invoice, 60, "back-2")
    assert await stage.state(invoice) == "refunded"
    line = await last_line(stage, invoice)
    assert (line["from_state"], line["to_state"], line["reason"]) == ("paid", "refunded", "refunded")
    money = await stage.database.row("select * from railwatch.order_money where invoice_id = $1", invoice.id)
    assert money is not None
    assert (money["expected_amount"], money["received_amount"], money["refunded_amount"]) == (100, 100, 100)
    assert money["refunded"] == Decimal("0.000001")
    await stage.mine()
    assert await stage.state(invoice) == "refunded"


async def test_recording_a_refund_again_is_harmless_and_overwrites_nothing(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    made = await asyncio.gather(*(refund(stage, invoice, 40) for _ in range(4)))
    assert len(set(made)) == 1
    assert await code_of(refund(stage, invoice, 41)) == "RW014"
    assert await stage.database.value("select sum(amount) from railwatch.refunds") == 40
    assert len(await stage.path(invoice, "refund")) == 1


async def test_no_more_is_refunded_than_had_come(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    assert await code_of(refund(stage, invoice, 101)) == "RW013"
    await refund(stage, invoice, 60)
    with pytest.raises(Refused, match="100 had arrived, and 60 is refunded already"):
        await refund(stage, invoice, 41, "back-2")
    nothing = await stage.invoice(100)
    with pytest.raises(Refused, match="nothing has arrived") as caught:
        await refund(stage, nothing, 1)
    assert caught.value.code == "RW013"


async def test_what_is_refunded_must_be_plain(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    await stage.pay(invoice, 7, stage.sim.assets[1])
    await stage.mine(2)
    with pytest.raises(Refused, match="several ways"):
        await refund(stage, invoice, 7)
    assert await code_of(refund(stage, invoice, 7, asset="SILVER")) == "RW013"
    await refund(stage, invoice, 7, asset="GOLD")
    # What was sent by mistake is not the order's money: that is all still there.
    assert await stage.state(invoice) == "paid"
    await refund(stage, invoice, 100, "back-2", rail=stage.chain.name, asset="COIN")
    assert await stage.state(invoice) == "refunded"


async def test_what_came_by_mistake_can_be_given_back_while_the_order_waits(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 7, stage.sim.assets[1])
    await stage.mine(2)
    await refund(stage, invoice, 7)
    assert await stage.state(invoice) == "created"
    await stage.pay(invoice)
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"


async def test_a_payment_that_does_not_count_yet_is_not_refunded_unless_it_is_held(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    assert await stage.state(invoice) == "confirming"
    assert await code_of(refund(stage, invoice, 100)) == "RW010"
    assert await stage.database.value("select count(*) from railwatch.refunds") == 0
    await hold(stage, invoice)
    await refund(stage, invoice, 100)
    assert await stage.state(invoice) == "refunded"
    assert await stage.database.value("select held from railwatch.invoices where id = $1", invoice.id) is None
    await stage.mine(3)
    assert await stage.state(invoice) == "refunded"


async def test_the_surplus_is_given_back_and_the_order_stays(stage: DaemonHarness) -> None:
    invoice = await paid(stage, 130)
    await refund(stage, invoice, 30)
    assert await stage.state(invoice) == "overpaid"


async def test_what_is_given_back_by_choice_is_compared_with_the_way_that_was_paid(stage: DaemonHarness) -> None:
    """Not with a cheaper one in the same asset, at another address, which nobody has paid."""
    ways = [
        {"rail": "story", "asset": "COIN", "amount": amount, "address": await stage.sim.new_address()}
        for amount in (100, 50)
    ]
    invoice = await stage.invoice(to=ways)
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await refund(stage, invoice, 30)
    await stage.mine(2)
    assert (await stage.state(invoice), await stage.open_cases(invoice)) == ("paid", set())
    row = await stage.database.row("select surplus, waived from railwatch.refunds")
    assert row is not None
    assert (row["surplus"], row["waived"]) == (0, 30)


async def test_a_paid_order_stays_paid_though_a_cheaper_way_was_paid_late_when_something_is_given_back(
    stage: DaemonHarness,
) -> None:
    ways: list[dict[str, Any]] = [
        {"rail": "story", "asset": "COIN", "amount": amount, "address": await stage.sim.new_address()}
        for amount in (100, 50)
    ]
    invoice = await stage.invoice(to=ways, time_basis="block_time")
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await stage.database.value(
        "update railwatch.invoices set expires_at = now() - interval '1 ms' where id = $1 returning 1", invoice.id
    )
    await stage.sim.pay(ways[1]["address"], 50)
    await stage.mine(2)
    assert await stage.open_cases(invoice) >= {"late"}
    await refund(stage, invoice, 100)
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"
    row = await stage.database.row("select surplus, waived from railwatch.refunds")
    assert row is not None
    assert (row["surplus"], row["waived"]) == (50, 50)


async def test_a_refund_of_a_cancelled_order_closes_it(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await stage.pay(invoice)
    await stage.mine(2)
    assert await stage.open_cases(invoice) == {"unexpected_payment"}
    await refund(stage, invoice, 100)
    assert await stage.state(invoice) == "refunded"


async def test_a_refund_whose_payment_then_vanishes_is_told_to_finance_until_it_is_back(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    await refund(stage, invoice, 100)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    assert await stage.state(invoice) == "refunded"
    assert await stage.open_cases(invoice) == {"reversed"}
    told = "select severity from railwatch.open_exceptions where invoice_id = $1"
    assert await stage.database.value(told, invoice.id) == "critical"
    assert (await last_line(stage, invoice, "exception"))["evidence"]["refunded"] == [
        {"rail": stage.chain.name, "asset": stage.sim.native, "amount": "100"}
    ]
    await stage.pay(invoice)
    await stage.mine()
    assert await stage.open_cases(invoice) == {"unexpected_payment"}


async def test_money_that_comes_back_beyond_what_was_refunded_is_unexpected(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    lost = await stage.pay(invoice)
    await stage.mine(1)
    await stage.pay(invoice)
    await stage.mine(1)
    first = stage.chain.txs[lost]
    block = stage.chain.line[-3]
    second = stage.chain.line[-1].txs
    for content in ((), second, ()):
        block = stage.chain.grow(block, content)
    stage.chain.adopt(block.hash)
    await stage.mine(1)
    await stage.wait_for_state(invoice, "paid")
    await refund(stage, invoice, 100)
    assert await stage.state(invoice) == "refunded"
    stage.chain.waiting[first.id] = first
    await stage.mine(1)

    async def is_told() -> bool:
        return await stage.open_cases(invoice) == {"unexpected_payment"}

    await stage.until(is_told)


async def test_a_hash_is_one_refund_however_it_is_written(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    digits = "ab" * 32
    made = await refund(stage, invoice, 40, f"0x{digits}")
    assert await refund(stage, invoice, 40, f"0x{digits.upper()}") == made
    other = await refund(stage, invoice, 10, "note a")
    assert await refund(stage, invoice, 10, "note A") != other


async def test_a_refund_of_what_has_vanished_already_is_told_though_it_moves_nothing(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    await refund(stage, invoice, 100)
    await stage.pay(invoice, 50)
    await stage.mine(2)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    assert await stage.open_cases(invoice) == set()
    await refund(stage, invoice, 50, "back-2")
    assert await stage.state(invoice) == "refunded"

    async def is_told() -> bool:
        return await stage.open_cases(invoice) == {"reversed"}

    await stage.until(is_told)


@pytest.mark.parametrize("amount", [None, Decimal(0), Decimal(-1), Decimal("1.5"), Decimal("NaN"), Decimal(2**256)])
async def test_an_amount_that_is_none_is_refused(stage: DaemonHarness, amount: Decimal | None) -> None:
    invoice = await stage.invoice(100)
    call = "select railwatch.record_refund($1, $2, 'tx', actor => 'ann')"
    assert await code_of(stage.database.value(call, invoice.id, amount)) == "RW004"


async def test_a_refund_moves_an_invoice_only_by_the_table(rough: DaemonHarness) -> None:
    placed = {state: await rough.invoice(100) for state in sorted(set(InvoiceState) - {InvoiceState.FLAGGED})}
    for invoice in placed.values():
        await rough.pay(invoice)
    await rough.mine(2)
    await rough.stop()
    refused = set()
    for state, invoice in placed.items():
        await rough.database.value("update railwatch.invoices set state = $2 where id = $1", invoice.id, state.value)
        if state is InvoiceState.REFUNDED or InvoiceState.REFUNDED in INVOICE_MOVES[state]:
            await refund(rough, invoice, 100)
            assert await rough.state(invoice) == "refunded"
        else:
            assert await code_of(refund(rough, invoice, 100)) == "RW010"
            refused.add(state)
    assert refused == {InvoiceState.CREATED, InvoiceState.DETECTED, InvoiceState.CONFIRMING}
    assert await rough.database.value("select count(*) from railwatch.refunds") == len(placed) - len(refused)


# Settlement


async def test_finance_writes_down_where_an_order_was_booked(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    settle = "select railwatch.record_settlement($1, $2, actor => 'finance')"
    first = await stage.database.value(settle, invoice.id, "payout 7")
    assert await stage.database.value(settle, invoice.id, "payout 7") == first
    await stage.database.value(settle, invoice.id, "correction 8")
    told = "select settlement_references from railwatch.order_money where invoice_id = $1"
    assert await stage.database.value(told, invoice.id) == ["payout 7", "correction 8"]
    assert await stage.path(invoice, "settlement") == [("recorded", "settled")] * 2
    assert (await last_line(stage, invoice, "settlement"))["evidence"] == {
        "login": "postgres",
        "actor": "finance",
        "reference": "correction 8",
    }

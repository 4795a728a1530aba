"""What a merchant lives through, from registration to the last word, on a chain that the test scripts."""

from datetime import UTC, datetime

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


async def test_an_exact_payment_is_emitted_as_it_deepens(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    await stage.mine()
    assert await stage.state(invoice) == "confirming"
    await stage.mine()
    assert await stage.path(invoice) == [
        ("created", "created"),
        ("detected", "seen"),
        ("confirming", "included"),
        ("paid", "confirmed"),
    ]
    assert await stage.path(invoice, "detection") == [
        ("pending", "seen"),
        ("included", "included"),
        ("confirmed", "confirmed"),
    ]


async def test_without_a_mempool_it_goes_from_created_to_confirming(finality: DaemonHarness) -> None:
    invoice = await finality.invoice(100)
    await finality.pay(invoice, 100)
    await finality.mine(2)
    assert await finality.path(invoice) == [("created", "created"), ("confirming", "included"), ("paid", "confirmed")]
    await finality.mine(8)
    assert (await finality.path(invoice, "detection"))[-1] == ("final", "final")


async def test_an_underpayment_is_topped_up(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    assert await stage.state(invoice) == "underpaid"
    assert await stage.open_cases(invoice) == {"underpaid"}
    await stage.pay(invoice, 40)
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"
    assert await stage.open_cases(invoice) == set()


async def test_an_overpayment_is_paid_and_opens_an_exception(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 130)
    await stage.mine(2)
    assert await stage.state(invoice) == "overpaid"
    assert await stage.open_cases(invoice) == {"overpaid"}


async def test_a_reorg_after_paid_is_emitted_and_made_good_when_the_payment_returns(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await stage.sim.reorg(2, keep=True)
    await stage.follows()
    assert (await stage.path(invoice))[-4:] == [
        ("paid", "confirmed"),
        ("created", "reversed"),
        ("confirming", "included"),
        ("paid", "confirmed"),
    ]
    assert await stage.open_cases(invoice) == set()


async def test_a_reorg_after_paid_that_removes_the_payment_raises_an_alarm(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    assert (await stage.path(invoice))[-1] == ("created", "reversed")
    assert await stage.open_cases(invoice) == {"reversed"}
    assert await stage.database.value("select severity from railwatch.exceptions") == "critical"


async def test_a_replaced_payment_names_its_rival(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    paid = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    rival = await stage.sim.replace(paid)
    await stage.wait_for_state(invoice, "created")
    assert (await stage.path(invoice))[-1] == ("created", "replaced")
    row = await stage.database.row("select state, replaced_by from railwatch.detections")
    assert row
    assert tuple(row) == ("replaced", rival)
    assert await stage.open_cases(invoice) == {"double_spend"}


async def test_a_payment_that_leaves_the_mempool_is_dropped_and_may_come_back_as_the_same(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    paid = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    await stage.sim.drop(paid)
    await stage.wait_for_state(invoice, "created")
    assert (await stage.path(invoice))[-1] == ("created", "dropped")
    stage.chain.resend(paid)
    await stage.wait_for_state(invoice, "detected")
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"
    assert await stage.database.value("select count(*) from railwatch.detections") == 1


async def test_a_double_spend_after_paid_is_a_reversal(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    fork = stage.chain.line[-3]
    [paid] = [tx for tx in stage.chain.txs.values() if tx.outputs[0].amount == 100]
    rival = stage.chain.txs[stage.chain.replace(paid.id).id] if paid.id in stage.chain.waiting else None
    if rival is None:
        stage.chain.waiting[paid.id] = paid
        rival = stage.chain.replace(paid.id)
        stage.chain.waiting.pop(rival.id, None)
    block = stage.chain.grow(fork, [rival])
    for _ in range(3):
        block = stage.chain.grow(block)
    stage.chain.adopt(block.hash)
    await stage.follows()
    assert (await stage.path(invoice))[-1] == ("created", "reversed")
    assert (await stage.path(invoice, "detection"))[-2:] == [("orphaned", "orphaned"), ("replaced", "replaced")]
    assert await stage.open_cases(invoice) == {"reversed", "double_spend"}


async def test_an_empty_window_expires_and_a_late_payment_is_still_found(database: Database) -> None:
    chain = chain_named(clock=lambda: datetime.now(UTC))
    async with DaemonHarness(database, [chain]) as stage:
        invoice = await stage.invoice(100, expires_in=1)
        await stage.wait_for_state(invoice, "expired")
        await stage.pay(invoice, 100)
        await stage.mine(2)
        assert await stage.state(invoice) == "late_paid"
        assert await stage.open_cases(invoice) == {"late", "unexpected_payment"}
        row = await stage.database.row("select late_amount, seen_amount from railwatch.destinations")
        assert row
        assert tuple(row) == (100, 0)
        await stage.audit()


async def test_the_wrong_asset_moves_nothing_but_is_not_lost(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100, stage.sim.assets[1])
    await stage.mine(2)
    assert await stage.state(invoice) == "created"
    assert await stage.open_cases(invoice) == {"wrong_asset"}


async def test_the_right_address_on_the_wrong_network_is_reported(database: Database) -> None:
    async with DaemonHarness(database, [chain_named("one"), chain_named("two")]) as stage:
        invoice = await stage.invoice(100)
        other = stage.simulator(stage.chains[1])
        await other.pay(invoice.address, 100)
        await other.mine()
        await stage.follows()
        assert await stage.state(invoice) == "created"
        assert await stage.open_cases(invoice) == {"wrong_network"}


async def test_money_for_a_cancelled_invoice_is_unexpected(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    assert await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id) == "cancelled"
    await stage.pay(invoice, 100)
    await stage.mine(2)
    assert await stage.state(invoice) == "cancelled"
    assert await stage.open_cases(invoice) == {"unexpected_payment"}
    assert await stage.database.value("select kind from railwatch.detections") == "unexpected"


@pytest.mark.parametrize("confirmed", [False, True])
async def test_a_payment_that_came_before_its_registration_is_found_once(stage: DaemonHarness, confirmed: bool) -> None:
    address = await stage.sim.new_address()
    await stage.sim.pay(address, 100)
    if confirmed:
        await stage.mine(20)
    way = {"rail": "story", "asset": "COIN", "amount": 100, "address": address}
    invoice = await stage.invoice(to=[way])
    await stage.wait_for_state(invoice, "paid" if confirmed else "detected")
    if not confirmed:
        await stage.mine(2)
    assert await stage.state(invoice) == "paid"
    assert await stage.database.value("select count(*) from railwatch.detections") == 1


async def test_one_transaction_can_pay_many_invoices_and_one_invoice_many_times(stage: DaemonHarness) -> None:
    invoices = [await stage.invoice(100) for _ in range(3)]
    outputs = [stage.sim.output(each.address, 100) for each in invoices]
    stage.chain.send(*outputs, stage.sim.output(invoices[0].address, 1))
    await stage.mine(2)
    assert [await stage.state(each) for each in invoices] == ["overpaid", "paid", "paid"]
    assert await stage.database.value("select count(*) from railwatch.detections") == 4


async def test_a_bad_address_is_refused_at_once_with_the_reason(stage: DaemonHarness) -> None:
    way = {"rail": "story", "asset": "COIN", "amount": 100, "address": "fake:nonsense"}
    invoice = await stage.invoice(to=[way])
    row = await stage.database.row("select watch_state, watch_error from railwatch.destinations")
    assert row
    assert row["watch_state"] == "rejected"
    assert row["watch_error"]
    assert await stage.state(invoice) == "created"


async def test_tokens_that_are_not_configured_are_reported_and_bounded(database: Database) -> None:
    chain = chain_named(rules=Rules(tokens=("gold", *(f"spam{number}" for number in range(15)))))
    async with DaemonHarness(database, [chain], tokens=("gold",)) as stage:
        invoice = await stage.invoice(100)
        for asset in stage.sim.assets[2:]:
            await stage.pay(invoice, 5, asset)
        await stage.mine(2)
        assert await stage.state(invoice) == "created"
        assert await stage.open_cases(invoice) == {"unsupported_asset"}
        assert await stage.database.value("select count(*) from railwatch.detections") == 10
        await stage.pay(invoice, 100)
        await stage.mine(2)
        assert await stage.state(invoice) == "paid"
        await stage.audit()


async def test_cancelling_what_was_reversed_does_not_silence_the_alarm(stage: DaemonHarness) -> None:
    """Goods may have left: that the merchant withdraws the invoice makes nothing good."""
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await stage.pay(invoice, 5)
    await stage.mine(2)
    assert await stage.state(invoice) == "cancelled"
    assert await stage.open_cases(invoice) == {"reversed", "unexpected_payment"}


async def test_a_hold_makes_nothing_good(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    await stage.database.value("update railwatch.invoices set held = 'review' where id = $1", invoice.id)
    await stage.pay(invoice, 1)
    await stage.mine(2)
    assert await stage.state(invoice) == "flagged"
    assert await stage.open_cases(invoice) == {"underpaid"}

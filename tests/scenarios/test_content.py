"""Content follows the chain, and settled means that the merchant has the money: the daemon on chains that change it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from railwatch.store.aggregates import load_aggregates
from railwatch.store.database import Database
from railwatch_fake import FakeChain, Rules, node_of
from railwatch_fake.chain import Output, Tx
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


def branch_off(chain: FakeChain, depth: int, changed: Mapping[str, Tx]) -> None:
    """Replace the newest blocks by others that hold the same transactions, ``changed`` ones with other content."""
    block = chain.line[-depth - 1]
    for old in chain.line[-depth:]:
        block = chain.grow(block, [changed.get(tx.id, tx) for tx in old.txs])
    chain.adopt(chain.grow(block).hash)


async def detections(stage: DaemonHarness, invoice: Placed) -> list[tuple[str, int]]:
    """(state, amount) of what the invoice received, in the order of its names."""
    rows = await stage.database.rows(
        "select state, amount from railwatch.detections where invoice_id = $1 order by tx_id, tx_index", invoice.id
    )
    return [(row["state"], int(row["amount"])) for row in rows]


async def sums(stage: DaemonHarness, invoice: Placed) -> tuple[int, int, int]:
    """Seen, confirmed and late at the invoice's first destination."""
    row = await stage.database.row(
        "select seen_amount, confirmed_amount, late_amount from railwatch.destinations where invoice_id = $1",
        invoice.id,
    )
    assert row is not None
    return int(row["seen_amount"]), int(row["confirmed_amount"]), int(row["late_amount"])


def pays(stage: DaemonHarness, tx: Tx, *outputs: Output) -> dict[str, Tx]:
    """The transaction with other content."""
    return {tx.id: replace(tx, outputs=outputs)}


async def test_content_follows_the_chain_a_payment_that_pays_less_after_a_reorg_is_emitted_and_pays_less(
    stage: DaemonHarness,
) -> None:
    invoice = await stage.invoice(100)
    tx = stage.chain.send(stage.sim.output(invoice.address, 100))
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    branch_off(stage.chain, 2, pays(stage, tx, stage.sim.output(invoice.address, 60)))
    await stage.mine(2)
    await stage.wait_for_state(invoice, "underpaid")
    assert await detections(stage, invoice) == [("confirmed", 60)]
    assert await sums(stage, invoice) == (60, 60, 0)
    assert await stage.open_cases(invoice) == {"underpaid", "reversed"}
    line = await stage.database.row(
        "select evidence from railwatch.transitions where invoice_id = $1 and subject = 'detection' "
        "and to_state = 'included' order by seq desc limit 1",
        invoice.id,
    )
    assert line is not None
    assert (line["evidence"]["amount"], line["evidence"]["amount_was"]) == ("60", "100")
    branch_off(stage.chain, 5, pays(stage, tx, stage.sim.output(invoice.address, 100)))
    await stage.mine(1)
    await stage.wait_for_state(invoice, "paid")
    assert await stage.open_cases(invoice) == set()


async def test_content_follows_the_chain_a_payment_with_another_recipient_after_a_reorg_ends_here_and_begins_there(
    stage: DaemonHarness,
) -> None:
    mine, other = await stage.invoice(100), await stage.invoice(100)
    tx = stage.chain.send(stage.sim.output(mine.address, 100))
    await stage.mine(2)
    await stage.wait_for_state(mine, "paid")
    branch_off(stage.chain, 2, pays(stage, tx, stage.sim.output(other.address, 100)))
    await stage.wait_for_state(other, "paid")
    assert await stage.state(mine) == "created"
    assert await detections(stage, mine) == [("replaced", 100)]
    assert await stage.open_cases(mine) == {"reversed", "double_spend"}
    branch_off(stage.chain, 3, {tx.id: tx})
    await stage.wait_for_state(mine, "paid")
    assert await stage.state(other) == "created"
    assert await stage.open_cases(mine) == set()
    branch_off(stage.chain, 4, pays(stage, tx, stage.sim.output(other.address, 100)))
    await stage.wait_for_state(other, "paid")
    assert await detections(stage, other) == [("confirmed", 100)]


async def test_content_follows_the_chain_another_asset_after_a_reorg_is_no_payment(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(rules=Rules(tokens=("gold",)))]) as stage:
        invoice = await stage.invoice(100)
        tx = stage.chain.send(stage.sim.output(invoice.address, 100))
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        gold = replace(stage.sim.output(invoice.address, 100), token="gold")
        branch_off(stage.chain, 2, pays(stage, tx, gold))
        await stage.wait_for_state(invoice, "created")
        assert await stage.open_cases(invoice) == {"reversed", "wrong_asset"}
        await stage.audit()


@pytest.mark.parametrize(("waiting", "in_block"), [(1, 5), (5, 1), (5, 3)])
async def test_content_follows_the_chain_the_maturity_that_a_block_gives_counts(
    stage: DaemonHarness, waiting: int, in_block: int
) -> None:
    """Whichever way it differs from what was emitted before: it is neither paid too early nor waited for too long."""
    invoice = await stage.invoice(100)
    tx = stage.chain.send(stage.sim.output(invoice.address, 100))
    stage.chain.waiting[tx.id] = replace(tx, maturity=waiting)
    await stage.wait_for_state(invoice, "detected")
    stage.chain.waiting[tx.id] = replace(tx, maturity=in_block)
    due = max(in_block, stage.confirmations)
    await stage.mine(due - 1)
    assert await stage.state(invoice) == "confirming"
    await stage.mine()
    await stage.wait_for_state(invoice, "paid")


# Settled means that the merchant has it (HAZARDS I14)


async def refund(stage: DaemonHarness, invoice: Placed, amount: int, tx: str = "back") -> None:
    await stage.database.value(
        "select railwatch.record_refund($1, $2::numeric, $3, actor => 'ann')", invoice.id, amount, tx
    )


async def test_settled_means_the_merchant_has_it_a_refunded_surplus_does_not_pay_after_a_reorg(
    stage: DaemonHarness,
) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    second = await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "overpaid")
    await refund(stage, invoice, 100)
    assert await stage.state(invoice) == "overpaid"
    await stage.sim.reorg(2, keep=False)
    await stage.wait_for_state(invoice, "underpaid")
    assert (await stage.path(invoice))[-1] == ("underpaid", "reversed")
    assert await stage.open_cases(invoice) >= {"reversed", "underpaid"}
    stage.chain.resend(second)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "overpaid")
    assert "reversed" not in await stage.open_cases(invoice)


async def test_settled_means_the_merchant_has_it_what_came_twice_in_another_asset_is_given_back(
    stage: DaemonHarness,
) -> None:
    address = await stage.sim.new_address()
    ways = [{"rail": "story", "asset": each, "amount": 100, "address": address} for each in ("COIN", "GOLD")]
    invoice = await stage.invoice(to=ways)
    await stage.pay(invoice, 100, stage.sim.assets[1])
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.database.value(
        "select railwatch.record_refund($1, 100, 'back', 'ann', 'came twice', rail => 'story', asset => 'GOLD')",
        invoice.id,
    )
    assert await stage.state(invoice) == "paid"
    await stage.sim.reorg(2, keep=False)
    await stage.wait_for_state(invoice, "underpaid")
    assert (await stage.path(invoice))[-1] == ("underpaid", "reversed")
    assert "reversed" in await stage.open_cases(invoice)


async def test_settled_means_the_merchant_has_it_what_was_given_back_before_is_asked_for_again(
    stage: DaemonHarness,
) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "underpaid")
    await refund(stage, invoice, 50)
    await stage.pay(invoice, 40)
    await stage.mine(2)
    assert await sums(stage, invoice) == (100, 100, 0)
    assert await stage.state(invoice) == "underpaid"
    assert await stage.open_cases(invoice) == {"underpaid"}
    await stage.pay(invoice, 50)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    assert "overpaid" not in await stage.open_cases(invoice)


async def test_a_settled_order_of_which_a_part_is_given_back_by_choice_stays_paid(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await refund(stage, invoice, 30)
    await stage.mine(1)
    assert await stage.state(invoice) == "paid"
    await stage.sim.reorg(3, keep=True)
    await stage.mine(1)
    await stage.wait_for_state(invoice, "paid")


# Money belongs to its invoice's time (HAZARDS I13)


async def test_money_older_than_the_invoice_is_unexpected_also_by_a_rescan(database: Database) -> None:
    hour = [datetime.now(UTC) - timedelta(hours=1)]
    chain = chain_named(clock=lambda: hour[0])
    async with DaemonHarness(database, [chain]) as stage:
        address = await stage.sim.new_address()
        await stage.sim.pay(address, 100)
        await stage.mine(4)
        hour[0] = datetime.now(UTC)
        invoice = await stage.order(address, 100)
        await stage.all_taken_in()
        await stage.database.value("select railwatch.request_rescan($1, 0)", chain.name)
        await stage.rescanned()
        assert await stage.state(invoice) == "created"
        kinds = await stage.database.rows("select kind from railwatch.detections where invoice_id = $1", invoice.id)
        assert {row["kind"] for row in kinds} == {"unexpected"}
        assert await stage.open_cases(invoice) == {"unexpected_payment"}
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")


@pytest.mark.parametrize("mempool", [True, False])
async def test_a_payment_belongs_to_its_invoices_time_by_the_block_that_holds_it_now(
    database: Database, mempool: bool
) -> None:
    now = [datetime.now(UTC)]
    chain = chain_named(rules=Rules(mempool=mempool), clock=lambda: now[0])
    async with DaemonHarness(database, [chain]) as stage:
        address = await stage.sim.new_address()
        now[0] = datetime.now(UTC) - timedelta(hours=1)
        tx = stage.chain.send(stage.sim.output(address, 100))
        await stage.mine(1)
        invoice = await stage.order(address, 100)
        await stage.all_taken_in()
        assert (await stage.state(invoice), await stage.open_cases(invoice)) == ("created", {"unexpected_payment"})
        now[0] = datetime.now(UTC)
        branch_off(chain, 1, {tx.id: tx})
        await stage.mine(1)
        await stage.wait_for_state(invoice, "paid")
        assert await stage.open_cases(invoice) == set()
        now[0] = datetime.now(UTC) - timedelta(hours=1)
        branch_off(chain, 3, {tx.id: tx})
        await stage.wait_for_state(invoice, "created")
        assert await stage.open_cases(invoice) == {"unexpected_payment", "reversed"}
        await stage.audit()


async def test_a_late_payment_that_a_reorg_moves_into_time_is_in_time(database: Database) -> None:
    now = [datetime.now(UTC)]
    chain = chain_named(rules=Rules(mempool=False), clock=lambda: now[0])
    async with DaemonHarness(database, [chain]) as stage:
        ends = datetime.now(UTC) + timedelta(seconds=2)
        invoice = await stage.invoice(100, expires_at=ends.isoformat())
        await stage.wait_for_state(invoice, "expired")
        now[0] = datetime.now(UTC)
        tx = stage.chain.send(stage.sim.output(invoice.address, 100))
        await stage.mine(2)
        await stage.wait_for_state(invoice, "late_paid")
        now[0] = ends - timedelta(seconds=1)
        branch_off(chain, 2, {tx.id: tx})
        await stage.wait_for_state(invoice, "paid")
        assert await stage.open_cases(invoice) == set()
        now[0] = datetime.now(UTC)
        branch_off(chain, 3, {tx.id: tx})
        await stage.wait_for_state(invoice, "paid")
        await stage.audit()


async def test_money_that_came_to_an_address_before_its_second_invoice_pays_the_first_at_most(
    database: Database,
) -> None:
    async with DaemonHarness(database, [chain_named()]) as stage:
        first = await stage.invoice(100)
        await stage.database.value("select railwatch.cancel_invoice($1)", first.id)
        await stage.pay(first)
        await stage.mine(3)
        second = await stage.order(first.address, 100)
        await stage.all_taken_in()
        await stage.mine(2)
        assert await stage.state(second) == "created"
        assert await detections(stage, second) == []


# Cost has bounds that do not depend on strangers (HAZARDS I16)


async def test_dust_below_the_least_amount_is_counted_and_moves_nothing(database: Database) -> None:
    asset: list[dict[str, Any]] = [{"symbol": "COIN", "min_amount": 10}]
    async with DaemonHarness(database, [chain_named()], options={"asset": asset}) as stage:
        invoice = await stage.invoice(100)
        stage.chain.send(*(stage.sim.output(invoice.address, 9) for _ in range(50)))
        await stage.mine(2)
        assert await stage.state(invoice) == "created"
        assert await detections(stage, invoice) == []
        await stage.database.value("select railwatch.request_rescan($1, 0)", stage.chain.name)
        await stage.rescanned()
        row = await stage.database.row(
            "select small_count, small_amount from railwatch.destinations where invoice_id = $1", invoice.id
        )
        assert row is not None
        assert (row["small_count"], int(row["small_amount"])) == (50, 450)
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")


@pytest.mark.parametrize("basis", ["first_seen", "block_time", "confirmed"])
async def test_cost_does_not_depend_on_strangers_a_step_loads_none_of_the_dust_that_is_settled(
    stage: DaemonHarness, basis: str
) -> None:
    """Nor does a payment's end depend on it: what may still turn out late is loaded, and nothing else."""
    invoice = await stage.invoice(100, time_basis=basis)
    stage.chain.send(*(stage.sim.output(invoice.address, 1) for _ in range(20)))
    await stage.mine(2)
    await stage.pay(invoice, 80)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    async with stage.database.transaction() as connection:
        [aggregate] = await load_aggregates(connection, [invoice.id], [])
        assert len(aggregate.detections) == 0
        assert sum(each.count for each in aggregate.other_tallies.values()) == 21


async def test_sums_beyond_what_a_column_holds_do_not_halt_the_rail(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    stage.chain.send(*(stage.sim.output(invoice.address, 2**256 - 1) for _ in range(12)))
    await stage.mine(2)
    await stage.wait_for_state(invoice, "overpaid")
    assert await sums(stage, invoice) == (10**78 - 1, 10**78 - 1, 0)
    await stage.sim.reorg(2, keep=False)
    await stage.wait_for_state(invoice, "created")


async def test_a_payment_that_is_named_otherwise_by_now_is_counted_once(stage: DaemonHarness) -> None:
    """HAZARDS E28: an older version, or another client, numbered the credits of a transaction in another way."""
    invoice = await stage.invoice(100)
    tx_id = await stage.pay(invoice, 60)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "underpaid")
    tx = stage.chain.txs[tx_id]
    stranger = stage.sim.output(await stage.sim.new_address(), 60)
    for outputs in ((stranger, *tx.outputs), (stranger, stranger, *tx.outputs), tx.outputs):
        node_of(stage.chain.name).retold[tx_id] = replace(tx, outputs=outputs)
        await stage.database.value("select railwatch.request_rescan($1, 0)", stage.chain.name)
        await stage.rescanned()
        assert await sums(stage, invoice) == (60, 60, 0)
        assert len(await detections(stage, invoice)) == 1
    stage.chain.reorg(2)
    await stage.follows()
    await stage.mine(2)
    assert await sums(stage, invoice) == (60, 60, 0)
    assert len(await detections(stage, invoice)) == 1

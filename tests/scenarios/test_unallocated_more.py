"""Harder stories of transfers without a reference: gone blocks, renames, quarantine and other networks."""

from railwatch.store.database import Database
from railwatch.store.unallocated import undetected
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.test_quarantine import heal, poison, quarantined
from tests.scenarios.test_unallocated import ASSIGN, exceptions, invoice_at, transfer_id, transfer_is, transfers


async def test_back_in_the_mempool_it_is_in_no_block(stage: DaemonHarness) -> None:
    """A gone block is remembered, and says nothing about where the transfer is now."""
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    paid = await stage.sim.pay(shop, 10)
    await stage.mine(1)
    await stage.sim.reorg(1, keep=False)
    await stage.follows()
    await transfer_is(stage, "orphaned")
    stage.chain.resend(paid)
    await transfer_is(stage, "pending")
    assert await exceptions(stage) == [("unallocated_transfer", "made good")]
    await stage.database.value(ASSIGN, await transfer_id(stage), order.id)
    await stage.wait_for_state(order, "detected")
    await stage.mine(2)
    await stage.wait_for_state(order, "paid")
    assert await transfers(stage) == [("included", "ann")]


async def test_on_another_network_of_the_family_it_is_a_row_without_an_exception(database: Database) -> None:
    """No order asks for money there, and none may be lost: with the reference it is a wrong network (HAZARDS E17)."""
    chains = [chain_named("left"), chain_named("right")]
    async with DaemonHarness(database, chains) as stage:
        shop = await stage.sim.new_address()
        order = await invoice_at(stage, shop, "R1")
        await stage.simulator(chains[1]).pay(shop, 10)
        await stage.simulator(chains[1]).mine(2)
        await stage.follows()
        assert await transfers(stage) == [("included", None)]
        assert await exceptions(stage) == []
        await stage.database.value(ASSIGN, await transfer_id(stage), order.id)

        async def is_detected() -> bool:
            return await database.value("select kind from railwatch.detections") == "wrong_network"

        await stage.until(is_detected)
        await stage.audit()


async def test_assigned_to_an_order_in_quarantine_it_pays_once_that_is_mended(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order, other = await invoice_at(stage, shop, "R1"), await invoice_at(stage, shop, "R2")
    await stage.sim.pay(shop, 10)
    await stage.mine(2)
    policy = await poison(stage.database, order)
    await stage.database.value(ASSIGN, await transfer_id(stage), order.id)
    await quarantined(stage, order)
    # It waits there, and is not in the page of those that can be made.
    assert await undetected(stage.database, stage.chain.name) == []
    await stage.mine(2)
    await heal(stage, order, policy)
    await stage.wait_for_state(order, "paid")
    assert await stage.state(other) == "created"
    assert await stage.database.value("select count(*) from railwatch.detections") == 1


async def test_assigned_to_a_cancelled_order_it_is_shown_and_not_counted(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    await stage.sim.pay(shop, 10)
    await stage.mine(2)
    await stage.database.value("select railwatch.cancel_invoice($1, 'ann', 'gone')", order.id)
    await stage.database.value(ASSIGN, await transfer_id(stage), order.id)

    async def is_shown() -> bool:
        return bool(await stage.open_cases(order))

    await stage.until(is_shown)
    assert await stage.state(order) in ("cancelled", "flagged")

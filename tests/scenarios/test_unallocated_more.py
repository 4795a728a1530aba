"""Harder stories of transfers without a reference: gone blocks, renames, quarantine and other networks."""

from tests.scenarios.daemon_harness import DaemonHarness
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

"""What halts a rail by name: a block that cannot be read, and a reorg too deep. No other rail is halted by it."""

import asyncio

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.plain_orders import raw_invoice, register, written


async def other_goes_on(stage: DaemonHarness) -> None:
    """The second rail still takes registrations, finds payments and confirms them."""
    address = await stage.simulator(stage.chains[1]).new_address()
    order = raw_invoice(stage, "elsewhere", address)
    order["destinations"][0]["rail"] = stage.chains[1].name
    placed = await register(stage, order)
    stage.chains[1].send(stage.sim.output(placed.address, 100))
    stage.chains[1].mine(2)
    await stage.wait_for_state(placed, "paid")


async def test_a_block_that_cannot_be_read_halts_its_rail_by_name_and_no_other(database: Database) -> None:
    async with DaemonHarness(database, [chain_named("story"), chain_named("other")]) as stage:
        invoice = await stage.invoice(100)
        node_of("story").undecodable = True
        stage.chain.send(stage.sim.output(invoice.address, 100))
        stage.chain.mine()
        bad = stage.chain.tip.hash
        reason = await stage.rail_is("halted")
        assert bad in reason or "the mempool" in reason
        before = await written(stage)
        stage.chain.mine(3)
        await other_goes_on(stage)
        assert await written(stage) == before


async def test_a_rail_that_is_resumed_while_it_is_still_being_halted_goes_on(database: Database) -> None:
    """The row says `halted` before the lease is given back: a person, or a script, may be quicker than that."""
    async with DaemonHarness(database, [chain_named()]) as stage:
        invoice = await stage.invoice(100)
        async with database.transaction() as holding:
            await holding.execute("select from railwatch.leases for update")
            node_of("story").undecodable = True
            await stage.pay(invoice)
            await stage.sim.mine()
            await stage.rail_is("halted")
            node_of("story").undecodable = False
            assert await database.value("select railwatch.resume_rail('story', 'ann')") == "starting"
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")


@pytest.mark.parametrize(
    ("rules", "blocks", "depth"),
    [(Rules(finality=8, safe=4), 20, 12), (Rules(horizon=10), 40, 35)],
    ids=["beyond finality", "beyond the horizon"],
)
async def test_a_reorg_too_deep_halts_its_rail_by_name_and_touches_nothing(
    database: Database, rules: Rules, blocks: int, depth: int
) -> None:
    async with DaemonHarness(database, [chain_named("story", rules), chain_named("other", rules)]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(blocks)
        assert await stage.state(invoice) == "paid"
        before = await written(stage)
        stage.chain.reorg(depth, keep=False)
        assert "DeepReorg" in await stage.rail_is("halted")
        # How far the rail was watched may have grown until the reorg came.
        assert [*(await written(stage))[:2], *(await written(stage))[3:]] == [*before[:2], *before[3:]]
        await other_goes_on(stage)
        assert await stage.state(invoice) == "paid"
        # A restart does not talk it round.
        await stage.stop()
        await stage.start(wait=False)
        assert "DeepReorg" in await stage.rail_is("halted")
        assert await stage.state(invoice) == "paid"


@pytest.mark.parametrize("delay", [0.5, 0.6, 0.7])
async def test_a_reorg_while_the_open_window_is_caught_up_is_no_deep_one(database: Database, delay: float) -> None:
    """The span after the next is planned ahead: it must know as much of what stands as the next one does."""
    chain = chain_named(rules=Rules(finality=400, mempool=False))
    chain.mine(150)
    stage = DaemonHarness(database, [chain])
    node_of("story").latency = 0.004
    await stage.start(wait=False)
    await asyncio.sleep(delay)
    chain.reorg(140)
    try:
        await stage.follows()
    finally:
        await stage.stop()

"""Registrations that race with blocks, reorgs and payments, and rescans of what came before them."""

import asyncio

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.plain_orders import detections, dice, raw_invoice, register


@pytest.mark.parametrize("mempool", [True, False])
async def test_a_payment_in_the_very_block_in_which_the_registration_joins_is_found_once(
    database: Database, mempool: bool
) -> None:
    chain = chain_named(rules=Rules(mempool=mempool, finality=None if mempool else 6))
    async with DaemonHarness(database, [chain]) as stage:
        roll, placed = dice(chain), []
        for turn in range(40):
            node_of("story").latency = roll() * 0.004
            address = await stage.sim.new_address()

            async def pay(address: str = address) -> None:
                await asyncio.sleep(roll() * 0.02)
                await stage.sim.pay(address, 100)
                await asyncio.sleep(roll() * 0.01)
                await stage.sim.mine()

            invoice, _ = await asyncio.gather(register(stage, raw_invoice(stage, str(turn), address)), pay())
            placed.append(invoice)
        node_of("story").latency = 0
        await stage.mine(2)
        for invoice in placed:
            await stage.wait_for_state(invoice, "paid")
        assert await detections(stage) == len(placed)
        await stage.audit()


async def test_a_registration_during_a_reorg_finds_what_the_new_branch_holds(database: Database) -> None:
    chain = chain_named(rules=Rules(mempool=False))
    async with DaemonHarness(database, [chain]) as stage:
        await stage.mine(5)
        roll, kept, lost = dice(chain), [], []
        for turn in range(25):
            node_of("story").latency = roll() * 0.004
            address, keep = await stage.sim.new_address(), roll() < 0.5
            await stage.sim.pay(address, 100)
            await stage.sim.mine(1 + int(roll() * 3))
            depth = 3

            async def fork(keep: bool = keep, depth: int = depth) -> None:
                await asyncio.sleep(roll() * 0.02)
                await stage.sim.reorg(depth, keep=keep)

            invoice, _ = await asyncio.gather(register(stage, raw_invoice(stage, str(turn), address)), fork())
            (kept if keep else lost).append(invoice)
        node_of("story").latency = 0
        await stage.mine(2)
        on_chain = {out.to for block in chain.line for tx in block.txs for out in tx.outputs}

        async def all_watched() -> bool:
            left = "select count(*) from railwatch.destinations where watch_state = 'registered'"
            return await stage.database.value(left) == 0

        await stage.until(all_watched)
        await stage.follows()
        for invoice in (*kept, *lost):
            there = stage.sim.output(invoice.address, 1).to in on_chain
            assert await stage.state(invoice) == ("paid" if there else "created")
        await stage.audit()


async def test_a_rescan_finds_an_older_payment_once(database: Database) -> None:
    chain = chain_named(rules=Rules(lookback=1))
    async with DaemonHarness(database, [chain]) as stage:
        address = await stage.sim.new_address()
        await stage.sim.pay(address, 100)
        await stage.mine(8)
        invoice = await register(stage, raw_invoice(stage, "old", address))

        async def is_watched() -> bool:
            return await stage.watch_states(invoice) == ["watching"]

        await stage.until(is_watched)
        assert await stage.state(invoice) == "created"
        for _ in range(2):
            await stage.database.value("select railwatch.request_rescan('story', 0)")
            await stage.rescanned()
            assert await stage.state(invoice) == "paid"
            assert await detections(stage) == 1
        rows = await stage.database.rows("select found, error from railwatch.rescans order by number")
        assert [(row["found"], row["error"]) for row in rows] == [(1, None), (0, None)]
        await stage.audit()


async def test_a_rescan_while_the_chain_moves_ends_and_finds_everything_once(database: Database) -> None:
    chain = chain_named(rules=Rules(lookback=1, span_max=3, mempool=False))
    async with DaemonHarness(database, [chain]) as stage:
        addresses = [await stage.sim.new_address() for _ in range(5)]
        for address in addresses:
            await stage.sim.pay(address, 100)
            await stage.mine(3)
        await stage.mine(4)
        placed = [await register(stage, raw_invoice(stage, address, address)) for address in addresses]
        node_of("story").latency = 0.002
        await stage.database.value("select railwatch.request_rescan('story', 1)")
        for _ in range(6):
            stage.chain.reorg(2)
            await asyncio.sleep(0.02)
        await stage.rescanned()
        await stage.mine(2)
        assert [await stage.state(each) for each in placed] == ["paid"] * 5
        assert await detections(stage) == 5
        await stage.audit()

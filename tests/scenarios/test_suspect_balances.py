"""Balances that are not believed: of a node that is unavailable or alone, and of blocks that a reorg replaced."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from railwatch.daemon import balance_reconciler
from railwatch.daemon.exception_monitor import ExceptionMonitor
from railwatch.rail import BlockRef
from railwatch.store.balances import AccountReading, BalanceStore, SecondReading
from railwatch.store.clock import ClockStore
from railwatch.store.database import Database
from railwatch.store.steps import Lease
from tests.scenarios.balance_harness import (
    KIND,
    RULES,
    balance_stage,
    balances,
    evidence,
    hidden,
    node,
    read_at_the_tip,
    sweep,
    wait_for_open,
)
from tests.scenarios.daemon_harness import DaemonHarness
from tests.scenarios.exception_checks import cases
from tests.scenarios.test_nodes import several


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail with balances, which are read all the time."""
    async with balance_stage(database) as stage:
        yield stage


async def test_a_reorg_does_not_make_good_what_was_told_and_swept_long_before(stage: DaemonHarness) -> None:
    """The newest look's block is gone, and what was counted up to finality still holds."""
    invoice = await stage.invoice(100)
    await hidden(stage, invoice, 40)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND)
    await sweep(stage, invoice, 40)
    for blocks in (1, 10, 10):
        await stage.mine(blocks)
        await read_at_the_tip(stage)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 0, 0, 40, 40)]
    assert await cases(stage, invoice) == [(KIND, 1, None)]


async def test_a_node_that_is_away_proves_nothing(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await read_at_the_tip(stage)
    read = "select block_hash, balance, baseline, spent, unattributed from railwatch.balances"
    before = await stage.database.rows(read)
    await hidden(stage, invoice, 100)
    node(stage).down = True
    stage.chain.mine()
    await stage.rail_is("stalled")
    assert await stage.database.rows(read) == before
    assert await cases(stage, invoice) == []
    node(stage).down = False
    await wait_for_open(stage, invoice, KIND)


async def test_a_reorg_that_takes_the_unseen_money_back_was_told_to_nobody(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.mine(3)
    await hidden(stage, invoice, 100)
    await stage.mine()
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 100, 0, 0, 100)]
    await stage.sim.reorg(1, keep=False)
    await stage.follows()
    await stage.mine(9)
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 0, 0, 0, 0)]
    assert await cases(stage, invoice) == []


async def test_what_one_node_alone_tells_is_believed_only_if_another_tells_it_too(database: Database) -> None:
    async with several(database, ["main", "second"], RULES, reconcile_every=1) as (stage, nodes):
        invoice = await stage.invoice(100)
        await stage.pay(invoice, 100)
        await stage.mine()
        await read_at_the_tip(stage)
        # The node that answers takes the balance from the state of a block that is only being made.
        nodes[0].misstates = 5
        await stage.mine()

        async def is_suspect() -> bool:
            return (await balances(stage))[0][-1] == 5

        await stage.until(is_suspect, lambda: balances(stage))
        await stage.mine(9)
        await stage.mine(9)
        assert await cases(stage, invoice) == []
        nodes[0].misstates = 0
        nodes[0].traces = nodes[1].traces = False
        stage.chain.send(stage.sim.output(invoice.address, 7), inner=True)
        await stage.mine()

        async def is_told() -> bool:
            if found := await stage.open_cases(invoice) == {KIND}:
                return found
            await stage.sim.mine()
            await asyncio.sleep(0.2)
            return False

        await stage.until(is_told, lambda: balances(stage))
        told = await evidence(stage)
        assert (told["unattributed"], told["second_look"], told["node"] != told["second_node"]) == (
            "7",
            "verified",
            True,
        )


async def test_a_balance_that_no_node_can_tell_again_is_told_unverified(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance_reconciler, "CHECK_INTERVAL", 0.05)
    invoice = await stage.invoice(100)
    await hidden(stage, invoice, 5)
    await stage.mine()
    await read_at_the_tip(stage)
    node(stage).keeps = 1
    await wait_for_open(stage, invoice, KIND)
    assert (await evidence(stage))["second_look"] == "unverified"


async def test_a_reorg_that_takes_a_sweep_back_opens_nothing(stage: DaemonHarness) -> None:
    """The balance grows without a payment, and the look that it is compared with was at a block that is gone."""
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(3)
    await sweep(stage, invoice, 100)
    await stage.mine()
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 0, 100, 100, 0)]
    await stage.sim.reorg(1, keep=False)
    await stage.follows()
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 100, 100, 0, 0)]
    assert await cases(stage, invoice) == []


async def test_what_was_read_before_a_reorg_or_under_another_lease_is_not_put_down(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await read_at_the_tip(stage)
    await stage.stop()
    rail = await stage.rail()
    lease, rewinds = Lease("story", rail["epoch"]), rail["rewinds"]
    block = BlockRef(rail["cursor_height"], rail["cursor_hash"], rail["cursor_parent"], rail["cursor_time"])
    key = await stage.database.value("select address_key from railwatch.destinations")

    async def record(lease: Lease, block: BlockRef, rewinds: int) -> int | None:
        store = BalanceStore(stage.database, lease, "fake", {stage.sim.native: 0})
        (account,) = await store.accounts([key], None)
        assert account.history is not None
        reading = AccountReading(account, account.history.baseline, account.history.last, None, 5, "node")
        return await store.record(block, rewinds, [reading])

    assert await record(lease, block, rewinds + 1) is None
    assert await record(replace(lease, epoch=lease.epoch + 1), block, rewinds) is None
    assert await record(lease, replace(block, height=block.height + 1), rewinds) is None
    assert await cases(stage, invoice) == []
    assert await record(lease, block, rewinds) == 1
    store = BalanceStore(stage.database, lease, "fake", {stage.sim.native: 0})
    assert await store.suspects(block.height - 1, 10) == []
    (suspect,) = await store.suspects(block.height, 10)
    other = BalanceStore(stage.database, replace(lease, epoch=lease.epoch + 1), "fake", {stage.sim.native: 0})
    assert await other.record_second_looks([SecondReading(suspect, "verified", "node")]) == 0
    elsewhere = replace(suspect, at=replace(suspect.at, hash="elsewhere"))
    assert await store.record_second_looks([SecondReading(elsewhere, "verified", "node")]) == 0
    assert await store.record_second_looks([SecondReading(suspect, "verified", "node")]) == 1
    await ExceptionMonitor(ClockStore(stage.database)).check()
    assert await cases(stage, invoice) == [(KIND, 1, None)]

"""What an address held before, and from which reading its balance is counted."""

from collections.abc import AsyncIterator

import pytest

from railwatch.store.database import Database
from tests.scenarios.balance_harness import (
    KIND,
    balance_stage,
    balances,
    evidence,
    hidden,
    node,
    read_at_the_tip,
    wait_for_open,
)
from tests.scenarios.daemon_harness import DaemonHarness
from tests.scenarios.exception_checks import cases


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail with balances, which are read all the time."""
    async with balance_stage(database) as stage:
        yield stage


async def test_what_an_address_held_before_is_its_baseline(stage: DaemonHarness) -> None:
    used = await stage.sim.new_address()
    node(stage).traces = False
    stage.chain.send(stage.sim.output(used, 55), inner=True)
    await stage.mine(400)
    invoice = await stage.invoice(100, to=[{"rail": "story", "asset": "COIN", "amount": 100, "address": used}])
    await read_at_the_tip(stage)
    assert await balances(stage) == [(55, 55, 0, 0, 0)]
    await hidden(stage, invoice, 5)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND)
    assert (await evidence(stage))["expected"] == "55"


async def test_what_came_unseen_just_before_the_registration_is_told(stage: DaemonHarness) -> None:
    address = await stage.sim.new_address()
    node(stage).traces = False
    stage.chain.send(stage.sim.output(address, 100), inner=True)
    await stage.mine()
    invoice = await stage.order(address)
    await wait_for_open(stage, invoice, KIND)
    assert (await evidence(stage))["unattributed"] == "100"


async def test_a_node_that_has_dropped_old_states_counts_from_the_first_look(stage: DaemonHarness) -> None:
    used = await stage.sim.new_address()
    node(stage).keeps, node(stage).traces = 20, False
    stage.chain.send(stage.sim.output(used, 55), inner=True)
    await stage.mine(30)
    invoice = await stage.invoice(to=[{"rail": "story", "asset": "COIN", "amount": 100, "address": used}])
    await read_at_the_tip(stage)
    (row,) = await stage.database.rows("select baseline, baseline_hash from railwatch.balances")
    assert (int(row["baseline"]), row["baseline_hash"]) == (55, stage.chain.tip.hash)
    assert await cases(stage, invoice) == []
    await hidden(stage, invoice, 100)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND)


async def test_a_reorg_below_the_first_look_begins_the_counting_anew(stage: DaemonHarness) -> None:
    node(stage).keeps = 1
    await stage.mine(30)
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine()
    await read_at_the_tip(stage)
    await stage.sim.reorg(6, keep=False)
    await stage.follows()
    await read_at_the_tip(stage)
    (row,) = await stage.database.rows("select baseline_hash, unattributed from railwatch.balances")
    assert (row["baseline_hash"], int(row["unattributed"])) == (stage.chain.tip.hash, 0)

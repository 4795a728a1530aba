"""Payments on another rail of the same family."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from railwatch.store.database import Database
from railwatch_fake import node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.exception_checks import wait_for_open


@pytest.fixture
async def twins(database: Database) -> AsyncIterator[DaemonHarness]:
    """Two rails whose addresses are the same."""
    async with DaemonHarness(database, [chain_named("here"), chain_named("there")]) as stage:
        yield stage
        await stage.audit()


async def _wrong(stage: DaemonHarness) -> list[dict[str, Any]]:
    rows = await stage.database.rows("select rail, kind, state, amount from railwatch.detections")
    return [dict(row) for row in rows]


async def test_a_payment_on_another_rail_of_the_family_is_wrong_network(twins: DaemonHarness) -> None:
    there = twins.simulator(twins.chains[1])
    invoice = await twins.invoice(100)
    await there.pay(invoice.address, 100)
    await there.mine(2)
    await wait_for_open(twins, invoice, "wrong_network")
    assert await twins.state(invoice) == "created"
    await there.reorg(2, keep=False)
    await wait_for_open(twins, invoice)


async def test_it_is_found_though_it_came_before_the_registration(twins: DaemonHarness) -> None:
    there = twins.simulator(twins.chains[1])
    address = await twins.sim.new_address()
    await there.pay(address, 100)
    await there.mine(3)
    await twins.follows()
    invoice = await twins.order(address)
    await wait_for_open(twins, invoice, "wrong_network")
    [found] = await _wrong(twins)
    assert (found["rail"], found["kind"], found["amount"]) == ("there", "wrong_network", 100)


async def test_it_is_found_though_that_rail_was_away_and_the_daemon_was_restarted(twins: DaemonHarness) -> None:
    there = twins.simulator(twins.chains[1])
    address = await twins.sim.new_address()
    await there.pay(address, 100)
    await there.mine(3)
    await twins.follows()
    node_of("there").down = True
    await twins.rail_is("stalled", "there")
    invoice = await twins.order(address)
    await twins.all_taken_in()
    await twins.stop()
    node_of("there").down = False
    await twins.start()
    await wait_for_open(twins, invoice, "wrong_network")

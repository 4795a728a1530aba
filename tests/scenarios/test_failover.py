"""Two nodes of one rail: when one fails, is of another chain, or stays behind, the other serves the rail."""

import pytest

from railwatch.daemon.follow import steadiness
from railwatch.store.database import Database
from railwatch_fake import node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

TWO_NODES = {"nodes": [{"chain": "story", "node": each, "timeout": 0.3} for each in ("main", "second")]}


async def test_when_one_node_dies_the_next_goes_on(database: Database) -> None:
    async with DaemonHarness(database, [chain_named()], options=TWO_NODES) as stage:
        invoice = await stage.invoice(100)
        node_of("story").down = True
        stage.chain.send(stage.sim.output(invoice.address, 100))
        await stage.mine(2)
        assert await stage.state(invoice) == "paid"
        node_of("story", "second").hangs = True
        reason = await stage.rail_is("stalled")
        assert "second" in reason or "no answer" in reason or "is down" in reason
        node_of("story").down = False
        await stage.mine()
        await stage.audit()


async def test_a_node_of_another_chain_is_passed_over(database: Database) -> None:
    chain = chain_named()
    stage = DaemonHarness(database, [chain], options=TWO_NODES)
    chain.mine()
    node_of("story").impersonate("fake:testnet")
    await stage.start()
    try:
        await stage.mine(2)
        node_of("story", "second").down = True

        async def both_are_named() -> bool:
            return "fake:testnet" in str((await stage.rail())["reason"])

        await stage.until(both_are_named)
    finally:
        await stage.stop()


async def test_a_node_that_stays_behind_is_left_for_one_that_does_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steadiness, "LAG_MAX_SECONDS", 0.3)
    async with DaemonHarness(database, [chain_named()], options=TWO_NODES) as stage:
        await stage.mine(5)
        node_of("story").lag = 3
        stage.chain.mine(2)
        await stage.follows()

"""Blind is blind: a rail that cannot be believed promotes nothing and expires nothing, and heals at once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from railwatch.daemon.follow import health
from railwatch.store.database import Database
from railwatch_fake import FakeChain, Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

FINALITY = Rules(finality=8, safe=4, mempool=False)


class Clock:
    """The chain's clock, which may be behind ours."""

    def __init__(self) -> None:
        self.behind = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) - self.behind


async def mine_unseen(chain: FakeChain, blocks: int) -> None:
    chain.mine(blocks)
    await asyncio.sleep(0.3)


async def test_a_stalled_rail_pays_no_invoice_covers_nothing_and_promotes_at_once_when_it_heals(
    database: Database,
) -> None:
    clock = Clock()
    chain = chain_named(clock=clock)
    async with DaemonHarness(database, [chain], options={"stall_after": 60}) as stage:
        paid, empty = await stage.invoice(100), await stage.invoice(100, expires_in=2)
        clock.behind = timedelta(minutes=5)
        await mine_unseen(chain, 1)
        assert "older than 60 s" in await stage.rail_is("stalled")
        covered = (await stage.rail())["covered_until"]
        await stage.pay(paid)
        await mine_unseen(chain, 1)
        await stage.wait_for_state(paid, "confirming")
        for _ in range(4):
            await mine_unseen(chain, 1)
        assert (await stage.rail())["cursor_height"] == chain.tip.height
        await asyncio.sleep(1.5)
        assert [await stage.state(each) for each in (paid, empty)] == ["confirming", "created"]
        assert (await stage.rail())["covered_until"] == covered
        # An aside that comes while the rail is blind (here a registration's look-back) promotes nothing either.
        await stage.invoice(100)
        assert await stage.state(paid) == "confirming"
        clock.behind = timedelta()
        await stage.mine()
        await stage.wait_for_state(paid, "paid")
        await stage.wait_for_state(empty, "expired")
        await stage.audit()


async def test_a_rail_whose_finality_has_stopped_is_stalled_and_pays_no_invoice_by_depth_either(
    database: Database,
) -> None:
    chain = chain_named(rules=FINALITY, clock=None)  # ten seconds a block: finality is 80 s behind the head
    async with DaemonHarness(database, [chain], options={"finality_stall_after": 120}) as stage:
        await stage.mine(20)
        node_of(chain.name).finality_at = chain.tip.height - 8
        by_depth, by_finality = await stage.invoice(100), await stage.invoice(100, policy={"finalized": True})
        for invoice in (by_depth, by_finality):
            await stage.pay(invoice)
        chain.mine(5)
        reason = await stage.rail_is("stalled")
        assert f"finality has stopped at block {chain.tip.height - 13}" in reason
        # All at once: what the first of those five blocks held would be paid by depth if the rail were believed.
        await asyncio.sleep(0.5)
        assert {await stage.state(each) for each in (by_depth, by_finality)} == {"confirming"}
        node_of(chain.name).finality_at = None
        await stage.mine(8)
        await stage.rail_is("live")
        for invoice in (by_depth, by_finality):
            await stage.wait_for_state(invoice, "paid")
        await stage.audit()


async def test_time_is_not_covered_while_one_of_two_nodes_reports_more(database: Database) -> None:
    chain = chain_named(clock=lambda: datetime.now(UTC))
    nodes = [{"chain": chain.name, "node": each, "timeout": 0.5} for each in ("main", "second")]
    async with DaemonHarness(database, [chain], options={"nodes": nodes}) as stage:
        await stage.mine(5)
        invoice = await stage.invoice(100, expires_in=2)
        node_of(chain.name, "second").lag = 2
        await stage.pay(invoice)
        chain.mine(2)  # in time, and only one of the two nodes has it
        await asyncio.sleep(3.5)
        assert await stage.state(invoice) in ("created", "detected")
        node_of(chain.name, "second").lag = 0
        await stage.follows()
        await stage.wait_for_state(invoice, "paid")
        assert "expired" not in [state for state, _ in await stage.path(invoice)]
        await stage.audit()


async def test_a_node_that_comes_back_with_an_old_tip_covers_nothing_until_it_has_a_fresh_block(
    database: Database,
) -> None:
    """The only node returns without the block that holds the payment, and says that its old tip is the newest block."""
    clock = Clock()
    chain = chain_named(clock=clock)
    async with DaemonHarness(database, [chain], options={"stall_after": 600, "time_margin": 0}) as stage:
        clock.behind = timedelta(minutes=2)
        await stage.mine()
        clock.behind = timedelta()
        invoice = await stage.invoice(100, expires_in=2)
        node_of(chain.name).down = True
        await stage.rail_is("stalled")
        await stage.pay(invoice)
        chain.mine()
        await asyncio.sleep(2)
        node_of(chain.name).lag = 1
        node_of(chain.name).down = False
        await stage.rail_is("live")
        await asyncio.sleep(1.5)
        assert await stage.state(invoice) == "created"
        node_of(chain.name).lag = 0
        await stage.mine()
        await stage.wait_for_state(invoice, "paid")
        assert "expired" not in [state for state, _ in await stage.path(invoice)]
        await stage.audit()


async def test_a_block_that_arrives_after_its_time_pays_what_has_not_expired(database: Database) -> None:
    """The margin: no early `expired`, and where one was emitted all the same, no `unexpected_payment` after it."""
    clock = Clock()
    chain = chain_named(rules=Rules(mempool=False, finality=8, safe=4), clock=clock)
    async with DaemonHarness(database, [chain], options={"time_margin": 4}) as stage:
        invoice = await stage.invoice(100, expires_in=2)
        clock.behind = timedelta(seconds=3)
        await stage.pay(invoice)
        await asyncio.sleep(3.5)
        assert await stage.state(invoice) == "created"
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        assert [state for state, _ in await stage.path(invoice)] == ["created", "confirming", "paid"]
    async with DaemonHarness(database, [chain], options={"time_margin": 0}) as stage:
        early = await stage.order(await stage.sim.new_address(), expires_in=1, order_id="early")
        await stage.all_taken_in()
        clock.behind = timedelta(0)
        await stage.wait_for_state(early, "expired")
        clock.behind = timedelta(seconds=30)
        await stage.pay(early)
        await stage.mine(2)
        await stage.wait_for_state(early, "paid")
        assert await stage.open_cases(early) == set()
        await stage.audit()


async def test_an_unknown_chain_is_suspected_after_a_restart_by_what_was_followed_before(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node hears no more blocks, and no twenty heads will come from which its rhythm could be seen."""
    await stage.mine(40)
    await stage.stop()
    monkeypatch.setattr(health, "RHYTHM_LEAST", 1.0)
    await stage.start()

    async def is_suspected() -> bool:
        row = await stage.rail()
        return row["state"] == "stalled" and "no block has come" in row["reason"]

    await stage.until(is_suspected)
    monkeypatch.setattr(health, "RHYTHM_LEAST", 600.0)
    await stage.mine()

"""A node that fails, lies and comes back: the daemon writes nothing that it does not know, and heals by itself."""

import asyncio
from collections.abc import Callable

import pytest

from railwatch.daemon.follow import steadiness
from railwatch.store.database import Database
from railwatch_fake import FakeNode, Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.plain_orders import detections, dice, written

Trouble = Callable[[FakeNode, bool], None]


def is_down(node: FakeNode, on: bool) -> None:
    node.down = on


def hangs(node: FakeNode, on: bool) -> None:
    node.hangs = on


def answers_garbage(node: FakeNode, on: bool) -> None:
    node.misshapen = on


def cuts_blocks_short(node: FakeNode, on: bool) -> None:
    node.truncates = on


def is_another_chain(node: FakeNode, on: bool) -> None:
    node.impersonate("fake:somebody-else" if on else None)


TROUBLES: list[tuple[Trouble, str]] = [
    (is_down, "is down"),
    (hangs, "no answer in"),
    (answers_garbage, "is no header"),
    (is_another_chain, "fake:somebody-else"),
]
NAMES = [trouble.__name__ for trouble, _ in TROUBLES]


@pytest.mark.parametrize(("trouble", "reason"), TROUBLES, ids=NAMES)
async def test_a_node_in_trouble_at_start_leaves_the_daemon_alive_and_is_followed_once_it_heals(
    database: Database, trouble: Trouble, reason: str
) -> None:
    stage = DaemonHarness(database, [chain_named()])
    stage.chain.mine()
    trouble(node_of("story"), True)
    await stage.start(wait=False)
    try:
        assert reason in await stage.rail_is("stalled")
        assert (await written(stage))[0] is None
        trouble(node_of("story"), False)
        await stage.follows()
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(2)
        assert await stage.state(invoice) == "paid"
        assert (await stage.rail())["reason"] is None
    finally:
        await stage.stop()


@pytest.mark.parametrize(
    ("trouble", "reason"), [*TROUBLES, (cuts_blocks_short, "transactions, but")], ids=[*NAMES, "cuts_blocks_short"]
)
async def test_a_node_in_trouble_later_writes_nothing_and_what_it_missed_is_found_once(
    stage: DaemonHarness, trouble: Trouble, reason: str
) -> None:
    invoice = await stage.invoice(100)
    before = await written(stage)
    trouble(node_of("story"), True)
    stage.chain.send(stage.sim.output(invoice.address, 100))
    stage.chain.mine(2)
    assert reason in await stage.rail_is("stalled")
    after = await written(stage)
    # A mempool that is not cut short may be told; no block may.
    assert (after[0], after[1]) == (before[0], before[1])
    if trouble is not cuts_blocks_short:
        assert after == before
    trouble(node_of("story"), False)
    await stage.follows()
    assert await stage.state(invoice) == "paid"
    assert await detections(stage) == 1


async def test_a_node_that_goes_back_is_behind_and_tells_no_reorg(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(3)
    before = (await stage.rail())["cursor_hash"]
    node_of("story").lag = 3
    await asyncio.sleep(0.3)
    assert (await stage.rail())["cursor_hash"] == before
    assert await stage.state(invoice) == "paid"
    stage.chain.mine(2)
    await asyncio.sleep(0.2)
    node_of("story").lag = 0
    await stage.follows()
    assert (await stage.rail())["rewinds"] == 0
    assert (await stage.path(invoice))[-1] == ("paid", "confirmed")


async def test_a_block_that_a_node_spoils_for_a_while_stalls_its_rail_by_name_and_heals(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node, one answer that cannot be read: no person is called for what the next answer mends."""
    monkeypatch.setattr(steadiness, "FAULT_SECONDS", 600.0)
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False))]) as stage:
        invoice = await stage.invoice(100)
        node_of("story").undecodable = True
        stage.chain.send(stage.sim.output(invoice.address, 100))
        stage.chain.mine()
        reason = await stage.rail_is("stalled")
        assert stage.chain.tip.hash in reason
        assert "halts the rail after" in reason
        node_of("story").undecodable = False
        stage.chain.mine()
        await stage.follows()
        assert await stage.state(invoice) == "paid"


async def test_a_node_that_restarts_all_the_time_costs_time_and_nothing_else(stage: DaemonHarness) -> None:
    placed = [await stage.invoice(100) for _ in range(10)]
    for invoice in placed:
        node_of("story").restart()
        await stage.pay(invoice)
        node_of("story").restart()
        await stage.sim.mine()
    await stage.mine(2)
    assert {await stage.state(each) for each in placed} == {"paid"}
    assert await detections(stage) == 10


# Wake-ups


@pytest.mark.parametrize("how", ["silent", "pushes"])
async def test_what_no_push_tells_the_poll_finds(stage: DaemonHarness, how: str) -> None:
    setattr(node_of("story"), how, how == "silent")
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.wait_for_state(invoice, "detected")
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"


async def test_what_a_block_took_from_the_mempool_is_never_called_dropped(stage: DaemonHarness) -> None:
    roll = dice(stage.chain)
    node_of("story").latency = 0.01
    for _ in range(15):
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.wait_for_state(invoice, "detected")
        await asyncio.sleep(roll() * 0.05)
        await stage.mine()
        assert "dropped" not in [state for state, _ in await stage.path(invoice, "detection")]


async def test_a_stop_that_comes_together_with_a_push_is_not_forgotten(stage: DaemonHarness) -> None:
    for turn in range(24):
        stage.chain.mine()
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await stage.stop()
        await stage.start(wait=turn % 12 == 11)

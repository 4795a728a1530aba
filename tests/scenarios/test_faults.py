"""Nodes that fail, lie and come back: the daemon lives, writes nothing that it does not know, and heals by itself."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from railwatch.daemon.follow import steadiness
from railwatch.store.database import Database
from railwatch_fake import FakeChain, FakeNode, Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

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


async def written(stage: DaemonHarness) -> tuple[Any, ...]:
    """Everything that a step could have moved."""
    row = await stage.rail()
    tables = ("transitions", "detections", "checkpoints")
    counts = [
        await stage.database.value(f"select count(*) from railwatch.{table} where rail = $1", stage.chain.name)
        for table in tables
    ]
    return (row["cursor_hash"], row["finalized_hash"], row["covered_until"], row["rewinds"], *counts)


def raw_invoice(stage: DaemonHarness, order: str, address: str, **terms: Any) -> dict[str, Any]:
    way = {"rail": stage.chain.name, "asset": "COIN", "amount": 100, "address": address}
    return {"merchant_id": "shop", "order_id": order, "expires_in": 3600, "destinations": [way], **terms}


async def register(stage: DaemonHarness, request: dict[str, Any]) -> Placed:
    """Register without waiting for anything."""
    made = await stage.database.value("select railwatch.create_invoice($1)", request)
    return Placed(made, request["destinations"][0]["address"])


async def detections(stage: DaemonHarness) -> int:
    return int(await stage.database.value("select count(*) from railwatch.detections"))


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


async def other_goes_on(stage: DaemonHarness) -> None:
    """The second rail still takes registrations, finds payments and confirms them."""
    address = await stage.simulator(stage.chains[1]).new_address()
    order = raw_invoice(stage, "elsewhere", address)
    order["destinations"][0]["rail"] = stage.chains[1].name
    placed = await register(stage, order)
    stage.chains[1].send(stage.sim.output(placed.address, 100))
    stage.chains[1].mine(2)
    await stage.wait_for_state(placed, "paid")


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


@pytest.mark.parametrize("how", ["silent", "pushes"])
async def test_what_no_push_tells_the_poll_finds(stage: DaemonHarness, how: str) -> None:
    setattr(node_of("story"), how, how == "silent")
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.wait_for_state(invoice, "detected")
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"


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


async def test_no_invoice_expires_while_its_rail_is_blind(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(clock=lambda: datetime.now(UTC))]) as stage:
        empty, paid = await stage.invoice(100, expires_in=2), await stage.invoice(100, expires_in=2)
        node_of("story").down = True
        await stage.rail_is("stalled")
        stage.chain.send(stage.sim.output(paid.address, 100))
        stage.chain.mine(2)
        await asyncio.sleep(2.5)
        assert [await stage.state(each) for each in (empty, paid)] == ["created", "created"]
        node_of("story").down = False
        await stage.wait_for_state(paid, "paid")
        await stage.wait_for_state(empty, "expired")
        assert "expired" not in [state for state, _ in await stage.path(paid)]
        assert await stage.open_cases(paid) == set()
        await stage.audit()


async def test_an_invoice_of_two_rails_does_not_expire_while_one_of_them_is_blind(database: Database) -> None:
    chains = [chain_named(name, clock=lambda: datetime.now(UTC)) for name in ("story", "other")]
    async with DaemonHarness(database, chains) as stage:
        ways = [{"rail": chain.name, "asset": "COIN", "amount": 100} for chain in chains]
        empty, paid = [await stage.invoice(to=ways, expires_in=2) for _ in range(2)]
        node_of("other").down = True
        await stage.rail_is("stalled", "other")
        chains[1].send(stage.sim.output(paid.address, 100))
        chains[1].mine(2)
        await asyncio.sleep(2.5)
        chains[0].mine(3)
        await stage.rail_is("live")
        await asyncio.sleep(1)
        assert [await stage.state(each) for each in (empty, paid)] == ["created", "created"]
        node_of("other").down = False
        await stage.wait_for_state(paid, "paid")
        await stage.wait_for_state(empty, "expired")
        await stage.audit()


async def test_a_reorg_during_downtime_is_found_at_the_start_and_told(finality: DaemonHarness) -> None:
    gone, kept = await finality.invoice(100), await finality.invoice(100)
    await finality.pay(kept)
    await finality.mine()
    await finality.pay(gone)
    await finality.mine(2)
    assert (await finality.state(gone), await finality.state(kept)) == ("paid", "paid")
    await finality.stop()
    finality.chain.reorg(3, keep=False)
    late = await finality.sim.pay(kept.address, 100)
    finality.chain.mine(2)
    await finality.start()
    assert await finality.state(gone) == "created"
    assert (await finality.path(gone))[-1] == ("created", "reversed")
    assert await finality.open_cases(gone) == {"reversed"}
    # What came back as another transaction is another payment.
    told = await finality.path(kept)
    assert told[-3:] == [("created", "reversed"), ("confirming", "included"), ("paid", "confirmed")]
    assert await finality.database.value("select state from railwatch.detections where tx_id = $1", late) == "confirmed"


async def test_registrations_while_the_node_is_down_are_parsed_at_once_and_watched_when_it_heals(
    stage: DaemonHarness,
) -> None:
    node_of("story").down = True
    await stage.rail_is("stalled")
    # More good ones than one batch holds must not keep a bad one waiting.
    good = [await register(stage, raw_invoice(stage, f"g{n}", await stage.sim.new_address())) for n in range(600)]
    bad = [await register(stage, raw_invoice(stage, f"b{n}", f"fake:nonsense{n}")) for n in range(10)]

    async def is_rejected() -> bool:
        return all([await stage.watch_states(each) == ["rejected"] for each in bad])

    await stage.until(is_rejected)
    assert await stage.watch_states(good[0]) == ["registered"]
    stage.chain.send(stage.sim.output(good[-1].address, 100))
    stage.chain.mine(2)
    node_of("story").down = False

    async def all_watched() -> bool:
        left = "select count(*) from railwatch.destinations where watch_state = 'registered'"
        return await stage.database.value(left) == 0

    await stage.until(all_watched)
    await stage.follows()
    assert await stage.state(good[-1]) == "paid"


def dice(chain: FakeChain) -> Callable[[], float]:
    """A source of small delays that is the same in every run."""
    return lambda: int(chain.fresh_name("dice")[:4], 16) / 0xFFFF


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


async def test_a_stop_that_comes_together_with_a_push_is_not_forgotten(stage: DaemonHarness) -> None:
    for turn in range(24):
        stage.chain.mine()
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await stage.stop()
        await stage.start(wait=turn % 12 == 11)


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

"""Money that no block shows: with the daemon, real Postgres, and a chain whose node does not trace."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from railwatch.daemon import balance_reconciler
from railwatch.daemon.exception_monitor import ExceptionMonitor
from railwatch.rail import BlockRef
from railwatch.store.balances import AccountReading, BalanceStore, SecondReading
from railwatch.store.clock import ClockStore
from railwatch.store.database import Database
from railwatch.store.steps import Lease
from railwatch_fake import FakeNode, Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named
from tests.scenarios.test_nodes import several

KIND = "unattributed_balance"
RULES = Rules(finality=8, safe=4, mempool=False, balances=True)


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail that tells balances, and looks at them all the time."""
    async with DaemonHarness(database, [chain_named(rules=RULES)], options={"reconcile_every": 1}) as stage:
        yield stage
        await stage.audit()


def node(stage: DaemonHarness) -> FakeNode:
    """The node that the daemon asks."""
    return node_of(stage.chain.name)


async def hidden(stage: DaemonHarness, to: Placed, amount: int, token: str = "") -> str:
    """A payment from within a contract, which this node does not show."""
    node(stage).traces = False
    output = stage.sim.output(to.address, amount, stage.sim.assets[1] if token else None)
    return stage.chain.send(output, inner=True).id


async def sweep(stage: DaemonHarness, of: Placed, amount: int) -> None:
    """The merchant's wallet moves money on."""
    stage.chain.send(takes=(stage.sim.output(of.address, amount),))


async def looked(stage: DaemonHarness) -> None:
    """Wait until balances have been looked at as of the chain's head, each of them."""

    async def is_so() -> bool:
        rows = await stage.database.rows("select block_hash from railwatch.balances")
        return bool(rows) and {row["block_hash"] for row in rows} == {stage.chain.tip.hash}

    await stage.until(is_so, lambda: balances(stage))


async def balances(stage: DaemonHarness) -> list[tuple[int, int, int, int, int]]:
    """(baseline, balance, detected, spent, unattributed) of each account."""
    rows = await stage.database.rows(
        "select baseline, balance, detected, spent, unattributed from railwatch.balances order by destination_id, asset"
    )
    return [tuple(int(value) for value in row.values()) for row in rows]  # type: ignore[misc]


async def stands(stage: DaemonHarness, invoice: Placed, *kinds: str) -> None:
    """Wait until exactly those are open, some blocks later: nothing is believed before no reorg can undo its block."""

    async def is_so() -> bool:
        found = await stage.open_cases(invoice) == set(kinds)
        if not found and KIND in kinds and not node(stage).down:
            await stage.sim.mine()
            await asyncio.sleep(0.2)
        return found

    await stage.until(is_so, lambda: balances(stage))


async def cases(stage: DaemonHarness, invoice: Placed) -> list[tuple[str, int, str | None]]:
    """(kind, round, resolution) of all rows, oldest first."""
    rows = await stage.database.rows(
        "select kind, round, resolution from railwatch.exceptions where invoice_id = $1 order by opened_at, round",
        invoice.id,
    )
    return [(row["kind"], row["round"], row["resolution"]) for row in rows]


async def evidence(stage: DaemonHarness) -> dict[str, Any]:
    """What the feed says of the newest opening."""
    told = await stage.database.value(
        "select evidence from railwatch.transitions where reason = $1 and to_state = 'open' order by seq desc limit 1",
        KIND,
    )
    assert isinstance(told, dict)
    return told


async def test_dust_opens_nothing_though_no_detection_holds_it(database: Database) -> None:
    """Seen in blocks or not: a stranger who sends it to every address opens no exception (HAZARDS I16)."""
    least: list[dict[str, Any]] = [{"symbol": "COIN", "min_amount": 10}]
    options = {"reconcile_every": 1, "asset": least}
    async with DaemonHarness(database, [chain_named(rules=RULES)], options=options) as stage:
        dusted, unseen, other = await stage.invoice(100), await stage.invoice(100), await stage.invoice(100)
        for _ in range(4):
            await stage.pay(dusted, 9)
        await hidden(stage, unseen, 9)
        await stage.mine(1)
        await hidden(stage, other, 10)
        await stage.mine(1)
        await stands(stage, other, KIND)
        assert await stage.open_cases(dusted) == await stage.open_cases(unseen) == set()
        await hidden(stage, dusted, 10)
        await stage.mine(1)
        await stands(stage, dusted, KIND)
        await stage.audit()


async def test_money_that_no_block_shows_is_told_and_found_later_and_made_good(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 30)
    await hidden(stage, invoice, 70)
    await stage.mine(2)
    await stands(stage, invoice, "underpaid", KIND)
    assert await stage.state(invoice) == "underpaid", "what nobody saw pays nothing"
    told = await evidence(stage)
    assert (told["balance"], told["expected"], told["unattributed"]) == ("100", "30", "70")
    assert stage.chain.at(told["block_height"]).hash == told["block_hash"]
    assert (told["node"], told["second_look"], told["second_node"]) == ("node", "verified", "node")
    listed = await stage.database.row("select * from railwatch.open_exceptions where kind = $1", KIND)
    assert listed
    assert (listed["rail"], listed["asset"], int(listed["amount"])) == ("story", stage.sim.native, 70)
    node(stage).traces = True
    await stage.database.value("select railwatch.request_rescan('story', 0)")
    await stage.rescanned()
    await stage.wait_for_state(invoice, "paid")
    await stands(stage, invoice)
    assert sorted(await cases(stage, invoice)) == [(KIND, 1, "made good"), ("underpaid", 1, "made good")]
    await looked(stage)
    assert await balances(stage) == [(0, 100, 100, 0, 0)]


async def test_what_was_paid_and_swept_opens_nothing(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await looked(stage)
    await sweep(stage, invoice, 100)
    await stage.mine()
    await looked(stage)
    assert await balances(stage) == [(0, 0, 100, 100, 0)]
    assert await cases(stage, invoice) == []
    await hidden(stage, invoice, 40)
    await stage.mine()
    await stands(stage, invoice, KIND)
    assert await balances(stage) == [(0, 40, 100, 100, 40)], "a sweep does not hide what comes after it"
    await sweep(stage, invoice, 40)
    await stage.mine()
    await looked(stage)
    assert await stage.open_cases(invoice) == {KIND}, "that it was moved on does not say where it came from"


async def test_a_reorg_does_not_make_good_what_was_told_and_swept_long_before(stage: DaemonHarness) -> None:
    """The newest look's block is gone, and what was counted up to finality still holds."""
    invoice = await stage.invoice(100)
    await hidden(stage, invoice, 40)
    await stage.mine()
    await stands(stage, invoice, KIND)
    await sweep(stage, invoice, 40)
    for blocks in (1, 10, 10):
        await stage.mine(blocks)
        await looked(stage)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await looked(stage)
    assert await balances(stage) == [(0, 0, 0, 40, 40)]
    assert await cases(stage, invoice) == [(KIND, 1, None)]


async def test_what_an_address_held_before_is_its_baseline(stage: DaemonHarness) -> None:
    used = await stage.sim.new_address()
    node(stage).traces = False
    stage.chain.send(stage.sim.output(used, 55), inner=True)
    await stage.mine(400)
    invoice = await stage.invoice(100, to=[{"rail": "story", "asset": "COIN", "amount": 100, "address": used}])
    await looked(stage)
    assert await balances(stage) == [(55, 55, 0, 0, 0)]
    await hidden(stage, invoice, 5)
    await stage.mine()
    await stands(stage, invoice, KIND)
    assert (await evidence(stage))["expected"] == "55"


async def test_what_came_unseen_just_before_the_registration_is_told(stage: DaemonHarness) -> None:
    address = await stage.sim.new_address()
    node(stage).traces = False
    stage.chain.send(stage.sim.output(address, 100), inner=True)
    await stage.mine()
    invoice = await stage.order(address)
    await stands(stage, invoice, KIND)
    assert (await evidence(stage))["unattributed"] == "100"


async def test_a_node_that_has_dropped_old_states_counts_from_the_first_look(stage: DaemonHarness) -> None:
    used = await stage.sim.new_address()
    node(stage).keeps, node(stage).traces = 20, False
    stage.chain.send(stage.sim.output(used, 55), inner=True)
    await stage.mine(30)
    invoice = await stage.invoice(to=[{"rail": "story", "asset": "COIN", "amount": 100, "address": used}])
    await looked(stage)
    (row,) = await stage.database.rows("select baseline, baseline_hash from railwatch.balances")
    assert (int(row["baseline"]), row["baseline_hash"]) == (55, stage.chain.tip.hash)
    assert await cases(stage, invoice) == []
    await hidden(stage, invoice, 100)
    await stage.mine()
    await stands(stage, invoice, KIND)


async def test_a_node_that_is_away_proves_nothing(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await looked(stage)
    read = "select block_hash, balance, baseline, spent, unattributed from railwatch.balances"
    before = await stage.database.rows(read)
    await hidden(stage, invoice, 100)
    node(stage).down = True
    stage.chain.mine()
    await stage.rail_is("stalled")
    assert await stage.database.rows(read) == before
    assert await cases(stage, invoice) == []
    node(stage).down = False
    await stands(stage, invoice, KIND)


async def test_a_reorg_that_takes_the_unseen_money_back_was_told_to_nobody(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.mine(3)
    await hidden(stage, invoice, 100)
    await stage.mine()
    await looked(stage)
    assert await balances(stage) == [(0, 100, 0, 0, 100)]
    await stage.sim.reorg(1, keep=False)
    await stage.follows()
    await stage.mine(9)
    await looked(stage)
    assert await balances(stage) == [(0, 0, 0, 0, 0)]
    assert await cases(stage, invoice) == []


async def test_what_one_node_alone_tells_is_believed_only_if_another_tells_it_too(database: Database) -> None:
    async with several(database, ["main", "second"], RULES, reconcile_every=1) as (stage, nodes):
        invoice = await stage.invoice(100)
        await stage.pay(invoice, 100)
        await stage.mine()
        await looked(stage)
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
    await looked(stage)
    node(stage).keeps = 1
    await stands(stage, invoice, KIND)
    assert (await evidence(stage))["second_look"] == "unverified"


async def test_a_reorg_that_takes_a_sweep_back_opens_nothing(stage: DaemonHarness) -> None:
    """The balance grows without a payment, and the look that it is compared with was at a block that is gone."""
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(3)
    await sweep(stage, invoice, 100)
    await stage.mine()
    await looked(stage)
    assert await balances(stage) == [(0, 0, 100, 100, 0)]
    await stage.sim.reorg(1, keep=False)
    await stage.follows()
    await looked(stage)
    assert await balances(stage) == [(0, 100, 100, 0, 0)]
    assert await cases(stage, invoice) == []


async def test_a_reorg_below_the_first_look_begins_the_counting_anew(stage: DaemonHarness) -> None:
    node(stage).keeps = 1
    await stage.mine(30)
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine()
    await looked(stage)
    await stage.sim.reorg(6, keep=False)
    await stage.follows()
    await looked(stage)
    (row,) = await stage.database.rows("select baseline_hash, unattributed from railwatch.balances")
    assert (row["baseline_hash"], int(row["unattributed"])) == (stage.chain.tip.hash, 0)


async def test_a_person_accounts_for_it_and_what_comes_beyond_is_told_again(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await hidden(stage, invoice, 60)
    await stage.mine()
    await stands(stage, invoice, KIND)
    case = await stage.database.value("select id from railwatch.exceptions")
    await stage.database.value(
        "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'credited', cause => 'operator')", case
    )

    async def is_accounted_for() -> bool:
        return await balances(stage) == [(60, 60, 0, 0, 0)]

    await stage.until(is_accounted_for, lambda: balances(stage))
    await stage.mine()
    await looked(stage)
    assert await stage.open_cases(invoice) == set()
    await hidden(stage, invoice, 7)
    await stage.mine()
    await stands(stage, invoice, KIND)
    assert (await evidence(stage))["unattributed"] == "7"
    assert await cases(stage, invoice) == [(KIND, 1, "credited"), (KIND, 2, None)]


async def test_each_asset_is_counted_by_itself_and_once_for_an_address(stage: DaemonHarness) -> None:
    address = await stage.sim.new_address()
    ways = [{"rail": "story", "asset": each, "amount": 100, "address": address} for each in ("GOLD", "COIN")]
    invoice = await stage.invoice(to=ways)
    await hidden(stage, invoice, 5)
    await hidden(stage, invoice, 6, "gold")
    await stage.mine()
    await looked(stage)
    assert sorted(await balances(stage)) == [(0, 5, 0, 0, 5), (0, 6, 0, 0, 6)]
    await stands(stage, invoice, KIND)

    async def are_told() -> bool:
        return len(await cases(stage, invoice)) == 2

    await stage.until(are_told)
    assert await cases(stage, invoice) == [(KIND, 1, None), (KIND, 1, None)]


async def test_an_address_that_waits_for_a_token_is_looked_at_for_the_native_asset_too(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(to=[{"rail": "story", "asset": "GOLD", "amount": 100}])
    await stage.pay(invoice, 30)
    await hidden(stage, invoice, 5)
    await stage.mine()
    await stands(stage, invoice, KIND, "wrong_asset")
    told = await evidence(stage)
    assert (told["asset"], told["expected"], told["unattributed"]) == (stage.sim.native, "30", "5")


async def test_money_at_a_reused_address_is_the_newer_invoices(stage: DaemonHarness) -> None:
    old = await stage.invoice(100)
    await stage.pay(old, 100)
    await stage.mine(2)
    await looked(stage)
    new = await stage.order(old.address)
    await stage.all_taken_in()
    await hidden(stage, new, 5)
    await stage.mine()
    await stands(stage, new, KIND)
    await stage.mine()
    assert await stage.open_cases(old) == set()


async def test_what_is_closed_is_not_looked_at(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await looked(stage)
    await stage.database.value("update railwatch.destinations set watch_state = 'closed'")
    await hidden(stage, invoice, 5)
    other = await stage.invoice(100)
    await stage.mine()
    await hidden(stage, other, 5)
    await stage.mine()
    await stands(stage, other, KIND)
    assert await cases(stage, invoice) == []


async def test_what_was_read_before_a_reorg_or_under_another_lease_is_not_put_down(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await looked(stage)
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


@pytest.mark.parametrize("how", ["configured never", "the rail cannot tell"])
async def test_balances_are_left_alone(database: Database, how: str) -> None:
    rules = Rules(finality=8, safe=4, mempool=False, balances=how == "configured never")
    every = 0 if rules.balances else 1
    async with DaemonHarness(database, [chain_named(rules=rules)], options={"reconcile_every": every}):
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "story.chain" in names
        assert "story.balances" not in names


async def test_a_token_without_bounds_keeps_no_other_balance_from_being_told(stage: DaemonHarness) -> None:
    """A contract may tell any transfers and any balance: nine of the largest are more than a column holds."""
    spammed, other = await stage.invoice(100), await stage.invoice(100)
    gold = stage.sim.assets[1]
    way = {"rail": stage.chain.name, "asset": "GOLD", "amount": 100}
    victim = await stage.invoice(to=[way])
    stage.chain.send(*(stage.sim.output(victim.address, 2**256 - 1, gold) for _ in range(12)))
    stage.chain.send(*(stage.sim.output(spammed.address, 2**256 - 1) for _ in range(12)))
    await stage.mine()
    await looked(stage)
    await hidden(stage, other, 70)
    await hidden(stage, victim, 2**256 - 1, "gold")
    await stage.mine()
    await stands(stage, other, KIND)
    opened = await stage.database.value(
        "select id from railwatch.exceptions where kind = $1 and invoice_id = $2", KIND, other.id
    )
    await stage.database.value("select railwatch.resolve_exception($1, 'anna', 'booked')", opened)
    await stands(stage, other)
    await stage.sim.pay(victim.address, 2**256 - 1, gold)
    await stage.mine()
    await looked(stage)
    assert (await stage.rail())["state"] == "live"

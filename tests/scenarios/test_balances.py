"""Money that no block shows: with the daemon, real Postgres, and a chain whose node does not trace."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules
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
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.exception_checks import cases


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail with balances, which are read all the time."""
    async with balance_stage(database) as stage:
        yield stage


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
        await wait_for_open(stage, other, KIND)
        assert await stage.open_cases(dusted) == await stage.open_cases(unseen) == set()
        await hidden(stage, dusted, 10)
        await stage.mine(1)
        await wait_for_open(stage, dusted, KIND)
        await stage.audit()


async def test_money_that_no_block_shows_is_told_and_found_later_and_made_good(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 30)
    await hidden(stage, invoice, 70)
    await stage.mine(2)
    await wait_for_open(stage, invoice, "underpaid", KIND)
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
    await wait_for_open(stage, invoice)
    assert sorted(await cases(stage, invoice)) == [(KIND, 1, "made good"), ("underpaid", 1, "made good")]
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 100, 100, 0, 0)]


async def test_what_was_paid_and_swept_opens_nothing(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await read_at_the_tip(stage)
    await sweep(stage, invoice, 100)
    await stage.mine()
    await read_at_the_tip(stage)
    assert await balances(stage) == [(0, 0, 100, 100, 0)]
    assert await cases(stage, invoice) == []
    await hidden(stage, invoice, 40)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND)
    assert await balances(stage) == [(0, 40, 100, 100, 40)], "a sweep does not hide what comes after it"
    await sweep(stage, invoice, 40)
    await stage.mine()
    await read_at_the_tip(stage)
    assert await stage.open_cases(invoice) == {KIND}, "that it was moved on does not say where it came from"


async def test_a_person_accounts_for_it_and_what_comes_beyond_is_told_again(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await hidden(stage, invoice, 60)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND)
    case = await stage.database.value("select id from railwatch.exceptions")
    await stage.database.value(
        "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'credited', cause => 'operator')", case
    )

    async def is_accounted_for() -> bool:
        return await balances(stage) == [(60, 60, 0, 0, 0)]

    await stage.until(is_accounted_for, lambda: balances(stage))
    await stage.mine()
    await read_at_the_tip(stage)
    assert await stage.open_cases(invoice) == set()
    await hidden(stage, invoice, 7)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND)
    assert (await evidence(stage))["unattributed"] == "7"
    assert await cases(stage, invoice) == [(KIND, 1, "credited"), (KIND, 2, None)]


async def test_each_asset_is_counted_by_itself_and_once_for_an_address(stage: DaemonHarness) -> None:
    address = await stage.sim.new_address()
    ways = [{"rail": "story", "asset": each, "amount": 100, "address": address} for each in ("GOLD", "COIN")]
    invoice = await stage.invoice(to=ways)
    await hidden(stage, invoice, 5)
    await hidden(stage, invoice, 6, "gold")
    await stage.mine()
    await read_at_the_tip(stage)
    assert sorted(await balances(stage)) == [(0, 5, 0, 0, 5), (0, 6, 0, 0, 6)]
    await wait_for_open(stage, invoice, KIND)

    async def are_told() -> bool:
        return len(await cases(stage, invoice)) == 2

    await stage.until(are_told)
    assert await cases(stage, invoice) == [(KIND, 1, None), (KIND, 1, None)]


async def test_an_address_that_waits_for_a_token_is_looked_at_for_the_native_asset_too(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(to=[{"rail": "story", "asset": "GOLD", "amount": 100}])
    await stage.pay(invoice, 30)
    await hidden(stage, invoice, 5)
    await stage.mine()
    await wait_for_open(stage, invoice, KIND, "wrong_asset")
    told = await evidence(stage)
    assert (told["asset"], told["expected"], told["unattributed"]) == (stage.sim.native, "30", "5")


async def test_money_at_a_reused_address_is_the_newer_invoices(stage: DaemonHarness) -> None:
    old = await stage.invoice(100)
    await stage.pay(old, 100)
    await stage.mine(2)
    await read_at_the_tip(stage)
    new = await stage.order(old.address)
    await stage.all_taken_in()
    await hidden(stage, new, 5)
    await stage.mine()
    await wait_for_open(stage, new, KIND)
    await stage.mine()
    assert await stage.open_cases(old) == set()


async def test_what_is_closed_is_not_looked_at(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await read_at_the_tip(stage)
    await stage.database.value("update railwatch.destinations set watch_state = 'closed'")
    await hidden(stage, invoice, 5)
    other = await stage.invoice(100)
    await stage.mine()
    await hidden(stage, other, 5)
    await stage.mine()
    await wait_for_open(stage, other, KIND)
    assert await cases(stage, invoice) == []


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
    await read_at_the_tip(stage)
    await hidden(stage, other, 70)
    await hidden(stage, victim, 2**256 - 1, "gold")
    await stage.mine()
    await wait_for_open(stage, other, KIND)
    opened = await stage.database.value(
        "select id from railwatch.exceptions where kind = $1 and invoice_id = $2", KIND, other.id
    )
    await stage.database.value("select railwatch.resolve_exception($1, 'anna', 'booked')", opened)
    await wait_for_open(stage, other)
    await stage.sim.pay(victim.address, 2**256 - 1, gold)
    await stage.mine()
    await read_at_the_tip(stage)
    assert (await stage.rail())["state"] == "live"

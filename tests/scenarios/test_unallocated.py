"""A payment without the reference of an invoice is recorded, follows the chain, and is never guessed."""

from typing import Any
from uuid import UUID

import pytest

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

ASSIGN = "select railwatch.assign_transfer($1, $2, 'ann', 'the customer sent the receipt')"


async def invoice_at(
    stage: DaemonHarness, address: str, reference: str | None, amount: int = 10, **terms: Any
) -> Placed:
    """Register an invoice at a shared address."""
    way = {"rail": stage.chain.name, "asset": "COIN", "amount": amount, "address": address}
    return await stage.invoice(to=[{**way, **({"reference": reference} if reference else {})}], **terms)


async def transfers(stage: DaemonHarness) -> list[tuple[str, str | None]]:
    """Return (state, assigned by) of each unallocated transfer, oldest first."""
    rows = await stage.database.rows(
        "select state, assigned_by from railwatch.unallocated_transfers order by first_seen_at, id"
    )
    return [(row["state"], row["assigned_by"]) for row in rows]


async def transfer_id(stage: DaemonHarness) -> UUID:
    """Return the only unallocated transfer."""
    found = await stage.database.rows("select id from railwatch.unallocated_transfers")
    assert len(found) == 1
    return UUID(str(found[0]["id"]))


async def exceptions(stage: DaemonHarness) -> list[tuple[str, str | None]]:
    """Return (kind, resolution) of each exception about an unallocated transfer, oldest first."""
    rows = await stage.database.rows(
        "select kind, resolution from railwatch.exceptions where subject = 'unallocated_transfer'"
        " order by opened_at, round"
    )
    return [(row["kind"], row["resolution"]) for row in rows]


async def transfer_is(stage: DaemonHarness, state: str) -> None:
    """Wait until the only unallocated transfer is in that state."""

    async def is_so() -> bool:
        return [each for each, _ in await transfers(stage)] == [state]

    await stage.until(is_so, lambda: transfers(stage))


async def test_a_payment_without_a_reference_pays_no_order_until_a_person_assigns_it(stage: DaemonHarness) -> None:
    """FINANCE 2.0, acceptance: two orders of 10, 10 without a reference; assigned to the second; a reorg removes it."""
    shop = await stage.sim.new_address()
    first, second = await invoice_at(stage, shop, "R1"), await invoice_at(stage, shop, "R2")
    paid = await stage.sim.pay(shop, 10)
    await stage.mine(2)
    assert (await stage.state(first), await stage.state(second)) == ("created", "created")
    assert await transfers(stage) == [("included", None)]
    row = await stage.database.row("select * from railwatch.open_exceptions")
    assert row is not None
    transfer = await transfer_id(stage)
    assert (row["kind"], row["severity"], row["subject"]) == ("unallocated_transfer", "warning", "unallocated_transfer")
    assert (row["subject_id"], row["invoice_id"], row["amount"], row["tx_id"]) == (transfer, None, 10, paid)
    assert await stage.database.value(ASSIGN, transfer, second.id) == transfer
    await stage.wait_for_state(second, "paid")
    assert await stage.state(first) == "created"
    assert await exceptions(stage) == [("unallocated_transfer", "assigned")]
    await stage.sim.reorg(2, keep=False)
    await stage.wait_for_state(second, "created")
    assert (await stage.path(second))[-1] == ("created", "reversed")
    assert await transfers(stage) == [("orphaned", "ann")]
    assert await stage.state(first) == "created"


async def test_what_was_assigned_stays_assigned_when_it_comes_back(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    await stage.sim.pay(shop, 10)
    await stage.mine(2)
    await stage.database.value(ASSIGN, await transfer_id(stage), order.id)
    await stage.wait_for_state(order, "paid")
    await stage.sim.reorg(2, keep=True)
    await stage.follows()
    assert [state for state, _ in await stage.path(order)] == [
        "created",
        "confirming",
        "paid",
        "created",
        "confirming",
        "paid",
    ]
    assert await transfers(stage) == [("included", "ann")]
    assert await exceptions(stage) == [("unallocated_transfer", "assigned")]


async def test_each_wrong_assignment_is_refused_and_writes_nothing(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order, other = await invoice_at(stage, shop, "R1"), await invoice_at(stage, shop, "R2")
    elsewhere = await stage.invoice(10)
    await stage.sim.pay(shop, 10)
    await stage.mine(1)
    transfer = await transfer_id(stage)
    await refused(stage, "RW010", transfer, elsewhere.id)
    await refused(stage, "RW009", transfer, UUID(int=7))
    await refused(stage, "RW047", UUID(int=7), order.id)
    with pytest.raises(Refused) as caught:
        await stage.database.value("select railwatch.assign_transfer($1, $2, 'ann', '')", transfer, order.id)
    assert caught.value.code == "RW001"
    assert await transfers(stage) == [("included", None)]
    await stage.database.value(ASSIGN, transfer, order.id)
    assert await stage.database.value(ASSIGN, transfer, order.id) == transfer
    await refused(stage, "RW018", transfer, other.id)
    lines = "select count(*) from railwatch.transitions where reason = 'assigned'"
    assert await stage.database.value(lines) == 1


async def refused(stage: DaemonHarness, code: str, transfer: UUID, invoice: UUID) -> None:
    """Expect that an assignment is refused."""
    with pytest.raises(Refused) as caught:
        await stage.database.value(ASSIGN, transfer, invoice)
    assert caught.value.code == code


async def test_a_transfer_that_the_chain_took_back_cannot_be_assigned_until_it_returns(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    paid = await stage.sim.pay(shop, 10)
    await stage.mine(1)
    await stage.sim.reorg(1, keep=False)
    await stage.follows()
    assert await transfers(stage) == [("orphaned", None)]
    assert await exceptions(stage) == [("unallocated_transfer", "made good")]
    await refused(stage, "RW010", await transfer_id(stage), order.id)
    stage.chain.resend(paid)
    await stage.mine(1)
    assert await transfers(stage) == [("included", None)]
    assert await exceptions(stage) == [("unallocated_transfer", "made good"), ("unallocated_transfer", None)]


async def test_an_invoice_that_asks_for_the_reference_later_has_the_payment(stage: DaemonHarness) -> None:
    """Registered after the payment, within `accept_before`: the look-back finds what no order had asked for."""
    shop = await stage.sim.new_address()
    await invoice_at(stage, shop, "R1")
    await stage.sim.pay(shop, 10, reference="R2")
    await stage.mine(2)
    assert await transfers(stage) == [("included", None)]
    late = await invoice_at(stage, shop, "R2")
    await stage.wait_for_state(late, "paid")
    assert await transfers(stage) == [("included", "railwatch")]
    assert await exceptions(stage) == [("unallocated_transfer", "made good")]
    assert await stage.database.value("select count(*) from railwatch.detections") == 1


async def test_a_catch_all_invoice_has_what_carries_no_reference(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    await invoice_at(stage, shop, "R1")
    catch_all = await invoice_at(stage, shop, None)
    await stage.sim.pay(shop, 10)
    await stage.mine(2)
    assert (await stage.state(catch_all), await transfers(stage)) == ("paid", [])


async def test_dust_unknown_tokens_and_older_money_are_no_rows(database: Database) -> None:
    """What no invoice could have asked for costs nothing here: a shop's own wallet receives other money too."""
    chain = chain_named(rules=Rules(tokens=("usd", "junk")))
    least = {"asset": [{"symbol": "COIN", "min_amount": 5}, {"symbol": "USD", "contract": "usd", "decimals": 6}]}
    async with DaemonHarness(database, [chain], options=least) as stage:
        shop, (_, _, junk) = await stage.sim.new_address(), stage.sim.assets
        await stage.sim.pay(shop, 100)
        await stage.mine(1)
        await invoice_at(stage, shop, "R1", accept_before=0)
        await stage.sim.pay(shop, 4)
        await stage.sim.pay(shop, 100, junk)
        await stage.mine(1)
        assert await stage.database.rows("select amount, asset, block_time from railwatch.unallocated_transfers") == []
        await stage.sim.pay(shop, 5)
        await stage.mine(1)
        assert await transfers(stage) == [("included", None)]
        await stage.audit()


async def test_below_unallocated_min_there_is_a_row_and_no_exception(database: Database) -> None:
    options = {"asset": [{"symbol": "COIN", "unallocated_min": 50}]}
    async with DaemonHarness(database, [chain_named()], options=options) as stage:
        shop = await stage.sim.new_address()
        await invoice_at(stage, shop, "R1")
        await stage.sim.pay(shop, 49)
        await stage.sim.pay(shop, 50)
        await stage.mine(1)
        assert len(await transfers(stage)) == 2
        found = await stage.database.rows("select amount from railwatch.open_exceptions")
        assert [row["amount"] for row in found] == [50]
        await stage.audit()


async def test_in_the_mempool_it_is_pending_and_replaced_or_dropped(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    paid = await stage.sim.pay(shop, 10)
    await transfer_is(stage, "pending")
    assert await exceptions(stage) == []
    await stage.sim.drop(paid)
    await transfer_is(stage, "dropped")
    stage.chain.resend(paid)
    await transfer_is(stage, "pending")
    await stage.database.value(ASSIGN, await transfer_id(stage), order.id)
    await stage.wait_for_state(order, "detected")
    await stage.sim.replace(paid)
    await transfer_is(stage, "replaced")
    await stage.wait_for_state(order, "created")


async def test_it_is_final_once_the_chain_is_and_nothing_else_happens(finality: DaemonHarness) -> None:
    shop = await finality.sim.new_address()
    await invoice_at(finality, shop, "R1")
    await finality.sim.pay(shop, 10)
    await finality.mine(8)
    assert await transfers(finality) == [("included", None)]
    await finality.mine(1)
    assert await transfers(finality) == [("final", None)]
    rows = await finality.database.rows(
        "select to_state from railwatch.transitions where subject = 'unallocated_transfer' order by seq"
    )
    assert [row["to_state"] for row in rows] == ["included", "confirmed", "final"]
    order = await invoice_at(finality, shop, "R9")
    await finality.database.value(ASSIGN, await transfer_id(finality), order.id)
    await finality.wait_for_state(order, "paid")


async def test_a_reorg_while_no_daemon_ran_takes_it_back_too(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    await stage.sim.pay(shop, 10)
    await stage.mine(1)
    await stage.stop()
    await stage.sim.reorg(1, keep=False)
    await stage.start()
    assert await transfers(stage) == [("orphaned", None)]
    assert await stage.state(order) == "created"


async def test_it_is_assigned_while_no_daemon_runs(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order = await invoice_at(stage, shop, "R1")
    await stage.sim.pay(shop, 10)
    await stage.mine(2)
    await stage.stop()
    await stage.database.value(ASSIGN, await transfer_id(stage), order.id)
    assert await stage.state(order) == "created"
    await stage.start()
    await stage.wait_for_state(order, "paid")


async def test_what_is_resolved_by_a_person_stays_so(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    await invoice_at(stage, shop, "R1")
    await stage.sim.pay(shop, 10)
    await stage.mine(1)
    resolve = "select railwatch.resolve_exception(id, 'ann', 'not_ours') from railwatch.exceptions"
    assert await stage.database.value(resolve) == "not_ours"
    await stage.mine(3)
    assert await exceptions(stage) == [("unallocated_transfer", "not_ours")]
    assert await stage.database.value("select count(*) from railwatch.open_exceptions") == 0


async def test_a_suggestion_is_shown_and_never_taken(stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    order, _ = await invoice_at(stage, shop, "R1", 10), await invoice_at(stage, shop, "R2", 20)
    await stage.sim.pay(shop, 10)
    await stage.mine(2)
    transfer = await transfer_id(stage)
    found = await stage.database.rows("select invoice_id from railwatch.transfer_suggestions($1)", transfer)
    assert [row["invoice_id"] for row in found] == [order.id]
    assert await stage.state(order) == "created"

"""What may be paid, and how a service hears of it: exact, partial, over, late, and on a network that is not meant."""

from datetime import UTC, datetime

import pytest

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from tests.acceptance.shop_harness import ShopHarness, opened
from tests.scenarios.daemon_harness import chain_named
from tests.webhooks.shop import until


async def test_exact_payment_with_confirmations(database: Database) -> None:
    async with opened(database, [chain_named()], confirmations=3) as house:
        service, stage = house.service, house.stage
        order = await service.order(await stage.sim.new_address(), 2**200)
        seen = [await service.customer_state(order)]
        await stage.pay(order, 2**200)
        await service.becomes(order, "received")
        for _ in range(3):
            await stage.mine()
            transfer = await service.row("order_transfers", order)
            seen.append(f"{await service.customer_state(order)} {transfer['confirmations']}")
            if transfer["confirmations"] < 3:
                assert await house.fulfilled(order) == (0, 0)
        assert seen == ["waiting", "confirming 1", "confirming 2", "complete 3"]
        line = await service.database.row("select * from railwatch.transitions where to_state = 'paid'")
        assert line
        assert (line["confirmations"], line["seen_amount"], line["confirmed_amount"]) == (3, 2**200, 2**200)
        assert line["evidence"]["policy"] == {"confirmations": 3}
        money = await service.row("order_money", order)
        assert (money["expected_amount"], money["received_amount"]) == (2**200, 2**200)
        assert await house.delivered(order) == [
            *("invoice.created", "invoice.detected", "invoice.confirming", "invoice.paid")
        ]
        assert await house.fulfilled(order) == (1, 0)
        assert await service.open_exceptions(order) == set()


async def test_partial(database: Database) -> None:
    async with opened(database, [chain_named()]) as house:
        service, stage = house.service, house.stage
        order = await service.order(await stage.sim.new_address(), 100)
        await stage.pay(order, 60)
        await stage.mine(2)
        assert await service.customer_state(order) == "issue"
        assert await service.open_exceptions(order) == {"underpaid"}
        missing = "select expected_amount - confirmed_amount from railwatch.destinations where invoice_id = $1"
        assert await service.database.value(missing, order.id) == 40
        assert await house.fulfilled(order) == (0, 0)
        await stage.pay(order, 40)
        await stage.mine(2)
        assert await service.customer_state(order) == "complete"
        assert await service.open_exceptions(order) == set()
        types = [each for each in await house.delivered(order) if each.split(".")[1] not in ("created", "detected")]
        assert types == [
            *("invoice.confirming", "invoice.underpaid", "exception.open.underpaid"),
            *("invoice.confirming", "invoice.paid", "exception.resolved.underpaid"),
        ]
        assert await house.fulfilled(order) == (1, 0)


async def test_over(database: Database) -> None:
    async with opened(database, [chain_named()]) as house:
        service, stage = house.service, house.stage
        order = await service.order(await stage.sim.new_address(), 100)
        await stage.pay(order, 130)
        await stage.mine(2)
        assert await service.customer_state(order) == "complete"
        assert await service.open_exceptions(order) == {"overpaid"}
        assert await house.fulfilled(order) == (1, 0)
        refund = "select railwatch.record_refund($1, 30, 'tx of the surplus', actor => 'finance')"
        assert await service.database.value(refund, order.id) == await service.database.value(refund, order.id)
        with pytest.raises(Refused) as greedy:
            await service.database.value("select railwatch.record_refund($1, 101, 'more', 'finance')", order.id)
        assert greedy.value.code == "RW013"
        [case] = await service.database.rows("select id from railwatch.exceptions where invoice_id = $1", order.id)
        await service.database.value("select railwatch.resolve_exception($1, 'finance', 'refunded')", case["id"])
        money = await service.row("order_money", order)
        assert [int(money[f"{each}_amount"]) for each in ("expected", "received", "refunded")] == [100, 130, 30]
        assert (await house.delivered(order))[-5:] == [
            *("invoice.confirming", "invoice.overpaid", "exception.open.overpaid"),
            *("refund.recorded", "exception.resolved.overpaid"),
        ]
        assert await house.fulfilled(order) == (1, 0)
        assert await service.open_exceptions(order) == set()


async def test_late(database: Database) -> None:
    async with opened(database, [chain_named(clock=lambda: datetime.now(UTC))]) as house:
        service, stage = house.service, house.stage
        order = await service.order(await stage.sim.new_address(), 100, expires_in=1)
        await service.becomes(order, "issue")
        assert await service.transitions(order) == [("created", "created"), ("expired", "expired")]
        await stage.pay(order, 100)
        await stage.mine(2)
        assert (await service.row("orders", order))["state"] == "late_paid"
        assert await service.customer_state(order) == "issue"
        assert await service.open_exceptions(order) == {"late", "unexpected_payment"}
        [way] = await service.database.rows("select * from railwatch.destinations where invoice_id = $1", order.id)
        assert (way["seen_amount"], way["confirmed_amount"], way["late_amount"]) == (0, 0, 100)
        assert (await service.row("order_transfers", order))["in_time"] is False
        assert await house.fulfilled(order) == (0, 0), "whether to fulfil is for a person to decide"
        await service.database.value("select railwatch.record_refund($1, 100, 'tx back', actor => 'ann')", order.id)
        moves = [each for each in await house.delivered(order) if each.startswith(("invoice", "refund"))]
        assert moves[:2] == ["invoice.created", "invoice.expired"]
        assert moves[-3:] == ["invoice.late_paid", "refund.recorded", "invoice.refunded"]
        assert await house.fulfilled(order) == (0, 0)


async def test_unsupported_network(database: Database) -> None:
    """Asked for without a listener, registered with an address of another chain, and paid on the wrong one."""
    async with opened(database, [chain_named(), chain_named("other")]) as house:
        service, stage = house.service, house.stage
        await _is_refused(house)
        foreign = await service.order("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
        shown = await service.row("orders", foreign)
        assert (shown["payable"], shown["customer_state"]) == (False, "waiting")
        rejected = await service.row("order_destinations", foreign)
        assert rejected["watch_state"] == "rejected"
        assert rejected["watch_error"]
        order = await service.order(await stage.sim.new_address(), 100)
        other = stage.simulator(stage.chains[1])
        tx = await other.pay(order.address, 100)
        await other.mine(3)
        await stage.follows()
        await service.has_open(order, "wrong_network")
        assert await service.customer_state(order) == "waiting", "money on another network pays nothing here"
        transfer = await service.row("order_transfers", order)
        assert (transfer["rail"], transfer["kind"], transfer["tx_id"]) == ("other", "wrong_network", tx)
        assert await house.delivered(order) == ["invoice.created", "exception.open.wrong_network"]
        assert await house.fulfilled(order) == (0, 0)
        await stage.pay(order, 100)
        await stage.mine(2)
        assert await service.customer_state(order) == "complete"
        assert await service.open_exceptions(order) == {"wrong_network"}, "the other network's money still has an owner"
        assert await house.fulfilled(order) == (1, 0)


async def _is_refused(house: ShopHarness) -> None:
    address = await house.stage.sim.new_address()
    with pytest.raises(Refused) as nowhere:
        await house.service.register(house.service.request(address, rail="polygon"))
    assert (nowhere.value.code, "story" in (nowhere.value.hint or "")) == ("RW002", True)
    await until(house.shop.owes_nothing)
    assert await house.service.feed() == [], "what is refused leaves nothing behind"

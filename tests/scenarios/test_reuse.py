"""One address, two invoices: the second may have it once the first has ended, but never the first one's money."""

from datetime import UTC, datetime

from railwatch.store.database import Database
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


async def again(stage: DaemonHarness, first: Placed, amount: int = 100) -> Placed:
    """A second invoice at the first one's address."""
    way = {"rail": stage.chain.name, "asset": "COIN", "amount": amount, "address": first.address}
    return await stage.invoice(to=[way])


async def owners(stage: DaemonHarness) -> list[tuple[str, str]]:
    """(order, kind) of every detection, oldest first."""
    rows = await stage.database.rows(
        "select i.order_id, d.kind from railwatch.detections d join railwatch.invoices i on i.id = d.invoice_id"
        " order by d.first_seen_at, d.id"
    )
    return [(row["order_id"], row["kind"]) for row in rows]


async def test_the_look_back_of_a_newer_invoice_never_takes_an_older_ones_payment(stage: DaemonHarness) -> None:
    first = await stage.invoice(100)
    await stage.pay(first, 100)
    await stage.mine(2)
    assert await stage.state(first) == "paid"
    second = await again(stage, first)
    assert await stage.state(second) == "created"
    assert await owners(stage) == [("1", "payment")]
    await stage.pay(second, 100)
    await stage.mine(2)
    assert (await stage.state(first), await stage.state(second)) == ("paid", "paid")
    assert await owners(stage) == [("1", "payment"), ("2", "payment")]


async def test_a_payment_that_returns_after_a_reorg_returns_to_the_invoice_that_had_it(stage: DaemonHarness) -> None:
    first = await stage.invoice(100)
    await stage.pay(first, 100)
    await stage.mine(2)
    second = await again(stage, first)
    await stage.sim.reorg(2, keep=True)
    await stage.follows()
    assert [state for state, _ in await stage.path(first)][-3:] == ["created", "confirming", "paid"]
    assert await stage.state(second) == "created"
    assert await owners(stage) == [("1", "payment")]


async def test_a_rescan_gives_no_payment_to_a_newer_invoice(stage: DaemonHarness) -> None:
    first = await stage.invoice(100)
    await stage.pay(first, 100)
    await stage.mine(2)
    second = await again(stage, first)
    await stage.database.value("select railwatch.request_rescan('story', 0)")
    await stage.rescanned()
    assert (await stage.state(first), await stage.state(second)) == ("paid", "created")
    assert await owners(stage) == [("1", "payment")]


async def test_what_waits_in_the_mempool_stays_with_the_invoice_that_saw_it_first(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(clock=lambda: datetime.now(UTC))]) as stage:
        first = await stage.invoice(100, expires_in=1)
        await stage.wait_for_state(first, "expired")
        late = await stage.pay(first, 100)
        await stage.wait_for_state(first, "detected")
        stage.chain.drop(late)
        await stage.wait_for_state(first, "expired")
        second = await again(stage, first)
        stage.chain.resend(late)
        await stage.mine(2)
        assert (await stage.state(first), await stage.state(second)) == ("late_paid", "created")
        await stage.audit()

"""Watching ends when nothing can come any more: not by the clock alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from railwatch.daemon import supervisor
from railwatch.daemon.follow.mempool_poller import MempoolPoller
from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable
from railwatch.store.watches import CLOSE_BATCH, Closing
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named
from tests.webhooks.shop import Shop, furnish

FORGET = """
alter table railwatch.observations disable trigger all;
alter table railwatch.transitions disable trigger all;
delete from railwatch.observations;
delete from railwatch.transitions where to_state <> 'created';
delete from railwatch.detections;
update railwatch.feed_position set last_seq = (select max(seq) from railwatch.transitions);
update railwatch.invoices set state = 'created', version = 1;
update railwatch.destinations set seen_amount = 0, tallies = '[]';
alter table railwatch.observations enable always trigger append_only;
alter table railwatch.transitions enable always trigger append_only;
"""


@pytest.fixture
async def stage(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DaemonHarness]:
    """A daemon that searches for what can be closed ten times a second; final is what is three deep."""
    monkeypatch.setattr(supervisor, "CLOSE_INTERVAL", 0.1)
    async with DaemonHarness(database, [chain_named(rules=Rules(finality=3))]) as stage:
        yield stage
        await stage.audit()


async def closes(stage: DaemonHarness, invoice: Placed) -> None:
    async def is_closed() -> bool:
        return await stage.watch_states(invoice) == ["closed"]

    await stage.until(is_closed)


async def has_passed(stage: DaemonHarness, invoice: Placed) -> None:
    """Wait until the horizon has passed, and some polls more."""

    async def is_so() -> bool:
        query = "select closes_at < now() - interval '0.7 seconds' from railwatch.invoices where id = $1"
        return bool(await stage.database.value(query, invoice.id))

    await stage.until(is_so)


async def test_an_unpaid_invoice_is_closed_once_its_rail_was_seen_to_the_end(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100, expires_in=1, closes_in=0)
    await closes(stage, invoice)
    assert await stage.state(invoice) in ("created", "expired")
    await stage.wait_for_state(invoice, "expired")


async def test_a_payment_in_time_is_found_though_the_node_was_unreachable_at_the_horizon(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100, expires_in=2, closes_in=0)
    node = node_of(stage.chain.name)
    node.down = True
    stage.chain.send(stage.sim.output(invoice.address, 100))
    stage.chain.mine()
    await has_passed(stage, invoice)
    assert await stage.watch_states(invoice) == ["watching"]
    node.down = False
    await stage.mine(3)
    await stage.wait_for_state(invoice, "paid")
    await stage.mine(3)
    await closes(stage, invoice)


async def test_a_watch_does_not_end_before_late_blocks_have_come(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No watch ends before its window does: a block that arrives after its time pays, and is not missed."""
    monkeypatch.setattr(supervisor, "CLOSE_INTERVAL", 0.1)
    behind = [timedelta(0)]
    chain = chain_named(rules=Rules(mempool=False, finality=2), clock=lambda: datetime.now(UTC) - behind[0])
    async with DaemonHarness(database, [chain], options={"time_margin": 4}) as stage:
        invoice = await stage.invoice(100, expires_in=2, closes_in=0)
        await has_passed(stage, invoice)
        behind[0] = timedelta(seconds=3)
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        await stage.mine(2)
        await closes(stage, invoice)
        assert [state for state, _ in await stage.path(invoice)] == ["created", "confirming", "paid"]


async def test_no_watch_and_no_window_ends_by_blocks_that_are_stamped_ahead(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CLOSE_INTERVAL", 0.1)
    ahead = [timedelta(hours=2)]
    chain = chain_named(rules=Rules(mempool=False, finality=2), clock=lambda: datetime.now(UTC) + ahead[0])
    async with DaemonHarness(database, [chain]) as stage:
        invoice = await stage.invoice(100, expires_in=3, closes_in=0)
        await stage.mine(3)
        await asyncio.sleep(0.5)
        covered = "select covered_until <= now() from railwatch.rails"
        assert await stage.database.value(covered)
        assert (await stage.state(invoice), await stage.watch_states(invoice)) == ("created", ["watching"])
        ahead[0] = timedelta(0)
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        await stage.mine(2)
        await closes(stage, invoice)


async def test_a_payment_that_a_reorg_has_just_removed_keeps_the_watch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mempool shows that it is on its way to another block, and after a restart only what is watched is found."""
    monkeypatch.setattr(supervisor, "CLOSE_INTERVAL", 0.1)
    chain = chain_named(rules=Rules(mempool=False, finality=8))
    async with DaemonHarness(database, [chain], options={"time_margin": 0}) as stage:
        invoice = await stage.invoice(100, expires_in=2, closes_in=0)
        tx = stage.chain.send(stage.sim.output(invoice.address, 100))
        await stage.mine(2)
        stage.chain.reorg(2, keep=False)
        await stage.wait_for_state(invoice, "created")
        await stage.wait_for_state(invoice, "expired")
        await asyncio.sleep(0.5)
        await stage.stop()
        await stage.start()
        stage.chain.waiting[tx.id] = tx
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        await stage.mine(10)
        await closes(stage, invoice)


async def test_what_is_on_its_way_keeps_the_watch(stage: DaemonHarness) -> None:
    """Seen in the mempool in time; the daemon restarts, and the transfer is dropped there and mined later."""
    invoice = await stage.invoice(100, expires_in=1, closes_in=0)
    await stage.pay(invoice)
    await stage.wait_for_state(invoice, "detected")
    await has_passed(stage, invoice)
    assert await stage.watch_states(invoice) == ["watching"]
    await stage.stop()
    await stage.start()
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    assert await stage.watch_states(invoice) == ["watching"], "it may still be reversed"
    await stage.mine(4)
    await closes(stage, invoice)


async def test_a_rail_that_was_given_up_keeps_nothing_open(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100, expires_in=2, closes_in=0)
    await stage.stop()
    await has_passed(stage, invoice)
    assert await Closing(stage.database).turn() == 0
    await stage.database.rows("update railwatch.rails set given_up = true")
    assert await Closing(stage.database).turn() == 1
    assert await stage.watch_states(invoice) == ["closed"]
    await stage.database.rows("update railwatch.rails set given_up = false")
    await stage.start()


async def test_what_is_closed_no_longer_holds_its_address(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100, expires_in=2, closes_in=0)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "underpaid")
    await stage.mine(4)
    await closes(stage, invoice)
    again = await stage.order(invoice.address, 100)
    await stage.all_taken_in()
    assert await stage.watch_states(again) == ["watching"]
    assert again.id != invoice.id


async def test_many_that_have_to_wait_do_not_keep_others_open(database: Database) -> None:
    """A rail that is halted for good keeps some thousand; behind them one can be closed."""
    await furnish(database)
    order = await Shop(database).order()
    await database.rows("update railwatch.rails set covered_until = now()")
    await database.rows(
        """
        insert into railwatch.invoices (merchant_id, order_id, state, expires_at, closes_at, policy, time_basis, terms)
        select 'shop', 'x' || n, 'created', now() - interval '2 days', now() - interval '1 day', '{}', 'first_seen',
               '{}'
        from generate_series(1, $1::int) n""",
        CLOSE_BATCH + 7,
    )
    await database.rows("""
        insert into railwatch.destinations
            (invoice_id, rail, asset, address, expected_amount, policy, policy_origin, family, address_folded, position)
        select i.id, 'story', d.asset, 'a' || i.id, 1, '{}', 'default', 'fake', 'a' || i.id, 1
        from railwatch.invoices i, railwatch.destinations d where i.order_id like 'x%' and d.invoice_id <> i.id""")
    watching = "update railwatch.destinations set watch_state = 'watching' where invoice_id = $1"
    await database.rows(watching, order)
    past = "update railwatch.invoices set closes_at = now() - interval '1 minute' where id = $1"
    await database.rows(past, order)
    assert await Closing(database).turn() == 1, "the others were never watched: they are registered"
    closed = await database.value("select id from railwatch.invoices where closed_at is not null")
    assert closed == UUID(str(order))


async def test_what_waits_at_an_address_is_reported_to_the_order_that_is_registered_there_next(
    stage: DaemonHarness,
) -> None:
    """The snapshot of the mempool stays the same, and yet an invoice needs it now."""
    closed, other = await stage.invoice(100, expires_in=1, closes_in=0), await stage.invoice(100)
    await closes(stage, closed)
    await stage.pay(closed)
    await stage.pay(other)
    await stage.wait_for_state(other, "detected")
    order = await stage.order(closed.address)
    await stage.wait_for_state(order, "detected")


async def test_what_postgres_has_lost_of_the_mempool_is_emitted_again(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica took over that had not heard of it. The daemon kept its lease, and the mempool is as it was."""
    order = await stage.invoice(100)
    await stage.pay(order)
    await stage.wait_for_state(order, "detected")
    poll, failed = MempoolPoller.poll, asyncio.Event()

    async def fail_once(poller: MempoolPoller, *given: Any) -> bool:
        if not failed.is_set():
            async with stage.database.connection() as connection:
                await connection.execute(FORGET)
            failed.set()
            raise StoreUnavailable("another server answers now")
        return await poll(poller, *given)

    monkeypatch.setattr(MempoolPoller, "poll", fail_once)
    await failed.wait()
    await stage.wait_for_state(order, "detected")
    assert await stage.path(order) == [("created", "created"), ("detected", "seen")]

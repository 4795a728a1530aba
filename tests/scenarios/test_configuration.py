"""The configuration never hides money: what open orders ask for is looked for, or the daemon says why it is not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from railwatch.config import Config
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.store.database import Database
from railwatch.store.errors import Refused, StoreError
from railwatch.store.invoices import rename_rail
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """A rail with two tokens, of which each story configures what it needs."""
    async with DaemonHarness(database, [chain_named(rules=Rules(tokens=("gold", "silver")))]) as stage:
        yield stage
        await stage.audit()


async def kinds(stage: DaemonHarness, invoice: Any) -> list[str]:
    rows = await stage.database.rows("select kind from railwatch.detections where invoice_id = $1", invoice.id)
    return sorted(row["kind"] for row in rows)


async def test_a_payment_in_an_asset_that_left_the_configuration_is_a_payment(stage: DaemonHarness) -> None:
    gold = [{"rail": "story", "asset": "GOLD", "amount": 100}]
    paid, open_ = await stage.invoice(to=gold), await stage.invoice(to=gold)
    await stage.stop()
    stage.tokens = ["silver"]
    await stage.start()
    await stage.pay(paid, 100, asset="fake:story/token:gold")
    await stage.mine(2)
    await stage.wait_for_state(paid, "paid")
    assert await kinds(stage, paid) == ["payment"]
    with pytest.raises(Refused, match="unknown asset"):
        await stage.database.value("select railwatch.create_invoice($1)", gold_order("later"))
    await stage.stop()
    await stage.start()
    await stage.pay(open_, 100, asset="fake:story/token:gold")
    await stage.mine(2)
    await stage.wait_for_state(open_, "paid")


async def test_what_is_small_in_an_asset_stays_small_after_it_left_the_configuration(stage: DaemonHarness) -> None:
    order = await stage.invoice(to=[{"rail": "story", "asset": "GOLD", "amount": 100}])
    await stage.database.value("update railwatch.assets set min_amount = 5 where contract = 'gold' returning 1")
    await stage.stop()
    stage.tokens = ["silver"]
    await stage.start()
    await stage.pay(order, 4, asset="fake:story/token:gold")
    await stage.mine(2)
    small = "select small_count, small_amount from railwatch.destinations where invoice_id = $1"
    assert tuple(await stage.database.row(small, order.id) or ()) == (1, 4)
    assert await kinds(stage, order) == []


def gold_order(name: str) -> dict[str, Any]:
    way = {"rail": "story", "asset": "GOLD", "amount": 100, "address": f"late-{name}"}
    return {"merchant_id": "shop", "order_id": name, "expires_in": 3600, "destinations": [way]}


async def test_an_asset_that_nobody_waits_for_is_not_looked_for_any_more(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.stop()
    stage.tokens = ["silver"]
    await stage.start()
    await stage.pay(invoice, 100, asset="fake:story/token:gold")
    await stage.mine(2)
    assert await kinds(stage, invoice) == ["unsupported_asset"]


async def refused(stage: DaemonHarness, config: Config) -> str:
    with pytest.raises(StoreError) as caught:
        async with asyncio.timeout(10):
            await serve(config, None, NullReporter())
    return str(caught.value)


def config_of(stage: DaemonHarness, **changes: Any) -> Config:
    """The stage's configuration with its only rail under another name, on another chain, or given up."""
    config = stage.config
    rail = config.rails[0].model_copy(update={key: value for key, value in changes.items() if key != "unfollowed"})
    policies = tuple(each.model_copy(update={"rail": rail.name}) for each in config.policies)
    invoices = config.invoices.model_copy(update={"unfollowed_rails": changes.get("unfollowed", ())})
    return config.model_copy(update={"rails": (rail,), "policies": policies, "invoices": invoices})


async def test_a_rail_does_not_leave_the_configuration_while_invoices_are_open_there(stage: DaemonHarness) -> None:
    await stage.invoice(100)
    paid = await stage.invoice(100)
    await stage.pay(paid)
    await stage.mine(2)
    await stage.wait_for_state(paid, "paid")
    await stage.stop()
    other = chain_named("another")
    other.mine()
    elsewhere = replace(stage, chains=[other], _daemon=None)
    told = await refused(elsewhere, elsewhere.config)
    assert "rail story is no longer in the configuration, and 1 invoices are open there" in told
    assert "(payments that are not final yet: 1)" in told
    assert "railwatch rail rename story NEW" in told
    assert (await stage.rail())["enabled"]
    given_up = config_of(elsewhere, unfollowed=("story",))
    daemon = asyncio.create_task(serve(given_up, None, NullReporter()))
    await elsewhere.until(elsewhere._is_at_tip)  # only enabled rails are asked
    row = await stage.rail()
    assert (row["enabled"], row["given_up"], row["state"]) == (False, True, "stalled")
    daemon.cancel()
    await asyncio.gather(daemon, return_exceptions=True)
    await stage.start()
    row = await stage.rail()
    assert (row["enabled"], row["given_up"]) == (True, False)


async def test_a_renamed_rail_goes_on_under_its_new_name(stage: DaemonHarness) -> None:
    paid, waiting = await stage.invoice(100), await stage.invoice(100)
    tx = await stage.pay(paid)
    await stage.mine(2)
    await stage.wait_for_state(paid, "paid")
    await stage.database.value("select railwatch.record_refund($1, 30, 'back', actor => 'ann')", paid.id)
    with pytest.raises(Refused, match=r"is followed by .*/") as caught:
        await rename_rail(stage.database, "story", "main")
    assert caught.value.code == "RW043"
    await stage.stop()
    config = config_of(stage, name="main")
    told = await refused(stage, config)
    assert "Run: railwatch rail rename story main" in told
    await rename_rail(stage.database, "story", "main")
    before = await stage.database.value("select count(*) from railwatch.detections")
    daemon = asyncio.create_task(serve(config, None, NullReporter()))

    async def is_at_tip() -> bool:
        row = await stage.database.row("select cursor_hash, state from railwatch.rails where name = 'main'")
        return row is not None and tuple(row) == (stage.chain.tip.hash, "live")

    await stage.until(is_at_tip)
    await stage.database.value("select railwatch.request_rescan('main', 0)")
    await stage.rescanned()
    assert await stage.database.value("select count(*) from railwatch.detections") == before, "the same ids"
    await stage.sim.pay(waiting.address, 100)
    await stage.sim.mine(2)
    await stage.wait_for_state(waiting, "paid")
    assert await kinds(stage, waiting) == await kinds(stage, paid) == ["payment"]
    assert await stage.database.value("select tx_id from railwatch.detections where invoice_id = $1", paid.id) == tx
    await stage.sim.reorg(4, keep=False)
    await stage.until(is_at_tip)
    await stage.wait_for_state(paid, "created")
    daemon.cancel()
    await asyncio.gather(daemon, return_exceptions=True)
    stage.chains = ()


async def test_renaming_leaves_no_table_behind_but_the_feed(stage: DaemonHarness) -> None:
    """Whatever table names a rail, later ones too."""
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await stage.database.value("select railwatch.record_refund($1, 30, 'back', actor => 'ann')", invoice.id)
    await stage.stop()
    await rename_rail(stage.database, "story", "main")
    rows = await stage.database.rows("""
        select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'rail'
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind = 'r' and not a.attisdropped""")
    left = {
        row["relname"]
        for row in rows
        if await stage.database.value(f"select count(*) from railwatch.{row['relname']} where rail = 'story'")
    }
    assert left == {"transitions"}
    assert (
        await stage.database.value("select string_agg(name || ' ' || origin, ',') from railwatch.rails") == "main story"
    )
    with pytest.raises(Refused, match="had"):
        await rename_rail(stage.database, "main", "main")
    with pytest.raises(Exception, match="append-only"):
        await stage.database.rows("update railwatch.refunds set rail = 'x'")
    await rename_rail(stage.database, "main", "third")
    assert await stage.database.value("select name || ' ' || origin from railwatch.rails") == "third story"
    await rename_rail(stage.database, "third", "story")
    await stage.start()


async def test_a_new_rail_may_not_have_the_name_that_ids_of_another_derive_from(stage: DaemonHarness) -> None:
    await stage.stop()
    await rename_rail(stage.database, "story", "main")
    config = config_of(stage, chain_id="fake:else", unfollowed=("main",))
    assert "rail main had it before" in await refused(stage, config)
    await rename_rail(stage.database, "main", "story")
    await stage.start()


# What views say of a rail


async def views(stage: DaemonHarness) -> tuple[Any, ...]:
    row = await stage.database.row(
        "select o.payable, o.rails_live, d.rail_state from railwatch.orders o join railwatch.order_destinations d "
        "using (invoice_id)"
    )
    return tuple(row or ())


async def test_while_nobody_follows_a_rail_no_view_says_that_it_is_live(stage: DaemonHarness) -> None:
    await stage.invoice(100)
    assert await views(stage) == (True, True, "live")
    await stage.stop()
    assert await views(stage) == (False, False, "not followed")
    await stage.start()
    await stage.until(lambda: is_(stage, (True, True, "live")))
    await stage.database.rows("update railwatch.leases set expires_at = now() - interval '1 second'")
    row = await views(stage)
    assert row in ((False, False, "not followed"), (True, True, "live")), "until it is renewed"


async def is_(stage: DaemonHarness, wanted: tuple[Any, ...]) -> bool:
    return await views(stage) == wanted


async def test_a_halted_rail_stays_halted_in_every_view(stage: DaemonHarness) -> None:
    await stage.invoice(100)
    await stage.stop()
    await stage.database.rows("update railwatch.rails set state = 'halted'")
    assert await views(stage) == (False, False, "halted")

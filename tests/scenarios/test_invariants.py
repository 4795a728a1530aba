"""What must hold under every daemon and every look-back: each test is named by its invariant."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from railwatch.daemon import rail_runner
from railwatch.daemon.exception_monitor import ExceptionMonitor
from railwatch.store.clock import ClockStore
from railwatch.store.database import Database
from railwatch.store.watches import ACCEPT_DESTINATIONS, WatchStore
from railwatch_fake import Rules, node_of
from tests.scenarios.cut_proxy import Cutter
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named
from tests.scenarios.test_lease import becomes_holder, twin

HOUR_AGO = "update railwatch.destinations set accepted_at = now() - interval '1 hour' where true returning 1"


async def test_the_index_is_never_older_than_the_lease_after_hours_of_waiting(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with twin(stage, monkeypatch):
        await asyncio.sleep(1.5)
        invoice = await stage.invoice(100)
        await stage.database.value(HOUR_AGO)
        await stage.stop()
        await becomes_holder(stage, "twin")
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")


async def test_the_index_is_never_older_than_the_lease_after_one_that_was_lost(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with twin(stage, monkeypatch):
        await asyncio.sleep(1.5)
        node_of("story").hangs = True

        async def taken() -> bool:
            await stage.database.value(
                "update railwatch.leases set expires_at = now() - interval '1 second' "
                "where holder <> 'twin' returning 1"
            )
            return bool(await stage.database.value("select holder = 'twin' from railwatch.leases"))

        await stage.until(taken)
        invoice = await stage.invoice(100)
        await stage.database.value(HOUR_AGO)
        node_of("story").hangs = False
        await asyncio.sleep(6)  # the first has noticed, and waits
    # The twin has ended.
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")


async def test_additions_to_the_watch_are_numbered_in_the_order_of_their_commits(stage: DaemonHarness) -> None:
    await stage.stop()
    placed = [await stage.order(await stage.sim.new_address()) for _ in range(2)]
    ids = [
        await stage.database.value("select id from railwatch.destinations where invoice_id = $1", each.id)
        for each in placed
    ]
    store = WatchStore(stage.database, "fake")
    start = await store.position()
    async with stage.database.transaction() as slow:
        await slow.fetch(ACCEPT_DESTINATIONS, [ids[0]], [b"a" * 20], ["a"], "fake")
        quick = asyncio.create_task(store.accept([(ids[1], b"b" * 20, "b")]))
        await asyncio.sleep(0.3)
        assert not quick.done()
        assert await store.accepted_after(start) == ([], start)
    await quick
    keys, reached = await store.accepted_after(start)
    assert (keys, reached) == ([b"a" * 20, b"b" * 20], start + 2)


async def test_no_inclusion_outlives_its_block_a_restart_forgets_no_checkpoint(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine()
    await stage.stop()
    await stage.start()
    await stage.mine()
    await stage.wait_for_state(invoice, "paid")
    stage.chain.reorg(1, keep=False)
    stage.chain.mine()
    await stage.follows()
    assert (await stage.rail())["rewinds"] == 1
    assert "reversed" not in [reason for _, reason in await stage.path(invoice)]
    assert await stage.state(invoice) == "paid"


async def test_no_inclusion_outlives_its_block_a_rescan_on_a_branch_that_the_follower_has_not_seen(
    database: Database,
) -> None:
    chain = chain_named(rules=Rules(mempool=False))
    async with DaemonHarness(database, [chain], options={"poll_interval": 3}) as stage:
        await stage.mine(20)
        gone, came = await stage.invoice(100), await stage.invoice(100)
        await stage.pay(gone)
        await stage.mine(5)
        await stage.wait_for_state(gone, "paid")
        node_of("story").silent = True
        chain.reorg(6, keep=False)
        await stage.sim.pay(came.address, 100)
        chain.mine(2)
        await stage.database.value("select railwatch.request_rescan('story', 19, 24)")
        await stage.follows()
        await stage.rescanned()
        await stage.wait_for_state(came, "paid")
        await stage.wait_for_state(gone, "created")
        assert (await stage.path(gone))[-1] == ("created", "reversed")
        line = {block.hash for block in chain.line}
        stored = await database.rows("select hash from railwatch.checkpoints")
        assert {row["hash"] for row in stored} <= line
        await stage.audit()


async def test_a_daemon_acquires_its_own_lease_again_when_its_connections_are_silently_dropped(
    database: Database,
) -> None:
    with tempfile.TemporaryDirectory(prefix="railwatch-cut-") as name:
        async with (
            Cutter(Path(name), database.dsn) as wire,
            DaemonHarness(database, [chain_named()], daemon_dsn=wire.dsn) as stage,
        ):
            invoice = await stage.invoice(100)
            before = (await stage.rail())["epoch"]
            wire.freeze()
            began = time.monotonic()
            while (await stage.rail())["epoch"] == before:
                assert time.monotonic() - began < 30, "the daemon waits for itself"
                await asyncio.sleep(0.2)
            await stage.pay(invoice)
            await stage.mine(2)
            await stage.wait_for_state(invoice, "paid")


async def test_an_orderly_stop_leaves_no_rail_that_is_called_live(stage: DaemonHarness) -> None:
    await stage.stop()
    row = await stage.rail()
    assert (row["state"], row["reason"].startswith("not followed")) == ("stalled", True)


# Rescans


async def rescan_of(database: Database, known: Any) -> dict[str, Any]:
    row = await database.row("select * from railwatch.rescans where id = $1", known)
    assert row is not None
    return dict(row)


async def test_a_rescan_delays_no_registration(database: Database) -> None:
    chain = chain_named(rules=Rules(mempool=False, lookback=1, span_max=20, horizon=10))
    async with DaemonHarness(database, [chain]) as stage:
        await stage.mine(600)
        node_of("story").latency = 0.01
        known = await database.value("select railwatch.request_rescan('story', 0)")
        await asyncio.sleep(1)
        began = time.monotonic()
        await stage.invoice(100)
        assert time.monotonic() - began < 3
        assert (await rescan_of(database, known))["finished_at"] is None
        again = await database.value("select railwatch.request_rescan('story', 5, 7)")
        assert again == known
        assert await database.value("select railwatch.cancel_rescan($1, 'ann', 'enough')", known) == "cancelled"
        row = await rescan_of(database, known)
        assert (row["outcome"], row["ended_by"], row["error"]) == ("cancelled", "ann", "enough")
        assert await database.value("select railwatch.request_rescan('story', 5, 7)") != known


async def test_a_rescan_that_cannot_be_served_harms_itself_only(database: Database) -> None:
    chain = chain_named(rules=Rules(mempool=False, lookback=1, horizon=10))
    async with DaemonHarness(database, [chain]) as stage:
        await stage.mine(60)
        node_of("story").pruned_below = 30
        known = await database.value("select railwatch.request_rescan('story', 5)")

        async def says_why() -> bool:
            return "is pruned" in str((await rescan_of(database, known))["error"])

        await stage.until(says_why)
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        assert (await rescan_of(database, known))["outcome"] == "failed"


async def test_a_rescan_of_blocks_that_cannot_be_read_fails_alone(database: Database) -> None:
    chain = chain_named(rules=Rules(mempool=False, lookback=1, horizon=10))
    async with DaemonHarness(database, [chain]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(40)
        node_of("story").undecodable = True
        known = await database.value("select railwatch.request_rescan('story', 0)")
        await stage.rescanned()
        assert (await rescan_of(database, known))["outcome"] == "failed"
        node_of("story").undecodable = False
        await stage.mine()


# Harm that stays where it is


async def poison(database: Database, invoice: Placed) -> Any:
    """Make an invoice such as no version of ours has written; returns the policy that it had."""
    policy = await database.value("select policy from railwatch.destinations where invoice_id = $1", invoice.id)
    await database.value("update railwatch.destinations set policy = '[7]' where invoice_id = $1", invoice.id)
    return policy


async def test_an_invoice_that_cannot_be_weighed_stops_no_other(stage: DaemonHarness) -> None:
    bad, good = await stage.invoice(100), await stage.invoice(100)
    await stage.stop()
    await poison(stage.database, bad)
    await stage.database.value("update railwatch.invoices set exceptions_checked_version = 0 where true")
    counted: list[str] = []
    alarms = ExceptionMonitor(ClockStore(stage.database), counted.append)
    await alarms.check()
    rows = await stage.database.rows("select id from railwatch.invoices where exceptions_checked_version <> version")
    assert ([row["id"] for row in rows], counted) == ([bad.id], ["invoice"])
    await alarms.check()
    assert counted == ["invoice"]
    assert await stage.state(good) == "created"


async def test_a_failure_that_hits_every_invoice_halts_the_rail_by_name_until_it_is_resumed(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rail_runner, "RESTART_MIN_SECONDS", 0.01)
    bad, worse = await stage.invoice(100), await stage.invoice(100)
    policy = await poison(stage.database, bad)
    await poison(stage.database, worse)

    await stage.pay(bad)
    await stage.pay(worse)
    await stage.sim.mine()
    reason = await stage.rail_is("halted")
    assert "railwatch rail resume story" in reason
    for invoice in (bad, worse):
        await stage.database.value(
            "update railwatch.destinations set policy = $2 where invoice_id = $1", invoice.id, policy
        )
    assert await stage.database.value("select railwatch.resume_rail('story', 'ann')") == "starting"
    await stage.mine(2)
    await stage.wait_for_state(bad, "paid")
    await stage.wait_for_state(worse, "paid")


async def test_what_money_has_arrived_at_is_never_rejected(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.wait_for_state(invoice, "detected")
    await stage.stop()
    known = await stage.database.value(
        "update railwatch.destinations set watch_state = 'registered' where invoice_id = $1 returning id", invoice.id
    )
    assert await WatchStore(stage.database, "fake").reject([(known, "no")]) == set()
    assert await stage.watch_states(invoice) == ["registered"]

"""One invoice that fails in its step harms itself only, and loses nothing of what the chain showed for it."""

import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from railwatch.daemon import rail_runner
from railwatch.store import quarantine
from railwatch.store.database import Database
from railwatch.store.watches import close_expired_watches
from railwatch_fake import Output
from tests.scenarios.cut_proxy import Cutter
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the ten seconds between attempts."""
    monkeypatch.setattr(quarantine, "RETRY_FIRST", 0.2)


async def poison(database: Database, invoice: Placed) -> Any:
    """Make an invoice such as no version of ours has written: it cannot be loaded. Returns the policy that it had."""
    policy = await database.value("select policy from railwatch.destinations where invoice_id = $1", invoice.id)
    await database.value("update railwatch.destinations set policy = '[7]' where invoice_id = $1", invoice.id)
    return policy


async def heal(stage: DaemonHarness, invoice: Placed, policy: Any) -> None:
    """Repair the row, and wait until the invoice has caught up."""
    await stage.database.value(
        "update railwatch.destinations set policy = $2 where invoice_id = $1", invoice.id, policy
    )
    await caught_up(stage, invoice)


async def is_quarantined(stage: DaemonHarness, invoice: Placed) -> bool:
    asked = "select true from railwatch.quarantine where invoice_id = $1"
    return bool(await stage.database.value(asked, invoice.id))


async def caught_up(stage: DaemonHarness, invoice: Placed) -> None:
    async def is_so() -> bool:
        return not await is_quarantined(stage, invoice)

    await stage.until(is_so, lambda: stage.database.rows("select reason, tries from railwatch.quarantine"))


async def quarantined(stage: DaemonHarness, invoice: Placed) -> None:
    await stage.until(lambda: is_quarantined(stage, invoice))


async def kept(stage: DaemonHarness, invoice: Placed) -> int:
    asked = "select count(*) from railwatch.deferred_transfers where invoice_id = $1 and not orphaned"
    return int(await stage.database.value(asked, invoice.id))


async def test_one_that_cannot_be_loaded_is_set_aside_and_the_others_are_paid_in_the_same_block(
    stage: DaemonHarness,
) -> None:
    bad, *good = [await stage.invoice(100) for _ in range(4)]
    await stage.stop()
    policy = await poison(stage.database, bad)
    for invoice in (bad, *good):
        await stage.pay(invoice)
    await stage.sim.mine()
    await stage.start()
    assert [await stage.state(each) for each in good] == ["confirming"] * 3
    assert await stage.state(bad) == "created"
    await stage.mine()
    assert [await stage.state(each) for each in good] == ["paid"] * 3
    assert await stage.open_cases(bad) == {"processing_failed"}
    row = await stage.database.row("select * from railwatch.quarantine")
    assert row is not None
    assert "TypeError" in row["reason"] or "AttributeError" in row["reason"]
    await heal(stage, bad, policy)
    assert (await stage.path(bad))[-2:] == [("confirming", "included"), ("paid", "confirmed")]
    assert await stage.path(bad, "exception") == [("open", "processing_failed"), ("resolved", "processing_failed")]
    assert await kept(stage, bad) == 0


@pytest.mark.parametrize("column", ["tx_id", "amount"])
async def test_one_that_postgres_refuses_to_write_is_set_aside(stage: DaemonHarness, column: str) -> None:
    bad, good = await stage.invoice(100), await stage.invoice(100)
    await stage.database.value(
        f"alter table railwatch.detections add constraint no check (invoice_id <> '{bad.id}' or {column} is null)"
    )
    await stage.pay(bad)
    await stage.pay(good)
    await stage.mine(2)
    await stage.wait_for_state(good, "paid")
    await quarantined(stage, bad)
    await stage.database.value("alter table railwatch.detections drop constraint no")
    await caught_up(stage, bad)
    assert await stage.state(bad) == "paid"


async def test_a_value_that_no_column_accepts_is_no_reason_to_wait_for_postgres(stage: DaemonHarness) -> None:
    bad, good = await stage.invoice(100), await stage.invoice(100)
    key = await stage.database.value("select address_key from railwatch.destinations where invoice_id = $1", bad.id)
    stage.chain.send(Output(key, 100), maturity=2**40)
    await stage.pay(good)
    await stage.mine(2)
    await stage.wait_for_state(good, "paid")
    await quarantined(stage, bad)


async def test_what_a_reorg_removed_meanwhile_is_not_accepted(stage: DaemonHarness) -> None:
    bad = await stage.invoice(100)
    policy = await poison(stage.database, bad)
    await stage.pay(bad)
    await stage.mine(3)
    await quarantined(stage, bad)
    assert await kept(stage, bad) == 1
    await stage.sim.reorg(3, keep=False)
    await stage.follows()
    assert await kept(stage, bad) == 0
    await heal(stage, bad, policy)
    assert await stage.state(bad) == "created"
    again = await stage.pay(bad)
    await stage.mine(2)
    await stage.wait_for_state(bad, "paid")
    assert again


@pytest.mark.parametrize("keep", [True, False])
async def test_what_was_emitted_before_is_reversed_when_a_reorg_came_meanwhile(
    stage: DaemonHarness, keep: bool
) -> None:
    bad = await stage.invoice(100)
    await stage.pay(bad)
    await stage.mine(2)
    await stage.wait_for_state(bad, "paid")
    policy = await poison(stage.database, bad)
    await stage.pay(bad, 7)
    await stage.mine()
    await quarantined(stage, bad)
    await stage.sim.reorg(3, keep=keep)
    await stage.follows()
    await stage.mine(2)
    assert await stage.state(bad) == "paid"
    await heal(stage, bad, policy)
    path = await stage.path(bad)
    assert ("created", "reversed") in path
    assert path[-1][0] == ("overpaid" if keep else "created")
    assert ("reversed" in await stage.open_cases(bad)) is not keep


async def test_no_window_ends_for_one_whose_payment_waits_in_quarantine(stage: DaemonHarness) -> None:
    bad, other = await stage.invoice(100, expires_in=2), await stage.invoice(100, expires_in=2)
    policy = await poison(stage.database, bad)
    await stage.pay(bad)
    await stage.mine()
    await quarantined(stage, bad)
    await stage.wait_for_state(other, "expired")
    await stage.mine(2)
    assert await stage.state(bad) == "created"
    await heal(stage, bad, policy)
    assert await stage.state(bad) == "paid"
    assert await stage.open_cases(bad) == set()


async def test_first_sight_in_the_mempool_counts_though_its_invoice_was_in_quarantine(stage: DaemonHarness) -> None:
    bad = await stage.invoice(100, expires_in=3)
    policy = await poison(stage.database, bad)
    tx = await stage.pay(bad)
    stage.chain.hold(tx)
    await quarantined(stage, bad)
    await stage.database.value("update railwatch.invoices set expires_at = now() where id = $1", bad.id)
    await stage.mine()
    stage.chain.release(tx)
    await stage.mine(2)
    await heal(stage, bad, policy)
    assert await stage.state(bad) == "paid"


async def test_it_survives_restarts_and_each_start_tries_again(stage: DaemonHarness) -> None:
    bad = await stage.invoice(100)
    policy = await poison(stage.database, bad)
    await stage.pay(bad)
    await stage.mine(2)
    await quarantined(stage, bad)
    await stage.stop()
    await stage.database.value("update railwatch.quarantine set retry_at = now() + interval '1 hour'")
    await stage.start()
    await heal(stage, bad, policy)
    assert await stage.state(bad) == "paid"


async def test_while_it_fails_it_is_tried_later_each_time(stage: DaemonHarness) -> None:
    bad = await stage.invoice(100)
    await poison(stage.database, bad)
    await stage.pay(bad)
    await stage.mine()
    await quarantined(stage, bad)

    async def has_failed_again() -> bool:
        return bool(await stage.database.value("select tries >= 2 from railwatch.quarantine"))

    await stage.until(has_failed_again)
    assert await stage.path(bad, "exception") == [("open", "processing_failed")]


async def test_no_watch_ends_while_an_invoice_is_in_quarantine(stage: DaemonHarness) -> None:
    bad = await stage.invoice(100, expires_in=2, closes_in=0)
    policy = await poison(stage.database, bad)
    await stage.pay(bad)
    await stage.mine()
    await quarantined(stage, bad)
    await stage.database.value(
        "update railwatch.invoices set expires_at = now(), closes_at = now() where id = $1", bad.id
    )
    await stage.mine(2)
    await close_expired_watches(stage.database)
    assert await stage.watch_states(bad) == ["watching"]
    await heal(stage, bad, policy)


async def test_a_hold_that_is_released_expires_nothing_in_quarantine(stage: DaemonHarness) -> None:
    """What was paid in time is kept aside, and is yet to be counted."""
    bad = await stage.invoice(100)
    policy = await poison(stage.database, bad)
    await stage.pay(bad)
    await stage.mine()
    await quarantined(stage, bad)
    await stage.database.value("select railwatch.hold_invoice($1, actor => 'ann', reason => 'looks odd')", bad.id)
    await stage.database.value(
        "update railwatch.invoices set expires_at = now() - interval '1 second' where id = $1", bad.id
    )
    await stage.database.value("update railwatch.rails set covered_until = now() + interval '1 day'")
    await stage.database.value("select railwatch.release_invoice($1, actor => 'ann')", bad.id)
    assert await stage.state(bad) == "created"
    await heal(stage, bad, policy)


async def test_single_failures_in_a_row_that_nothing_succeeds_between_are_ours(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rail_runner, "RESTART_MIN_SECONDS", 0.01)
    some = [await stage.invoice(100) for _ in range(7)]
    policies = [await poison(stage.database, each) for each in some]
    for invoice in some:
        await stage.pay(invoice)
        await stage.sim.mine()
        if (await stage.rail())["state"] != "live":
            break
    reason = await stage.rail_is("halted")
    assert "the daemon cannot process invoice" in reason
    assert await stage.database.value("select count(*) from railwatch.quarantine") <= 5
    for invoice, policy in zip(some, policies, strict=True):
        await stage.database.value(
            "update railwatch.destinations set policy = $2 where invoice_id = $1", invoice.id, policy
        )
    await stage.database.value("select railwatch.resume_rail('story', 'ann')")
    await stage.mine(2)
    for invoice in some:
        await stage.wait_for_state(invoice, "paid")


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("before", [True, False])
async def test_killed_at_each_commit_it_loses_nothing(database: Database, before: bool, every: int) -> None:
    """Set aside, deferred, a reorg, caught up: the connection is lost at each commit, before and after it is done."""
    with tempfile.TemporaryDirectory() as name:
        async with (
            Cutter(Path(name), database.dsn) as wire,
            DaemonHarness(database, [chain_named()], daemon_dsn=wire.dsn) as stage,
        ):
            for nth in range(1 + before, 9, every):
                bad, good = await stage.invoice(100), await stage.invoice(100)
                policy = await poison(database, bad)
                wire.strike_at(nth, before=before)
                await stage.pay(bad)
                await stage.pay(good)
                await stage.sim.mine(2)
                await mended(stage, wire)
                await stage.sim.reorg(1)
                await mended(stage, wire)
                await stage.sim.mine(3)
                await mended(stage, wire)
                await stage.wait_for_state(good, "paid")
                await heal(stage, bad, policy)
                wire.mend()
                await stage.sim.mine()  # a rail that was stalled at that moment promotes it with its next block
                await stage.wait_for_state(bad, "paid")
                sums = "select confirmed_amount from railwatch.destinations where invoice_id = $1"
                assert await database.value(sums, bad.id) == 100
                await stage.audit()
            assert wire.cut["commit"]


async def mended(stage: DaemonHarness, wire: Cutter) -> None:
    """Let the daemon run until it has reached the tip, repairing the wire if that was cut."""

    async def is_so() -> bool:
        if wire.struck.is_set():
            wire.mend()
        row = await stage.database.row("select cursor_hash, state from railwatch.rails")
        return row is not None and (row["cursor_hash"], row["state"]) == (stage.chain.tip.hash, "live")

    await stage.until(is_so)


async def test_other_rails_of_the_invoice_emit_as_ever(database: Database) -> None:
    """What fails on one rail only is in quarantine there; no clock of another rail ends its window."""
    chains = [chain_named("one"), chain_named("two")]
    async with DaemonHarness(database, chains) as stage:
        ways: list[dict[str, Any]] = [
            {"rail": "one", "asset": "COIN", "amount": 100},
            {"rail": "two", "asset": "COIN", "amount": 100, "address": await stage.sim.new_address()},
        ]
        invoice = await stage.invoice(to=ways, expires_in=3)
        await database.value(
            f"alter table railwatch.detections add constraint no check (invoice_id <> '{invoice.id}' or rail <> 'one')"
        )
        await stage.pay(invoice)
        await stage.mine(2)
        await quarantined(stage, invoice)
        await database.value("update railwatch.invoices set expires_at = now() where id = $1", invoice.id)
        for chain in chains:
            await stage.simulator(chain).mine(2)
        await stage.follows()
        other = await stage.invoice(100, expires_in=1)
        await stage.wait_for_state(other, "expired")
        assert await stage.state(invoice) == "created"
        await database.value("alter table railwatch.detections drop constraint no")
        await caught_up(stage, invoice)
        assert await stage.state(invoice) == "paid"
        assert isinstance(invoice.id, UUID)

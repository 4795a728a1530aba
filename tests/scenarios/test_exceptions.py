"""Exceptions by what a person, a service or a late payer does: with the daemon and real Postgres."""

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.exception_checks import cases, resolve, wait_for_open

# What a service or an operator did


async def test_cancelling_an_underpaid_invoice_closes_what_said_so(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    await wait_for_open(stage, invoice, "underpaid")
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await wait_for_open(stage, invoice)


@pytest.mark.parametrize("mempool", [False, True])
async def test_money_that_comes_back_after_its_order_was_cancelled_is_unexpected(
    database: Database, mempool: bool
) -> None:
    """Where a reorg had taken it when the order was closed, nobody knows of it any more: it is told."""
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=mempool))]) as stage:
        invoice = await stage.invoice(100)
        tx = stage.chain.send(stage.sim.output(invoice.address, 100))
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        stage.chain.reorg(2, keep=False)
        await stage.wait_for_state(invoice, "created")
        await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
        stage.chain.resend(tx.id)
        await stage.mine(3)

        async def is_told() -> bool:
            return await stage.open_cases(invoice) == {"unexpected_payment"}

        await stage.until(is_told, lambda: stage.open_cases(invoice))
        assert await stage.state(invoice) == "cancelled"
        await stage.sim.reorg(3)
        await stage.follows()
        assert await stage.open_cases(invoice) == {"unexpected_payment"}
        await stage.audit()


async def test_a_second_reversal_opens_a_new_exception_beside_the_resolved_one(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine(2)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await wait_for_open(stage, invoice, "reversed")
    await resolve(stage, invoice, "reversed")
    await stage.mine(2)
    assert await stage.open_cases(invoice) == set()
    await stage.pay(invoice, 100)
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    assert await stage.open_cases(invoice) == {"reversed"}
    assert await cases(stage, invoice) == [("reversed", 1, "settled by ann"), ("reversed", 2, None)]
    row = await stage.database.row("select owner, resolved_at, ended_at from railwatch.exceptions where round = 1")
    assert row
    assert row["owner"] == "ann"
    assert row["resolved_at"] < row["ended_at"]


async def test_a_person_and_the_chain_resolve_at_once_and_the_persons_word_stays(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    await resolve(stage, invoice, "underpaid")
    await stage.pay(invoice, 40)
    await stage.mine(2)
    assert await cases(stage, invoice) == [("underpaid", 1, "settled by ann")]


# Money that nobody expects


@pytest.mark.parametrize("ending", ["paid", "expired", "cancelled", "refunded"])
async def test_money_for_an_invoice_that_has_ended_is_unexpected(stage: DaemonHarness, ending: str) -> None:
    invoice = await stage.invoice(100, **({"expires_in": 1} if ending == "expired" else {}))
    if ending in ("paid", "refunded"):
        await stage.pay(invoice, 100)
        await stage.mine(2)
    if ending == "cancelled":
        await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    if ending == "refunded":
        await stage.database.value(
            "update railwatch.invoices set state = 'refunded', version = version + 1 where id = $1", invoice.id
        )
        await stage.database.value("select pg_notify('railwatch_work', 'refunded')")
    await stage.wait_for_state(invoice, ending)
    tx = await stage.pay(invoice, 30)
    await stage.until(lambda: _is_seen(stage, tx))
    await stage.mine(2)
    assert "unexpected_payment" in await stage.open_cases(invoice)
    row = await stage.database.row("select kind, invoice_ended from railwatch.detections where tx_id = $1", tx)
    assert row
    assert row["invoice_ended"] == ending
    assert await stage.state(invoice) == {"paid": "overpaid"}.get(ending, ending)


async def _is_seen(stage: DaemonHarness, tx: str) -> bool:
    return await stage.database.value("select count(*) from railwatch.detections where tx_id = $1", tx) == 1


async def test_the_count_of_spam_that_was_left_out_is_kept(database: Database) -> None:
    chain = chain_named(rules=Rules(tokens=("gold", *(f"spam{number}" for number in range(15)))))
    async with DaemonHarness(database, [chain], tokens=("gold",)) as stage:
        invoice = await stage.invoice(100)
        for asset in stage.sim.assets[2:]:
            await stage.pay(invoice, 5, asset)
        await stage.mine(2)
        assert await stage.open_cases(invoice) == {"unsupported_asset"}
        kept, left_out = (
            await database.value("select count(*) from railwatch.detections"),
            await database.value("select left_out from railwatch.destinations"),
        )
        assert (kept, left_out) == (10, 5)
        assert await database.value("select count(*) from railwatch.open_exceptions") == 10

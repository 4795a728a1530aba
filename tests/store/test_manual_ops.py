"""Acts by hand: each leaves a line with who and why, and none goes around the table of moves."""

import asyncio
from uuid import uuid4

import pytest

from railwatch.core.states import INVOICE_MOVES, InvoiceState
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from tests.scenarios.daemon_harness import DaemonHarness, Placed
from tests.store.manual_ops import code_of, hold, last_line, paid, refund, release

# Holding and releasing


async def test_a_hold_outlasts_what_the_chain_says_and_a_release_takes_it_all_in(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    assert await hold(stage, invoice) == "flagged"
    line = await last_line(stage, invoice)
    assert (line["from_state"], line["to_state"], line["reason"], line["cause"]) == (
        *("created", "flagged", "held", "operator"),
    )
    assert line["evidence"] == {"actor": "ann", "reason": "looks odd", "login": "postgres"}
    assert await stage.database.value("select held from railwatch.invoices where id = $1", invoice.id) == "looks odd"

    await stage.pay(invoice)
    await stage.mine(3)
    assert await stage.state(invoice) == "flagged"
    assert await release(stage, invoice) == "paid"
    line = await last_line(stage, invoice)
    assert (line["from_state"], line["to_state"], line["reason"], line["cause"]) == (
        *("flagged", "paid", "released", "service"),
    )
    assert line["evidence"] == {"actor": "bob", "held": "looks odd", "login": "postgres"}
    assert line["confirmed_amount"] == 100
    row = await stage.database.row("select held, settled_at from railwatch.invoices where id = $1", invoice.id)
    assert row is not None
    assert row["held"] is None
    assert row["settled_at"] is not None
    await stage.mine()
    assert await stage.state(invoice) == "paid"


async def test_a_release_needs_no_daemon(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await hold(stage, invoice)
    await stage.pay(invoice)
    await stage.mine(1)
    await stage.stop()
    assert await release(stage, invoice) == "confirming"
    await stage.start()
    await stage.mine(1)
    assert await stage.path(invoice) == [
        ("created", "created"),
        ("flagged", "held"),
        ("confirming", "released"),
        ("paid", "confirmed"),
    ]


async def test_every_state_can_be_held_and_what_was_decided_before_still_holds(rough: DaemonHarness) -> None:
    placed = {state: await rough.invoice(100) for state in sorted(set(InvoiceState) - {InvoiceState.FLAGGED})}
    await rough.stop()
    for state, invoice in placed.items():
        await rough.database.value("update railwatch.invoices set state = $2 where id = $1", invoice.id, state.value)
        assert InvoiceState.FLAGGED in INVOICE_MOVES[state]
        assert await hold(rough, invoice) == "flagged"
        kept = {InvoiceState.CANCELLED, InvoiceState.REFUNDED, InvoiceState.EXPIRED}
        assert await release(rough, invoice) == (state if state in kept else "created")


async def test_doing_it_again_tells_nothing_new(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    for _ in range(2):
        assert await hold(stage, invoice) == "flagged"
    for _ in range(2):
        assert await release(stage, invoice) == "created"
    assert [state for state, _ in await stage.path(invoice)] == ["created", "flagged", "created"]


async def test_holding_from_eight_connections_is_told_once(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await asyncio.gather(*(hold(stage, invoice) for _ in range(8)))
    assert [state for state, _ in await stage.path(invoice)] == ["created", "flagged"]


async def test_a_hold_is_no_way_around_the_rule_for_cancelling(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    await hold(stage, invoice)
    cancel = "select railwatch.cancel_invoice($1, actor => 'ann')"
    with pytest.raises(Refused, match=r"is paid \(and held\) and cannot be cancelled") as caught:
        await stage.database.value(cancel, invoice.id)
    assert caught.value.code == "RW010"
    empty = await stage.invoice(100)
    await hold(stage, empty)
    assert await stage.database.value(cancel, empty.id) == "cancelled"
    assert await stage.database.value("select held from railwatch.invoices where id = $1", empty.id) is None
    await stage.mine()
    assert await stage.state(empty) == "cancelled"


# What a hold does not hide


@pytest.mark.parametrize("ending", ["cancelled", "refunded"])
async def test_money_for_a_closed_order_that_is_held_is_unexpected_and_never_counts(
    stage: DaemonHarness, ending: str
) -> None:
    invoice = await stage.invoice(100) if ending == "cancelled" else await paid(stage)
    if ending == "cancelled":
        await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    else:
        await refund(stage, invoice, 100)
    await hold(stage, invoice)
    tx = await stage.pay(invoice, 60)
    await stage.mine(3)
    assert await stage.open_cases(invoice) == {"unexpected_payment"}
    row = await stage.database.row("select kind, invoice_ended from railwatch.detections where tx_id = $1", tx)
    assert row is not None
    assert tuple(row) == ("unexpected", ending)
    assert await release(stage, invoice) == ending
    await stage.mine()
    assert await stage.state(invoice) == ending
    assert await stage.open_cases(invoice) == {"unexpected_payment"}
    confirmed = "select confirmed_amount from railwatch.destinations where invoice_id = $1"
    assert await stage.database.value(confirmed, invoice.id) == (0 if ending == "cancelled" else 100)


async def test_a_second_payment_to_a_paid_order_that_is_held_is_unexpected(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    await hold(stage, invoice)
    await stage.pay(invoice, 30)
    await stage.mine(2)
    assert await stage.open_cases(invoice) == {"unexpected_payment"}
    assert await release(stage, invoice) == "overpaid"


async def test_a_reversal_under_a_hold_is_told_at_once_and_made_good_under_it(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    settled_at = await settled(stage, invoice)
    await hold(stage, invoice)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    assert await stage.state(invoice) == "flagged"
    assert await stage.open_cases(invoice) == {"reversed"}
    await stage.pay(invoice)
    await stage.mine(2)
    assert await stage.open_cases(invoice) == set()
    assert await release(stage, invoice) == "paid"
    assert await stage.path(invoice, "exception") == [("open", "reversed"), ("resolved", "reversed")]
    assert await settled(stage, invoice) == settled_at


async def test_a_reversal_under_a_hold_outlasts_the_release(stage: DaemonHarness) -> None:
    invoice = await paid(stage)
    await hold(stage, invoice)
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    assert await release(stage, invoice) == "created"
    await stage.mine()
    assert await stage.open_cases(invoice) == {"reversed"}
    assert await stage.path(invoice, "exception") == [("open", "reversed")]


async def settled(stage: DaemonHarness, invoice: Placed) -> object:
    return await stage.database.value("select settled_at from railwatch.invoices where id = $1", invoice.id)


# What is refused


ACTS = [
    ("select railwatch.hold_invoice($1, actor => 'ann', reason => 'why')", "RW009"),
    ("select railwatch.release_invoice($1, actor => 'ann')", "RW009"),
    ("select railwatch.cancel_invoice($1, actor => 'ann')", "RW009"),
    ("select railwatch.record_refund($1, 5, 'tx', actor => 'ann')", "RW009"),
    ("select railwatch.record_settlement($1, 'payout', actor => 'ann')", "RW009"),
    ("select railwatch.resolve_exception($1, actor => 'ann', resolution => 'done')", "RW012"),
    ("select railwatch.annotate_exception($1, actor => 'ann', note => 'hm')", "RW012"),
]


@pytest.mark.parametrize(("call", "code"), ACTS, ids=[call[17:40] for call, _ in ACTS])
async def test_nobody_acts_on_what_is_not_there_nor_without_a_name(database: Database, call: str, code: str) -> None:
    assert await code_of(database.value(call, uuid4())) == code
    assert await code_of(database.value(call, None)) == code
    for nobody in ("''", "null", "repeat('x', 201)"):
        assert await code_of(database.value(call.replace("'ann'", nobody), uuid4())) == "RW001"
    if "annotate" not in call:
        chain = call.removesuffix(")") + ", cause => 'chain')"
        assert await code_of(database.value(chain, uuid4())) == "RW001"


@pytest.mark.parametrize(
    "call",
    [
        "select railwatch.hold_invoice($1, actor => 'ann', reason => '')",
        "select railwatch.hold_invoice($1, actor => 'ann', reason => null)",
        "select railwatch.record_refund($1, 5, '', actor => 'ann')",
        "select railwatch.record_settlement($1, '', actor => 'ann')",
        "select railwatch.annotate_exception($1, actor => 'ann')",
    ],
)
async def test_an_act_without_its_reason_is_refused(database: Database, call: str) -> None:
    assert await code_of(database.value(call, uuid4())) == "RW001"

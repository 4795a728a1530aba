"""What people and services do by hand: each leaves a line with who and why, and none goes around the table of moves."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.fake import Rules
from indexer.core.model import Coverage
from indexer.core.payment import assess
from indexer.core.states import INVOICE_MOVES, DetectionState, InvoiceState
from indexer.store.books import load_books
from indexer.store.database import Database
from indexer.store.errors import Refused
from tests.scenarios.stage import Placed, Stage, chain_named


@pytest.fixture
async def rough(database: Database) -> AsyncIterator[Stage]:
    """A daemon that follows a chain; a payment counts at two confirmations. For stories that force a state by hand."""
    async with Stage(database, [chain_named(rules=Rules(tokens=("gold",)))]) as stage:
        yield stage


@pytest.fixture
async def stage(rough: Stage) -> AsyncIterator[Stage]:
    """The same, and whatever was done to it, its feed is whole in the end."""
    yield rough
    await rough.audit()


async def hold(stage: Stage, invoice: Placed, reason: str = "looks odd") -> str:
    told = await stage.database.value(
        "select railwatch.hold_invoice($1, actor => 'ann', reason => $2, cause => 'operator')", invoice.id, reason
    )
    return str(told)


async def release(stage: Stage, invoice: Placed) -> str:
    told = await stage.database.value("select railwatch.release_invoice($1, actor => 'bob')", invoice.id)
    return str(told)


async def refund(stage: Stage, invoice: Placed, amount: int, tx: str = "back-1", **more: Any) -> UUID:
    names = "".join(f", {name} => ${place}" for place, name in enumerate(more, 4))
    made: UUID = await stage.database.value(
        f"select railwatch.record_refund($1, $2, $3, actor => 'ann'{names})",
        *(invoice.id, Decimal(amount), tx, *more.values()),
    )
    return made


async def last_line(stage: Stage, invoice: Placed, subject: str = "invoice") -> dict[str, Any]:
    row = await stage.database.row(
        "select * from railwatch.transitions where invoice_id = $1 and subject = $2 order by seq desc limit 1",
        invoice.id,
        subject,
    )
    assert row is not None
    return dict(row)


async def paid(stage: Stage, amount: int = 100, *, asked: int = 100) -> Placed:
    """An invoice whose payment counts."""
    invoice = await stage.invoice(asked)
    await stage.pay(invoice, amount)
    await stage.mine(2)
    return invoice


async def code_of(act: Any) -> str:
    with pytest.raises(Refused) as caught:
        await act
    return caught.value.code


# Holding and releasing


async def test_a_hold_outlasts_what_the_chain_says_and_a_release_takes_it_all_in(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    assert await hold(stage, invoice) == "flagged"
    line = await last_line(stage, invoice)
    assert (line["from_state"], line["to_state"], line["reason"], line["cause"]) == (
        *("created", "flagged", "held", "operator"),
    )
    assert line["evidence"] == {"actor": "ann", "reason": "looks odd"}
    assert await stage.database.value("select held from railwatch.invoices where id = $1", invoice.id) == "looks odd"

    await stage.pay(invoice)
    await stage.mine(3)
    assert await stage.state(invoice) == "flagged"
    assert await release(stage, invoice) == "paid"
    line = await last_line(stage, invoice)
    assert (line["from_state"], line["to_state"], line["reason"], line["cause"]) == (
        *("flagged", "paid", "released", "service"),
    )
    assert line["evidence"] == {"actor": "bob", "held": "looks odd"}
    assert line["confirmed_amount"] == 100
    row = await stage.database.row("select held, settled_at from railwatch.invoices where id = $1", invoice.id)
    assert row is not None
    assert row["held"] is None
    assert row["settled_at"] is not None
    await stage.mine()
    assert await stage.state(invoice) == "paid"


async def test_a_release_needs_no_daemon(stage: Stage) -> None:
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


async def test_every_state_can_be_held_and_what_was_decided_before_still_holds(rough: Stage) -> None:
    placed = {state: await rough.invoice(100) for state in sorted(set(InvoiceState) - {InvoiceState.FLAGGED})}
    await rough.stop()
    for state, invoice in placed.items():
        await rough.database.value("update railwatch.invoices set state = $2 where id = $1", invoice.id, state.value)
        assert InvoiceState.FLAGGED in INVOICE_MOVES[state]
        assert await hold(rough, invoice) == "flagged"
        kept = {InvoiceState.CANCELLED, InvoiceState.REFUNDED, InvoiceState.EXPIRED}
        assert await release(rough, invoice) == (state if state in kept else "created")


async def test_doing_it_again_tells_nothing_new(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    for _ in range(2):
        assert await hold(stage, invoice) == "flagged"
    for _ in range(2):
        assert await release(stage, invoice) == "created"
    assert [state for state, _ in await stage.path(invoice)] == ["created", "flagged", "created"]


async def test_holding_from_eight_connections_is_told_once(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    await asyncio.gather(*(hold(stage, invoice) for _ in range(8)))
    assert [state for state, _ in await stage.path(invoice)] == ["created", "flagged"]


async def test_a_hold_is_no_way_around_the_rule_for_cancelling(stage: Stage) -> None:
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


# Refunds


async def test_a_payment_is_given_back_in_two_parts(stage: Stage) -> None:
    invoice = await paid(stage)
    first = await refund(stage, invoice, 40, reason="damaged")
    assert await stage.state(invoice) == "paid"
    line = await last_line(stage, invoice, "refund")
    assert (line["subject_id"], line["from_state"], line["to_state"], line["reason"]) == (
        *(first, None, "recorded", "refunded"),
    )
    assert (line["rail"], line["tx_id"]) == (stage.chain.name, "back-1")
    assert line["evidence"] == {
        "actor": "ann",
        "reason": "damaged",
        "amount": "40",
        "asset": stage.sim.native,
    }
    await refund(stage, invoice, 60, "back-2")
    assert await stage.state(invoice) == "refunded"
    line = await last_line(stage, invoice)
    assert (line["from_state"], line["to_state"], line["reason"]) == ("paid", "refunded", "refunded")
    money = await stage.database.row("select * from railwatch.order_money where invoice_id = $1", invoice.id)
    assert money is not None
    assert (money["expected_amount"], money["received_amount"], money["refunded_amount"]) == (100, 100, 100)
    assert money["refunded"] == Decimal("0.000001")
    await stage.mine()
    assert await stage.state(invoice) == "refunded"


async def test_recording_a_refund_again_is_harmless_and_overwrites_nothing(stage: Stage) -> None:
    invoice = await paid(stage)
    made = await asyncio.gather(*(refund(stage, invoice, 40) for _ in range(4)))
    assert len(set(made)) == 1
    assert await code_of(refund(stage, invoice, 41)) == "RW014"
    assert await stage.database.value("select sum(amount) from railwatch.refunds") == 40
    assert len(await stage.path(invoice, "refund")) == 1


async def test_no_more_is_refunded_than_had_come(stage: Stage) -> None:
    invoice = await paid(stage)
    assert await code_of(refund(stage, invoice, 101)) == "RW013"
    await refund(stage, invoice, 60)
    with pytest.raises(Refused, match="100 had arrived, and 60 is refunded already"):
        await refund(stage, invoice, 41, "back-2")
    nothing = await stage.invoice(100)
    with pytest.raises(Refused, match="nothing has arrived") as caught:
        await refund(stage, nothing, 1)
    assert caught.value.code == "RW013"


async def test_what_is_refunded_must_be_plain(stage: Stage) -> None:
    invoice = await paid(stage)
    await stage.pay(invoice, 7, stage.sim.assets[1])
    await stage.mine(2)
    with pytest.raises(Refused, match="several ways"):
        await refund(stage, invoice, 7)
    assert await code_of(refund(stage, invoice, 7, asset="SILVER")) == "RW013"
    await refund(stage, invoice, 7, asset="GOLD")
    # What was sent by mistake is not the order's money: that is all still there.
    assert await stage.state(invoice) == "paid"
    await refund(stage, invoice, 100, "back-2", rail=stage.chain.name, asset="COIN")
    assert await stage.state(invoice) == "refunded"


async def test_what_came_by_mistake_can_be_given_back_while_the_order_waits(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 7, stage.sim.assets[1])
    await stage.mine(2)
    await refund(stage, invoice, 7)
    assert await stage.state(invoice) == "created"
    await stage.pay(invoice)
    await stage.mine(2)
    assert await stage.state(invoice) == "paid"


async def test_a_payment_that_does_not_count_yet_is_not_refunded_unless_it_is_held(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    assert await stage.state(invoice) == "confirming"
    assert await code_of(refund(stage, invoice, 100)) == "RW010"
    assert await stage.database.value("select count(*) from railwatch.refunds") == 0
    await hold(stage, invoice)
    await refund(stage, invoice, 100)
    assert await stage.state(invoice) == "refunded"
    assert await stage.database.value("select held from railwatch.invoices where id = $1", invoice.id) is None
    await stage.mine(3)
    assert await stage.state(invoice) == "refunded"


async def test_the_surplus_is_given_back_and_the_order_stays(stage: Stage) -> None:
    invoice = await paid(stage, 130)
    await refund(stage, invoice, 30)
    assert await stage.state(invoice) == "overpaid"


async def test_a_refund_of_a_cancelled_order_closes_it(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await stage.pay(invoice)
    await stage.mine(2)
    assert await stage.open_cases(invoice) == {"unexpected_payment"}
    await refund(stage, invoice, 100)
    assert await stage.state(invoice) == "refunded"


@pytest.mark.parametrize("amount", [None, Decimal(0), Decimal(-1), Decimal("1.5"), Decimal("NaN"), Decimal(2**256)])
async def test_an_amount_that_is_none_is_refused(stage: Stage, amount: Decimal | None) -> None:
    invoice = await stage.invoice(100)
    call = "select railwatch.record_refund($1, $2, 'tx', actor => 'ann')"
    assert await code_of(stage.database.value(call, invoice.id, amount)) == "RW004"


async def test_a_refund_moves_an_invoice_only_by_the_table(rough: Stage) -> None:
    placed = {state: await rough.invoice(100) for state in sorted(set(InvoiceState) - {InvoiceState.FLAGGED})}
    for invoice in placed.values():
        await rough.pay(invoice)
    await rough.mine(2)
    await rough.stop()
    refused = set()
    for state, invoice in placed.items():
        await rough.database.value("update railwatch.invoices set state = $2 where id = $1", invoice.id, state.value)
        if state is InvoiceState.REFUNDED or InvoiceState.REFUNDED in INVOICE_MOVES[state]:
            await refund(rough, invoice, 100)
            assert await rough.state(invoice) == "refunded"
        else:
            assert await code_of(refund(rough, invoice, 100)) == "RW010"
            refused.add(state)
    assert refused == {InvoiceState.CREATED, InvoiceState.DETECTED, InvoiceState.CONFIRMING}
    assert await rough.database.value("select count(*) from railwatch.refunds") == len(placed) - len(refused)


# Settlement


async def test_finance_writes_down_where_an_order_was_booked(stage: Stage) -> None:
    invoice = await paid(stage)
    settle = "select railwatch.record_settlement($1, $2, actor => 'finance')"
    first = await stage.database.value(settle, invoice.id, "payout 7")
    assert await stage.database.value(settle, invoice.id, "payout 7") == first
    await stage.database.value(settle, invoice.id, "correction 8")
    told = "select settlement_references from railwatch.order_money where invoice_id = $1"
    assert await stage.database.value(told, invoice.id) == ["payout 7", "correction 8"]
    assert await stage.path(invoice, "settlement") == [("recorded", "settled")] * 2
    assert (await last_line(stage, invoice, "settlement"))["evidence"] == {
        "actor": "finance",
        "reference": "correction 8",
    }


# Exceptions


async def case_of(stage: Stage, invoice: Placed, kind: str) -> dict[str, Any]:
    row = await stage.database.row(
        "select * from railwatch.exceptions where invoice_id = $1 and kind = $2", invoice.id, kind
    )
    assert row is not None
    return dict(row)


async def test_an_exception_is_resolved_with_a_word_and_a_line(stage: Stage) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 7, stage.sim.assets[1])
    await stage.mine(2)
    case = await case_of(stage, invoice, "wrong_asset")
    annotate = "select railwatch.annotate_exception($1, actor => 'ann', note => $2, owner => $3)"
    await stage.database.value(annotate, case["id"], "customer called", "ann")
    await stage.database.value(annotate, case["id"], "asked finance", None)
    resolve = "select railwatch.resolve_exception($1, actor => $2, resolution => $3, note => 'ticket 4711')"
    assert await stage.database.value(resolve, case["id"], "ann", "refunded") == "refunded"
    assert await stage.database.value(resolve, case["id"], "bob", "ignored") == "refunded"
    now = await case_of(stage, invoice, "wrong_asset")
    assert (now["resolution"], now["owner"], now["resolved_at"] is None) == ("refunded", "ann", False)
    notes = [line.split(" ann: ")[1] for line in now["notes"].splitlines()]
    assert notes == ["owner: nobody -> ann", "customer called", "asked finance", "ticket 4711"]
    line = await last_line(stage, invoice, "exception")
    assert (line["from_state"], line["to_state"], line["reason"], line["tx_id"]) == (
        *("open", "resolved", "wrong_asset", tx),
    )
    assert line["evidence"] == {"actor": "ann", "resolution": "refunded", "note": "ticket 4711"}
    assert await stage.path(invoice, "exception") == [("open", "wrong_asset"), ("resolved", "wrong_asset")]
    await stage.mine(2)
    assert await stage.open_cases(invoice) == set()


async def test_what_the_chain_says_of_an_exception_is_not_a_persons_word(stage: Stage) -> None:
    invoice = await paid(stage, 60)
    case = await case_of(stage, invoice, "underpaid")
    resolve = "select railwatch.resolve_exception($1, actor => 'ann', resolution => $2)"
    assert await code_of(stage.database.value(resolve, case["id"], "made good")) == "RW001"
    assert await code_of(stage.database.value(resolve, case["id"], "")) == "RW001"
    await stage.pay(invoice, 40)
    await stage.mine(2)
    assert await stage.database.value(resolve, case["id"], "accepted") == "made good"


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


# One rule


async def test_the_rule_for_manual_acts_is_the_cores(rough: Stage) -> None:
    """Random facts, judged twice: by the function that a release uses, and by the core."""
    stage = rough
    await stage.stop()
    dice = random.Random(7)
    database, now = stage.database, datetime.now(UTC)
    seen: set[InvoiceState] = set()
    for _ in range(150):
        ways = [
            {"rail": stage.chain.name, "asset": "COIN", "amount": 100 + place} for place in range(dice.randint(1, 2))
        ]
        known = await scatter(stage, dice, ways, now)
        async with database.transaction() as connection:
            [book] = await load_books(connection, [known])
            until = await connection.fetchval("select covered_until from railwatch.rails")
            moment = await connection.fetchval("select now()")
            facts = list(book.detections.values())
            core = assess(book.invoice, facts, Coverage({stage.chain.name: until} if until else {}), moment)
            ours = await connection.fetchval(
                "select railwatch.assess(i) from railwatch.invoices i where i.id = $1", known
            )
        assert ours == core, facts
        seen.add(core)
    assert seen == set(InvoiceState) - {InvoiceState.FLAGGED}


async def scatter(stage: Stage, dice: random.Random, ways: list[dict[str, Any]], now: datetime) -> UUID:
    """An invoice with facts as they may fall."""
    database = stage.database
    ways = [{**way, "address": await stage.sim.new_address()} for way in ways]
    terms = {
        "time_basis": dice.choice(["first_seen", "block_time", "confirmed"]),
        "tolerance_bps": dice.choice([0, 500]),
    }
    invoice = await stage.order(ways[0]["address"], destinations=ways, **terms)
    expiry = now + timedelta(hours=dice.choice([-2, 1]))
    covered = expiry + timedelta(minutes=dice.choice([-1, 1]))
    state = dice.choice(["created", "paid", "expired", "cancelled", "refunded"])
    await database.value(
        "update railwatch.invoices set state = $2, expires_at = $3 where id = $1", invoice.id, state, expiry
    )
    await database.value("update railwatch.rails set covered_until = $1", covered)
    await database.value(
        "update railwatch.destinations set watch_state = $2 where invoice_id = $1",
        invoice.id,
        dice.choice(["watching", "watching", "registered"]),
    )
    rows = await database.rows("select id from railwatch.destinations where invoice_id = $1", invoice.id)
    for detection_id in [uuid4() for _ in range(dice.randint(0, 3))]:
        at = expiry + timedelta(minutes=dice.choice([-10, 10]))
        detection = dice.choice(list(DetectionState))
        await database.value(
            """insert into railwatch.detections (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount,
                   state, kind, first_seen_at, block_height, block_hash, block_time, confirmed_at)
               values ($1, $2, $3, $4, $5, 'tx', $6, $7, $8, $9, $10, $11, $12, $13, $14)""",
            detection_id,
            invoice.id,
            dice.choice(rows)["id"],
            stage.chain.name,
            stage.sim.native,
            str(detection_id),
            Decimal(dice.choice([40, 60, 96, 100, 200])),
            detection.value,
            dice.choice(["payment", "payment", "payment", "wrong_asset"]),
            at,
            None if detection is DetectionState.PENDING else 5,
            None if detection is DetectionState.PENDING else "hash",
            None if detection is DetectionState.PENDING else at,
            at if detection in (DetectionState.CONFIRMED, DetectionState.FINAL) else None,
        )
    return invoice.id

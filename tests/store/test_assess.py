"""One rule in two languages: the state that a release leads to is the one that the core would choose."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from railwatch.core.assessment import assess
from railwatch.core.model import Coverage
from railwatch.core.states import DetectionState, InvoiceState
from railwatch.store.aggregates import load_aggregates
from tests.scenarios.daemon_harness import DaemonHarness


async def test_every_state_is_reached_by_random_facts(rough: DaemonHarness) -> None:
    await rough.stop()
    dice = random.Random(7)
    seen: dict[bool, set[InvoiceState]] = {False: set(), True: set()}
    for _ in range(320):
        state, held = await judge_twice(rough, dice)
        seen[held].add(state)
    assert seen[False] == set(InvoiceState) - {InvoiceState.FLAGGED}
    assert seen[True] == seen[False]


@given(dice=st.randoms(note_method_calls=True))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_sql_and_core_judge_all_facts_alike(rough: DaemonHarness, dice: random.Random) -> None:
    await rough.stop()
    await judge_twice(rough, dice)


async def judge_twice(stage: DaemonHarness, dice: random.Random) -> tuple[InvoiceState, bool]:
    """Make an invoice with random facts, compare both judges, and return their state, and whether it was held."""
    database, now = stage.database, datetime.now(UTC)
    ways = [{"rail": stage.chain.name, "asset": "COIN", "amount": 100 + place} for place in range(dice.randint(1, 2))]
    known = await scatter(stage, dice, ways, now)
    if dice.random() < 0.4:
        await database.value("select railwatch.hold_invoice($1, actor => 'ann', reason => 'odd')", known)
    async with database.transaction() as connection:
        every = await connection.fetch("select id from railwatch.detections where invoice_id = $1", known)
        [aggregate] = await load_aggregates(connection, [known], [row["id"] for row in every])
        until = await connection.fetchval("select covered_until from railwatch.rails")
        moment = await connection.fetchval("select now()")
        facts = list(aggregate.detections.values())
        held = aggregate.invoice.held is not None
        assert held is (aggregate.invoice.state is InvoiceState.FLAGGED)
        assert held is (aggregate.invoice.held_from is not None)
        unheld = replace(aggregate.invoice, held=None)
        core = assess(unheld, facts, Coverage({stage.chain.name: until} if until else {}), moment)
        ours = await connection.fetchval("select railwatch.assess(i) from railwatch.invoices i where i.id = $1", known)
    assert ours == core, (unheld, facts)
    if held:
        release = "select railwatch.release_invoice($1, actor => 'bob')"
        assert await database.value(release, known) == core
    return core, held


async def scatter(stage: DaemonHarness, dice: random.Random, ways: list[dict[str, Any]], now: datetime) -> UUID:
    """Make an invoice with facts as the dice choose them, and return its id."""
    database = stage.database
    ways = [{**way, "address": await stage.sim.new_address()} for way in ways]
    terms: dict[str, Any] = {
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
    margin = timedelta(minutes=dice.choice([0, 0, 2]))
    await database.value(
        "update railwatch.rails set covered_until = $1, time_margin = $2, sight_margin = $3",
        covered,
        margin,
        dice.choice([timedelta(0), margin]),
    )
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
    for number in range(dice.choice([0, 0, 1, 2])):
        owed, surplus, waived = (Decimal(dice.choice([0, 1, 40, 100])) for _ in range(3))
        await database.value(
            """insert into railwatch.refunds (invoice_id, rail, asset, amount, tx_id, actor, surplus, waived)
               values ($1, $2, $3, $4, $5, 'ann', $6, $7)""",
            invoice.id,
            stage.chain.name,
            stage.sim.native,
            max(Decimal(1), owed + surplus + waived),
            str(number),
            surplus,
            waived,
        )
    return invoice.id

"""One rule in two languages: the state that a release leads to is the one that the core would choose."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from railwatch.core.assessment import assess
from railwatch.core.model import Coverage
from railwatch.core.states import DetectionState, InvoiceState
from railwatch.store.aggregates import load_aggregates
from tests.scenarios.daemon_harness import DaemonHarness


async def test_the_rule_for_manual_acts_is_the_cores(rough: DaemonHarness) -> None:
    """Random facts, judged twice: by the function that a release uses, and by the core."""
    stage = rough
    await stage.stop()
    dice = random.Random(7)
    database, now = stage.database, datetime.now(UTC)
    seen: dict[bool, set[InvoiceState]] = {False: set(), True: set()}
    for _ in range(320):
        ways = [
            {"rail": stage.chain.name, "asset": "COIN", "amount": 100 + place} for place in range(dice.randint(1, 2))
        ]
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
            ours = await connection.fetchval(
                "select railwatch.assess(i) from railwatch.invoices i where i.id = $1", known
            )
        assert ours == core, facts
        if held:
            release = "select railwatch.release_invoice($1, actor => 'bob')"
            assert await database.value(release, known) == core
        seen[held].add(core)
    assert seen[False] == set(InvoiceState) - {InvoiceState.FLAGGED}
    assert seen[True] == seen[False]


async def scatter(stage: DaemonHarness, dice: random.Random, ways: list[dict[str, Any]], now: datetime) -> UUID:
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
    return invoice.id

"""Each exception as it comes about, and as it closes: with the daemon, real Postgres, and time that is set back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


async def cases(stage: DaemonHarness, invoice: Placed) -> list[tuple[str, int, str | None]]:
    """(kind, round, resolution) of all rows, oldest first."""
    rows = await stage.database.rows(
        "select kind, round, resolution from railwatch.exceptions where invoice_id = $1 order by opened_at, round",
        invoice.id,
    )
    return [(row["kind"], row["round"], row["resolution"]) for row in rows]


async def stands(stage: DaemonHarness, invoice: Placed, *kinds: str) -> None:
    """Wait until exactly those are open."""

    async def is_so() -> bool:
        return await stage.open_cases(invoice) == set(kinds)

    await stage.until(is_so, lambda: stage.open_cases(invoice))


async def resolve(stage: DaemonHarness, invoice: Placed, kind: str) -> None:
    """A person's word, as `resolve_exception` puts it in."""
    await stage.database.value(
        "update railwatch.exceptions set resolved_at = now(), resolution = 'settled by ann', owner = 'ann' "
        "where invoice_id = $1 and kind = $2 and resolved_at is null",
        invoice.id,
        kind,
    )


async def age(stage: DaemonHarness, invoice: Placed, interval: str = "3 hours") -> None:
    """The invoice has been as it is for so long."""
    await stage.database.value(
        f"update railwatch.invoices set state_since = now() - interval '{interval}' where id = $1", invoice.id
    )


async def blind(stage: DaemonHarness, name: str | None = None) -> None:
    """The rail's node is away, and has been for an hour, which all invoices have lived through."""
    node_of(name or stage.chain.name).down = True
    await stage.rail_is("stalled", name)
    await stage.database.value(
        "update railwatch.rails set covered_until = now() - interval '1 hour' where name = $1", name or stage.chain.name
    )
    await stage.database.value("update railwatch.invoices set created_at = created_at - interval '1 hour'")


# What time brings


async def test_a_payment_that_never_confirms_ages_into_an_exception_until_it_moves_on(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    stage.chain.hold(tx)
    assert await stage.open_cases(invoice) == set()
    await age(stage, invoice)
    await stands(stage, invoice, "stuck_confirming")
    line = await stage.database.row("select * from railwatch.transitions where subject = 'exception'")
    assert line
    assert (line["reason"], line["cause"], line["evidence"]["state"]) == ("stuck_confirming", "clock", "detected")
    amounts = await stage.database.row("select seen_amount, confirmed_amount from railwatch.destinations")
    assert amounts
    assert tuple(amounts) == (100, 0)
    stage.chain.release(tx)
    await stage.mine()
    assert await stage.open_cases(invoice) == set()
    assert await cases(stage, invoice) == [("stuck_confirming", 1, "made good")]


async def test_what_is_stuck_again_is_told_again_though_a_person_had_resolved_it(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    stage.chain.hold(tx)
    await age(stage, invoice)
    await stands(stage, invoice, "stuck_confirming")
    await resolve(stage, invoice, "stuck_confirming")
    await age(stage, invoice, "4 hours")
    stage.chain.release(tx)
    await stage.mine()
    assert await stage.state(invoice) == "confirming"
    await age(stage, invoice)
    await stands(stage, invoice, "stuck_confirming")
    assert await cases(stage, invoice) == [
        ("stuck_confirming", 1, "settled by ann"),
        ("stuck_confirming", 2, None),
    ]


async def test_a_blind_rail_delays_its_open_invoices_and_no_others_until_it_sees_again(stage: DaemonHarness) -> None:
    paid, waiting, fresh = await stage.invoice(100), await stage.invoice(100), None
    await stage.pay(paid, 100)
    await stage.mine(2)
    assert await stage.state(paid) == "paid"
    await blind(stage)
    fresh = await stage.order(await stage.sim.new_address())
    await stands(stage, waiting, "detection_delayed")
    assert await stage.open_cases(paid) == set()
    assert await stage.open_cases(fresh) == set(), "what was lost before it was there is not its delay"
    await stage.database.value(
        "update railwatch.invoices set created_at = created_at - interval '320 seconds' where id = $1", fresh.id
    )
    await stands(stage, fresh, "detection_delayed")
    node_of(stage.chain.name).down = False
    for each in (waiting, fresh):
        await stands(stage, each)
    assert await cases(stage, waiting) == [("detection_delayed", 1, "made good")]


async def test_a_delay_that_a_person_resolved_ends_though_nothing_is_told_of_it(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await blind(stage)
    await stands(stage, invoice, "detection_delayed")
    await resolve(stage, invoice, "detection_delayed")
    node_of(stage.chain.name).down = False

    async def ended() -> bool:
        return bool(await stage.database.value("select ended_at is not null from railwatch.exceptions"))

    await stage.until(ended)
    assert await cases(stage, invoice) == [("detection_delayed", 1, "settled by ann")]


async def test_a_daemon_that_restarts_into_a_blind_rail_tells_the_delay(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.stop()
    node_of(stage.chain.name).down = True
    await stage.database.value("update railwatch.rails set covered_until = now() - interval '1 hour'")
    await stage.database.value("update railwatch.invoices set created_at = now() - interval '1 hour'")
    await stage.start(wait=False)
    await stands(stage, invoice, "detection_delayed")
    node_of(stage.chain.name).down = False
    await stands(stage, invoice)


async def test_a_rail_that_is_halted_is_blind_too(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    node_of(stage.chain.name).undecodable = True
    await stage.pay(invoice, 100)
    await stage.sim.mine()
    await stage.rail_is("halted")
    await stage.database.value("update railwatch.rails set covered_until = now() - interval '1 hour'")
    await stage.database.value("update railwatch.invoices set created_at = now() - interval '1 hour'")
    await stands(stage, invoice, "detection_delayed")


async def test_many_invoices_are_delayed_in_few_transactions(database: Database) -> None:
    async with DaemonHarness(database, [chain_named()]) as stage:
        many = 1_200
        placed = [await stage.order(await stage.sim.new_address()) for _ in range(many)]
        await stage.all_taken_in()
        await blind(stage)

        async def open_now() -> int:
            counted = (
                "select count(*) from railwatch.exceptions where kind = 'detection_delayed' and resolved_at is null"
            )
            return int(await database.value(counted))

        async def all_told() -> bool:
            return await open_now() == many

        async def none_left() -> bool:
            return await open_now() == 0

        await stage.until(all_told)
        node_of(stage.chain.name).down = False
        await stage.until(none_left)
        steps = (
            "select count(distinct xmin::text) from railwatch.transitions where subject = 'exception' and to_state = $1"
        )
        for state in ("open", "resolved"):
            assert await database.value(steps, state) <= 4
        assert len(placed) == many
        await stage.audit()


# What a service or an operator did


async def test_cancelling_an_underpaid_invoice_closes_what_said_so(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 60)
    await stage.mine(2)
    await stands(stage, invoice, "underpaid")
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await stands(stage, invoice)


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
    await stands(stage, invoice, "reversed")
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


# Several rails of one family


@pytest.fixture
async def twins(database: Database) -> AsyncIterator[DaemonHarness]:
    """Two rails whose addresses are the same."""
    async with DaemonHarness(database, [chain_named("here"), chain_named("there")]) as stage:
        yield stage
        await stage.audit()


async def _wrong(stage: DaemonHarness) -> list[dict[str, Any]]:
    rows = await stage.database.rows("select rail, kind, state, amount from railwatch.detections")
    return [dict(row) for row in rows]


async def test_a_payment_on_another_rail_of_the_family_is_wrong_network(twins: DaemonHarness) -> None:
    there = twins.simulator(twins.chains[1])
    invoice = await twins.invoice(100)
    await there.pay(invoice.address, 100)
    await there.mine(2)
    await stands(twins, invoice, "wrong_network")
    assert await twins.state(invoice) == "created"
    await there.reorg(2, keep=False)
    await stands(twins, invoice)


async def test_it_is_found_though_it_came_before_the_registration(twins: DaemonHarness) -> None:
    there = twins.simulator(twins.chains[1])
    address = await twins.sim.new_address()
    await there.pay(address, 100)
    await there.mine(3)
    await twins.follows()
    invoice = await twins.order(address)
    await stands(twins, invoice, "wrong_network")
    [found] = await _wrong(twins)
    assert (found["rail"], found["kind"], found["amount"]) == ("there", "wrong_network", 100)


async def test_it_is_found_though_that_rail_was_away_and_the_daemon_was_restarted(twins: DaemonHarness) -> None:
    there = twins.simulator(twins.chains[1])
    address = await twins.sim.new_address()
    await there.pay(address, 100)
    await there.mine(3)
    await twins.follows()
    node_of("there").down = True
    await twins.rail_is("stalled", "there")
    invoice = await twins.order(address)
    await twins.all_taken_in()
    await twins.stop()
    node_of("there").down = False
    await twins.start()
    await stands(twins, invoice, "wrong_network")


# What is kept of it


async def test_every_sighting_is_kept_with_the_node_that_told_it(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    await stage.mine(2)
    await stage.sim.reorg(2, keep=True)
    await stage.follows()
    rows = await stage.database.rows(
        "select o.*, t.seq from railwatch.observations o join railwatch.transitions t on t.subject_id = o.detection_id "
        "and (t.evidence ->> 'observation')::int = o.version order by o.version"
    )
    assert [row["state"] for row in rows] == ["pending", "included", "included"]
    assert len({row["block_hash"] for row in rows}) == 3
    assert {row["node"] for row in rows} == {"node"}
    assert all(row["raw"]["amount"] == "100" for row in rows)
    assert await stage.database.value("select tx_id from railwatch.detections") == tx


@pytest.mark.parametrize("act", ["update railwatch.observations set node = 'x'", "delete from railwatch.observations"])
async def test_what_was_observed_can_be_changed_by_nobody(stage: DaemonHarness, act: str) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine()
    for statement in (act, "truncate railwatch.observations"):
        with pytest.raises(Refused, match="append-only") as refused:
            await stage.database.value(statement)
        assert refused.value.code == "RW015"


# One row for each destination, kind and asset


async def test_dust_opens_one_exception_with_a_count_and_a_sum(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    for _ in range(3):
        for _ in range(40):
            await stage.pay(invoice, 2)
        await stage.mine()
    row = await stage.database.row("select * from railwatch.exceptions where invoice_id = $1", invoice.id)
    assert row is not None
    assert (row["kind"], row["transfers"], row["amount"], row["round"]) == ("unexpected_payment", 120, 240, 1)
    assert await stage.database.value("select count(*) from railwatch.exceptions") == 1
    assert await stage.database.value("select count(*) from railwatch.transitions where subject = 'exception'") <= 9
    shown = await stage.database.row("select transfers, amount, rail, asset from railwatch.open_exceptions")
    assert shown is not None
    assert tuple(shown) == (120, 240, "story", row["asset"])
    covered = """
        select count(*) from railwatch.exception_transfers t join railwatch.detections x on x.id = t.detection_id
        where t.exception_id = $1 and t.left_at is null and x.kind = 'unexpected'"""
    assert await stage.database.value(covered, row["id"]) == 120


async def test_what_comes_after_a_persons_word_opens_a_row_of_its_own(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await stage.pay(invoice, 2)
    await stage.pay(invoice, 3)
    await stage.mine()
    known = await stage.database.value("select id from railwatch.exceptions")
    await stage.database.value(
        "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'sent back')", known
    )
    evidence = await stage.database.value("select evidence from railwatch.transitions order by seq desc limit 1")
    assert (evidence["transfers"], evidence["sum"]) == (2, "5")
    await stage.pay(invoice, 4)
    await stage.mine()
    rows = await stage.database.rows(
        "select transfers, amount, round, resolution from railwatch.exceptions order by round"
    )
    assert [tuple(row) for row in rows] == [(2, 5, 1, "sent back"), (1, 4, 2, None)]
    await stage.sim.reorg(2)
    await stage.follows()
    await stage.mine(2)
    rows = await stage.database.rows(
        "select transfers, amount, round, resolution from railwatch.exceptions order by round"
    )
    assert rows[0]["resolution"] == "sent back"
    assert rows[0]["transfers"] == 2
    assert [row["transfers"] for row in rows if row["resolution"] is None] == [1]


async def test_dust_to_an_order_that_falls_short_tells_of_the_shortfall_once(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    for _ in range(6):
        await stage.pay(invoice, 3)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "underpaid")
    assert await cases(stage, invoice) == [("underpaid", 1, None)]
    await stage.pay(invoice, 90)
    await stage.mine(2)
    assert ("underpaid", 1, "made good") in await cases(stage, invoice)

"""What time alone opens, `stuck_confirming` and `detection_delayed`: time is set back."""

from railwatch.store.database import Database
from railwatch_fake import node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.exception_checks import age, blind, cases, resolve, wait_for_open


async def test_a_payment_that_never_confirms_ages_into_an_exception_until_it_moves_on(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    stage.chain.hold(tx)
    assert await stage.open_cases(invoice) == set()
    await age(stage, invoice)
    await wait_for_open(stage, invoice, "stuck_confirming")
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
    await wait_for_open(stage, invoice, "stuck_confirming")
    await resolve(stage, invoice, "stuck_confirming")
    await age(stage, invoice, "4 hours")
    stage.chain.release(tx)
    await stage.mine()
    assert await stage.state(invoice) == "confirming"
    await age(stage, invoice)
    await wait_for_open(stage, invoice, "stuck_confirming")
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
    await wait_for_open(stage, waiting, "detection_delayed")
    assert await stage.open_cases(paid) == set()
    assert await stage.open_cases(fresh) == set(), "what was lost before it was there is not its delay"
    await stage.database.value(
        "update railwatch.invoices set created_at = created_at - interval '320 seconds' where id = $1", fresh.id
    )
    await wait_for_open(stage, fresh, "detection_delayed")
    node_of(stage.chain.name).down = False
    for each in (waiting, fresh):
        await wait_for_open(stage, each)
    assert await cases(stage, waiting) == [("detection_delayed", 1, "made good")]


async def test_a_delay_that_a_person_resolved_ends_though_nothing_is_told_of_it(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await blind(stage)
    await wait_for_open(stage, invoice, "detection_delayed")
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
    await wait_for_open(stage, invoice, "detection_delayed")
    node_of(stage.chain.name).down = False
    await wait_for_open(stage, invoice)


async def test_a_rail_that_is_halted_is_blind_too(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    node_of(stage.chain.name).undecodable = True
    await stage.pay(invoice, 100)
    await stage.sim.mine()
    await stage.rail_is("halted")
    await stage.database.value("update railwatch.rails set covered_until = now() - interval '1 hour'")
    await stage.database.value("update railwatch.invoices set created_at = now() - interval '1 hour'")
    await wait_for_open(stage, invoice, "detection_delayed")


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

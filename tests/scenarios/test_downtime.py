"""A rail that sees nothing for a while: nothing expires, and what it missed is found once."""

import asyncio
from datetime import UTC, datetime

from railwatch.store.database import Database
from railwatch_fake import node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.plain_orders import raw_invoice, register


async def test_no_invoice_expires_while_its_rail_is_blind(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(clock=lambda: datetime.now(UTC))]) as stage:
        empty, paid = await stage.invoice(100, expires_in=2), await stage.invoice(100, expires_in=2)
        node_of("story").down = True
        await stage.rail_is("stalled")
        stage.chain.send(stage.sim.output(paid.address, 100))
        stage.chain.mine(2)
        await asyncio.sleep(2.5)
        assert [await stage.state(each) for each in (empty, paid)] == ["created", "created"]
        node_of("story").down = False
        await stage.wait_for_state(paid, "paid")
        await stage.wait_for_state(empty, "expired")
        assert "expired" not in [state for state, _ in await stage.path(paid)]
        assert await stage.open_cases(paid) == set()
        await stage.audit()


async def test_an_invoice_of_two_rails_does_not_expire_while_one_of_them_is_blind(database: Database) -> None:
    chains = [chain_named(name, clock=lambda: datetime.now(UTC)) for name in ("story", "other")]
    async with DaemonHarness(database, chains) as stage:
        ways = [{"rail": chain.name, "asset": "COIN", "amount": 100} for chain in chains]
        empty, paid = [await stage.invoice(to=ways, expires_in=2) for _ in range(2)]
        node_of("other").down = True
        await stage.rail_is("stalled", "other")
        chains[1].send(stage.sim.output(paid.address, 100))
        chains[1].mine(2)
        await asyncio.sleep(2.5)
        chains[0].mine(3)
        await stage.rail_is("live")
        await asyncio.sleep(1)
        assert [await stage.state(each) for each in (empty, paid)] == ["created", "created"]
        node_of("other").down = False
        await stage.wait_for_state(paid, "paid")
        await stage.wait_for_state(empty, "expired")
        await stage.audit()


async def test_a_reorg_during_downtime_is_found_at_the_start_and_told(finality: DaemonHarness) -> None:
    gone, kept = await finality.invoice(100), await finality.invoice(100)
    await finality.pay(kept)
    await finality.mine()
    await finality.pay(gone)
    await finality.mine(2)
    assert (await finality.state(gone), await finality.state(kept)) == ("paid", "paid")
    await finality.stop()
    finality.chain.reorg(3, keep=False)
    late = await finality.sim.pay(kept.address, 100)
    finality.chain.mine(2)
    await finality.start()
    assert await finality.state(gone) == "created"
    assert (await finality.path(gone))[-1] == ("created", "reversed")
    assert await finality.open_cases(gone) == {"reversed"}
    # What came back as another transaction is another payment.
    told = await finality.path(kept)
    assert told[-3:] == [("created", "reversed"), ("confirming", "included"), ("paid", "confirmed")]
    assert await finality.database.value("select state from railwatch.detections where tx_id = $1", late) == "confirmed"


async def test_registrations_while_the_node_is_down_are_parsed_at_once_and_watched_when_it_heals(
    stage: DaemonHarness,
) -> None:
    node_of("story").down = True
    await stage.rail_is("stalled")
    # More good ones than one batch holds must not keep a bad one waiting.
    good = [await register(stage, raw_invoice(stage, f"g{n}", await stage.sim.new_address())) for n in range(600)]
    bad = [await register(stage, raw_invoice(stage, f"b{n}", f"fake:nonsense{n}")) for n in range(10)]

    async def is_rejected() -> bool:
        return all([await stage.watch_states(each) == ["rejected"] for each in bad])

    await stage.until(is_rejected)
    assert await stage.watch_states(good[0]) == ["registered"]
    stage.chain.send(stage.sim.output(good[-1].address, 100))
    stage.chain.mine(2)
    node_of("story").down = False

    async def all_watched() -> bool:
        left = "select count(*) from railwatch.destinations where watch_state = 'registered'"
        return await stage.database.value(left) == 0

    await stage.until(all_watched)
    await stage.follows()
    assert await stage.state(good[-1]) == "paid"

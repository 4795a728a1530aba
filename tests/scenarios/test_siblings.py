"""Several destinations of one invoice at one address: a payment belongs to the destination that asks for its asset."""

from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


async def kinds(database: Database) -> set[tuple[str, str]]:
    rows = await database.rows("select asset, kind from railwatch.detections")
    return {(row["asset"].rsplit(":", 1)[1], row["kind"]) for row in rows}


async def test_what_came_before_the_registration_belongs_to_the_destination_of_its_asset(stage: DaemonHarness) -> None:
    for _ in range(6):
        address = await stage.sim.new_address()
        await stage.sim.pay(address, 60, stage.sim.native)
        await stage.sim.pay(address, 60, stage.sim.assets[1])
        await stage.mine()
        ways = [{"rail": "story", "asset": each, "amount": 100, "address": address} for each in ("COIN", "GOLD")]
        await stage.invoice(to=ways)
    assert await kinds(stage.database) == {("1", "payment"), ("gold", "payment")}


async def test_what_comes_on_either_rail_belongs_to_the_destination_there(database: Database) -> None:
    chains = [chain_named("left", Rules()), chain_named("right", Rules())]
    async with DaemonHarness(database, chains) as stage:
        for _ in range(6):
            address = await stage.sim.new_address()
            for chain in chains:
                await stage.simulator(chain).pay(address, 60)
                chain.mine()
            await stage.follows()
            ways = [{"rail": each.name, "asset": "COIN", "amount": 100, "address": address} for each in chains]
            await stage.invoice(to=ways)
        assert {row["kind"] for row in await database.rows("select kind from railwatch.detections")} == {"payment"}
        assert await database.value("select count(*) from railwatch.detections") == 12

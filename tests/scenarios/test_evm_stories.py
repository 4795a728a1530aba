"""The merchant's stories once more, on a real node: the daemon as a process, ether and a token on anvil."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from railwatch.store.database import Database
from tests.scenarios.evm_harness import EvmStage, evm_stage

pytestmark = pytest.mark.anvil

ETHER = 10**18


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> AsyncIterator[EvmStage]:
    async with evm_stage(database, tmp_path, epoch=4) as stage:
        await stage.start()
        await stage.follows()
        yield stage


async def test_a_day_at_the_shop(stage: EvmStage) -> None:
    ether, token = await stage.invoice(ETHER), await stage.invoice(25_000_000, "TST")
    inside, failed = await stage.invoice(5 * ETHER), await stage.invoice(ETHER)
    short, wrong = await stage.invoice(ETHER), await stage.invoice(ETHER)
    await stage.sim.pay(ether.address, ETHER)
    await stage.sim.pay(token.address, 25_000_000, stage.sim.assets[1])
    await stage.sim.pay_internal(inside.address, 5 * ETHER)
    await stage.sim.fail_next(failed.address, ETHER)
    await stage.sim.pay(short.address, ETHER - 1)
    await stage.sim.pay(wrong.address, ETHER, stage.sim.assets[1])
    await stage.mine()
    assert await stage.tables.state(ether) == "confirming"
    await stage.mine()
    assert [await stage.tables.state(each) for each in (ether, token, inside)] == ["paid", "paid", "paid"]
    assert [await stage.tables.state(each) for each in (failed, wrong)] == ["created", "created"]
    assert await stage.tables.state(short) == "underpaid"
    assert await stage.tables.path(ether) == [("created", "created"), ("confirming", "included"), ("paid", "confirmed")]
    assert await stage.tables.open_cases(short) == {"underpaid"}
    assert await stage.tables.open_cases(wrong) == {"wrong_asset"}
    await stage.sim.pay(short.address, 1)
    await stage.mine(2)
    assert await stage.tables.state(short) == "paid"
    await stage.mine(10)
    assert (await stage.tables.path(token, "detection"))[-1] == ("final", "final")
    await stage.tables.audit()


async def test_a_reorg_after_paid_is_emitted_and_what_comes_back_is_made_good(stage: EvmStage) -> None:
    kept, token = await stage.invoice(ETHER), await stage.invoice(7, "TST")
    await stage.sim.pay(kept.address, ETHER)
    await stage.sim.pay(token.address, 7, stage.sim.assets[1])
    await stage.mine(2)
    assert [await stage.tables.state(each) for each in (kept, token)] == ["paid", "paid"]
    await stage.sim.reorg(2, keep=True)
    await stage.follows()
    for invoice in (kept, token):
        assert (await stage.tables.path(invoice))[-3:] == [
            ("created", "reversed"),
            ("confirming", "included"),
            ("paid", "confirmed"),
        ]
        assert await stage.tables.open_cases(invoice) == set()
    await stage.sim.reorg(3, keep=False)
    await stage.follows()
    for invoice in (kept, token):
        assert (await stage.tables.path(invoice))[-1] == ("created", "reversed")
        assert await stage.tables.open_cases(invoice) == {"reversed"}
    await stage.tables.audit()


async def test_a_payment_that_came_before_its_registration_is_found_once(stage: EvmStage) -> None:
    early, inside, token = [await stage.sim.new_address() for _ in range(3)]
    await stage.sim.pay(early, ETHER)
    await stage.sim.pay_internal(inside, ETHER)
    await stage.sim.pay(token, 5, stage.sim.assets[1])
    await stage.mine(5)
    placed = [(await stage.order(ETHER, address=each), "ETH", ETHER) for each in (early, inside)]
    placed.append((await stage.order(5, "TST", token), "TST", 5))
    await stage.tables.all_taken_in()
    await stage.check(placed)
    assert await stage.database.value("select count(*) from railwatch.detections") == 3

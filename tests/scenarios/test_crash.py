"""The daemon as an operator runs it, on a real node and a real Postgres, killed in the middle of its work."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from railwatch.store.database import Database
from tests.scenarios.daemon_harness import Placed
from tests.scenarios.evm_harness import EvmStage, evm_stage

pytestmark = pytest.mark.anvil

KILLS = 5


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> AsyncIterator[EvmStage]:
    async with evm_stage(database, tmp_path) as stage:
        yield stage


async def some_invoices(stage: EvmStage, how_many: int) -> list[tuple[Placed, str, int]]:
    return [(await stage.order(100, asset), asset, 100) for asset in ("ETH", "TST") for _ in range(how_many)]


async def pay(stage: EvmStage, dice: random.Random, placed: list[tuple[Placed, str, int]]) -> None:
    invoice, asset, _ = dice.choice(placed)
    amount = dice.choice([30, 50, 100])
    if asset == "TST":
        await stage.sim.pay(invoice.address, amount, stage.sim.assets[1])
    elif dice.random() < 0.2:
        await stage.sim.pay_internal(invoice.address, amount)
    elif dice.random() < 0.2:
        await stage.sim.fail_next(invoice.address, amount)
    else:
        await stage.sim.pay(invoice.address, amount)


async def traffic(stage: EvmStage, placed: list[tuple[Placed, str, int]], enough: asyncio.Event) -> int:
    """Payments, blocks and reorgs, some dozens of rounds at least; how many payments that was."""
    dice, paid, rounds = random.Random(11), 0, 0
    while rounds < 40 or not enough.is_set():
        rounds += 1
        for _ in range(8):
            await pay(stage, dice, placed)
            paid += 1
        await stage.sim.mine()
        if rounds > 4 and dice.random() < 0.2:
            await stage.sim.reorg(dice.randint(1, 3), keep=dice.random() < 0.7)
        await asyncio.sleep(dice.random() * 0.15)
    return paid


async def is_following(stage: EvmStage) -> None:
    async def is_so() -> bool:
        # Not the cursor alone: that is there from an earlier daemon.
        held = """select count(*) from railwatch.rails r join railwatch.leases l on l.rail = r.name
                  where r.cursor_height is not null and l.expires_at > now()"""
        return bool(await stage.database.value(held))

    await stage.tables.until(is_so)


@pytest.mark.long
async def test_killed_again_and_again_under_load_it_emits_every_payment_once(stage: EvmStage) -> None:
    daemon = await stage.start()
    await is_following(stage)
    placed = await some_invoices(stage, 15)
    enough, dice = asyncio.Event(), random.Random(5)
    flowing = asyncio.create_task(traffic(stage, placed, enough))
    epochs = "select epoch from railwatch.rails"
    for _ in range(KILLS):
        # Not before it follows: a daemon that is killed while it imports proves nothing.
        epoch = await stage.database.value(epochs)
        await asyncio.sleep(0.1 + dice.random() * 0.8)
        daemon.kill()
        await daemon.wait()
        daemon = await stage.start()

        async def has_it(epoch: int = epoch) -> bool:
            return bool(await stage.database.value(epochs) > epoch)

        await stage.tables.until(has_it)
    enough.set()
    assert await flowing > 300
    await stage.tables.all_taken_in()
    await stage.mine(3)
    await stage.check(placed)
    daemon.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(daemon.wait(), 5) == 0


@pytest.mark.long
async def test_asked_to_stop_under_load_it_ends_in_order_within_five_seconds(stage: EvmStage) -> None:
    daemon = await stage.start()
    await is_following(stage)
    placed, enough = await some_invoices(stage, 5), asyncio.Event()
    flowing = asyncio.create_task(traffic(stage, placed, enough))
    for _ in range(2):
        await asyncio.sleep(1)
        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(daemon.wait(), 15)
        assert (code, time.monotonic() - began < 5) == (0, True), await stage.last_words()
        assert await stage.database.value("select count(*) from railwatch.leases") == 0
        daemon = await stage.start()
        await is_following(stage)  # a signal that comes while Python still starts ends it at once
    enough.set()
    await flowing
    await stage.tables.all_taken_in()
    await stage.mine(3)
    await stage.check(placed)


async def test_after_a_kill_the_daemon_that_waited_takes_over_quickly(stage: EvmStage) -> None:
    first = await stage.start()
    await is_following(stage)
    await stage.start()
    await asyncio.sleep(2)
    epoch = await stage.database.value("select epoch from railwatch.rails")
    placed = await stage.order(100)
    await stage.tables.all_taken_in()
    await stage.sim.pay(placed.address, 100)
    await stage.sim.mine(2)
    first.kill()
    killed = time.monotonic()

    async def is_taken() -> bool:
        return bool(await stage.database.value("select epoch from railwatch.rails") == epoch + 1)

    await stage.tables.until(is_taken)
    assert time.monotonic() - killed < 15
    await stage.follows()
    assert await stage.tables.state(placed) == "paid"


async def test_a_paused_daemon_that_wakes_up_after_another_took_over_writes_nothing(stage: EvmStage) -> None:
    paused = await stage.start()
    await is_following(stage)
    placed = await stage.order(100)
    await stage.tables.all_taken_in()
    paused.send_signal(signal.SIGSTOP)
    epoch = await stage.database.value("select epoch from railwatch.rails")
    awake = await stage.start()
    # What fifteen seconds would do.
    await stage.database.value("update railwatch.leases set expires_at = now() - interval '1 second' returning 1")

    async def is_taken() -> bool:
        return bool(await stage.database.value("select epoch from railwatch.rails") == epoch + 1)

    await stage.tables.until(is_taken)
    holder = await stage.database.value("select holder from railwatch.leases")
    await stage.sim.pay(placed.address, 100)
    await stage.mine(3)
    before = await stage.database.value("select last_seq from railwatch.feed_position")
    paused.send_signal(signal.SIGCONT)
    await asyncio.sleep(3)
    assert await stage.database.value("select last_seq from railwatch.feed_position") == before
    assert await stage.database.value("select holder from railwatch.leases") == holder
    assert (paused.returncode, awake.returncode) == (None, None)
    await stage.mine()
    await stage.check([(placed, "ETH", 100)])


async def test_a_daemon_that_is_paused_inside_a_step_is_followed_within_fifteen_seconds(stage: EvmStage) -> None:
    """A step cannot hold what others need: its session ends, and the rail's row with it."""
    paused = await stage.start()
    await is_following(stage)
    placed = await stage.order(100)
    await stage.tables.all_taken_in()
    await stage.start()
    await asyncio.sleep(3)
    epoch = await stage.database.value("select epoch from railwatch.rails")
    held = (
        "select count(*) from pg_stat_activity where application_name = 'railwatch' and state = 'idle in transaction'"
    )
    async with stage.database.transaction() as connection:
        # The step comes to its last lock, and is paused there; then the lock is free, and the step goes no further.
        await connection.execute("select from railwatch.feed_position for update")
        await stage.sim.pay(placed.address, 100)
        await stage.sim.mine()
        await asyncio.sleep(1)
        paused.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        before = await connection.fetchval("select last_seq from railwatch.feed_position")
    await asyncio.sleep(0.5)
    assert await stage.database.value(held) > 0

    async def is_taken() -> bool:
        return bool(await stage.database.value("select epoch from railwatch.rails") > epoch)

    while not await is_taken():
        assert time.monotonic() - stopped < 18
        await asyncio.sleep(0.1)
    await stage.mine(2)
    await stage.check([(placed, "ETH", 100)])
    last_seq = await stage.database.value("select last_seq from railwatch.feed_position")
    assert last_seq > before
    paused.send_signal(signal.SIGCONT)
    await asyncio.sleep(3)
    assert await stage.database.value("select last_seq from railwatch.feed_position") == last_seq

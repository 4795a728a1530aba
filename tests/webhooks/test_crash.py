"""Deliverer, receiver and Postgres are killed in turn: nothing is lost, and a repeat has the same webhook-id."""

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from railwatch.cli.errors import Exit
from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from tests.folders import database_folder
from tests.webhooks.process import deliverer, write_config
from tests.webhooks.receiver import OLD_SECRET, SECRET, Got, accept, receiver
from tests.webhooks.shop import Shop, furnish, until, webhook
from tests.webhooks.test_delivery import in_order


@asynccontextmanager
async def frozen_table(dsn: str) -> AsyncIterator[Any]:
    """No session can record how a delivery ended, until this is left."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("lock table railwatch.webhook_deliveries in share mode")
            yield connection
    finally:
        await connection.close()


async def is_waiting(connection: Any) -> bool:
    """Return True if a session waits for the table."""
    return bool(await connection.fetchval("select count(*) from pg_locks where not granted"))


async def test_killed_between_sending_and_recording_it_repeats_under_the_same_id(shop: Shop, tmp_path: Path) -> None:
    first, second = await shop.order(), await shop.order()
    await shop.emit(first)
    gate = asyncio.Event()

    async def gated(_: Got) -> int:
        await gate.wait()
        return 200

    async with receiver(behave=gated) as shopkeeper:
        config = write_config(tmp_path, shop.database.dsn, webhook(shopkeeper))
        async with deliverer(config) as before:
            await until(lambda: len(shopkeeper.got) == 2)
            async with frozen_table(shop.database.dsn) as connection:
                gate.set()
                await until(lambda: len(shopkeeper.accepted) == 2)
                await until(lambda: is_waiting(connection))
                await before.kill()
        async with deliverer(config) as after:
            await until(shop.owes_nothing)
            assert await after.end() == Exit.OK
    counts = Counter(each.id for each in shopkeeper.accepted)
    assert sorted(counts.values()) == [1, 2, 2]
    assert len({each.body for each in shopkeeper.accepted}) == 3
    assert [each.seq for each in shopkeeper.accepted if each.invoice == str(first)] == [1, 1, 3]
    assert second


@pytest.mark.long
async def test_killed_again_and_again_it_loses_nothing_and_keeps_each_invoices_order(
    shop: Shop, tmp_path: Path
) -> None:
    orders = [await shop.order() for _ in range(20)]
    dice = random.Random(3)

    async def sometimes(_: Got) -> int:
        await asyncio.sleep(dice.random() * 0.01)
        return 500 if dice.random() < 0.1 else 200

    async with receiver(behave=sometimes) as shopkeeper:
        config = write_config(tmp_path, shop.database.dsn, webhook(shopkeeper, attempts=100))
        for _ in range(4):
            heard = len(shopkeeper.accepted)
            async with deliverer(config) as running:
                for _ in range(60):
                    await shop.emit(dice.choice(orders))
                await until(lambda heard=heard: len(shopkeeper.accepted) > heard + 5)  # type: ignore[misc]
                await running.kill()
        async with deliverer(config):
            await until(shop.owes_nothing)
    last_seq = await shop.database.value("select last_seq from railwatch.feed_position")
    assert {each.seq for each in shopkeeper.accepted} == set(range(1, last_seq + 1))
    assert len({each.id for each in shopkeeper.accepted}) == last_seq
    assert in_order(shopkeeper)


async def test_a_receiver_that_is_killed_gets_everything_once_it_is_back(shop: Shop) -> None:
    orders = [await shop.order() for _ in range(10)]
    async with receiver() as shopkeeper, shop.delivering(webhook(shopkeeper, attempts=100, timeout=1)):
        await until(lambda: len(shopkeeper.accepted) >= 5)
        await shopkeeper.stop()
        for order in orders:
            await shop.emit(order)
        await until(lambda: _has_failed(shop))
        await shopkeeper.start()
        await until(shop.owes_nothing)
    assert {each.seq for each in shopkeeper.accepted} == set(range(1, 21))
    assert in_order(shopkeeper)


async def _has_failed(shop: Shop) -> bool:
    return (await shop.endpoints())["shop"]["last_failed_at"] is not None


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """Return a folder that the server's account can reach."""
    with tempfile.TemporaryDirectory(prefix="railwatch-tests-", dir=database_folder()) as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_a_postgres_that_is_restarted_in_the_middle_costs_nothing(own_folder: Path) -> None:
    server = EmbeddedPostgres(own_folder / "data")
    dsn = await server.start()
    try:
        connection = await asyncpg.connect(dsn)
        await migrate(connection)
        await connection.close()
        async with Database(dsn, size=4) as database:
            await furnish(database)
            await _restarted_in_the_middle(Shop(database), server)
    finally:
        await server.stop()


async def _restarted_in_the_middle(shop: Shop, server: EmbeddedPostgres) -> None:
    orders = [await shop.order() for _ in range(20)]
    for order in orders:
        await shop.emit(order)
    gate = asyncio.Event()

    async def gated(_: Got) -> int:
        await gate.wait()
        return 200

    async with receiver(behave=gated) as shopkeeper, shop.delivering(webhook(shopkeeper)) as running:
        await until(lambda: len(shopkeeper.got) == 8)
        await server.stop()
        gate.set()
        await until(lambda: len(shopkeeper.accepted) == 8)
        await until(lambda: not running.held)
        assert len(shopkeeper.got) == 8, "without the lock nothing goes out"
        await server.start()
        await until(shop.owes_nothing)
        await until(lambda: running.held)
    assert len(shopkeeper.accepted) == 40, "what had arrived was remembered, and not sent again"
    assert in_order(shopkeeper)


async def test_two_deliverers_take_turns_and_say_so(shop: Shop, tmp_path: Path) -> None:
    order = await shop.order()
    async with receiver() as shopkeeper:
        config = write_config(tmp_path, shop.database.dsn, webhook(shopkeeper))
        async with deliverer(config) as first:
            await until(shop.owes_nothing)
            async with deliverer(config) as second:
                await until(lambda: second.has_said("deliver.standby"))
                [standby] = [each for each in second.events() if each["event"] == "deliver.standby"]
                assert standby["holder"].endswith(f"/{first.process.pid}")
                async with deliverer(config, "--once") as third:
                    assert await third.process.wait() == Exit.REJECTED
                    assert "delivers already" in third.log
                await shop.emit(order)
                await until(shop.owes_nothing)
                assert not second.has_said("deliver.started")
                await first.kill()
                await shop.emit(order)
                await until(shop.owes_nothing)
                assert await second.end() == Exit.OK
    assert [each.seq for each in shopkeeper.got] == [1, 2, 3]


async def test_no_secret_is_ever_said(shop: Shop, tmp_path: Path) -> None:
    await shop.order()
    key, path = SECRET.removeprefix("whsec_"), "a-key-in-the-path"

    async def refuse(_: Got) -> int:
        return 500

    async with receiver(behave=refuse) as shopkeeper:
        good = webhook(shopkeeper, "good", attempts=2, old_secret=OLD_SECRET)
        keyed = webhook(f"http://127.0.0.1:9/{path}?token={path}", "keyed", attempts=2)
        config = write_config(tmp_path, shop.database.dsn, good, keyed)
        async with deliverer(config) as running:
            await until(lambda: [each["event"] for each in running.events()].count("webhook.dead") == 2)
            shopkeeper.behave = accept
            await shop.order()
            await until(lambda: running.has_said("webhook.delivered"))
            assert await running.end() == Exit.OK
            log = running.log
    tables = [
        str(await shop.database.rows(f"select t::text from railwatch.{name} t"))
        for name in ("webhook_endpoints", "webhook_deliveries", "consumers", "settings")
    ]
    for text in (log, *tables):
        for secret in (key, OLD_SECRET.removeprefix("whsec_"), path, "v1,"):
            assert secret not in text

"""A database that ends, returns and hangs: a step is done once or not at all, the feed is whole."""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.errors import StoreUnavailable
from railwatch.store.migrate import migrate
from railwatch_fake import Rules
from tests.folders import database_folder
from tests.scenarios import oracle
from tests.scenarios.cut_proxy import Cutter
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


async def some_invoices(stage: DaemonHarness, how_many: int = 10) -> dict[Placed, int]:
    placed = {await stage.order(await stage.sim.new_address()): 100 for _ in range(how_many)}
    await stage.all_taken_in()
    return placed


async def traffic(
    stage: DaemonHarness, placed: dict[Placed, int], rounds: int, *, pause: float = 0.02, seed: int = 1
) -> None:
    """Blocks with payments, reorgs, double-spends. Touches the chain only, never the database."""
    dice, chain = random.Random(seed), stage.chain
    for _ in range(rounds):
        for invoice in dice.sample(list(placed), 3):
            await stage.sim.pay(invoice.address, dice.choice([30, 50, 100]))
        if dice.random() < 0.3:
            chain.replace(dice.choice(list(chain.waiting)))
        await asyncio.sleep(dice.random() * pause)
        chain.mine(dice.choice([1, 1, 2]))
        if dice.random() < 0.3:
            chain.reorg(min(dice.randint(1, 3), len(chain.line) - 1), keep=dice.random() < 0.7)
        await asyncio.sleep(dice.random() * pause)


@asynccontextmanager
async def beside(dsn: str) -> AsyncIterator[Any]:
    """A connection of neither the daemon nor the stage."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "bystander"})
    try:
        yield connection
    finally:
        await connection.close()


async def test_connections_that_end_at_any_moment_cost_nothing(stage: DaemonHarness) -> None:
    placed = await some_invoices(stage)
    killed = 0
    async with beside(stage.database.dsn) as connection:
        flowing = asyncio.create_task(traffic(stage, placed, 60))
        dice = random.Random(7)
        while not flowing.done():
            await asyncio.sleep(0.02 + dice.random() * 0.08)
            killed += await connection.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where datname = current_database() and application_name = 'railwatch'"
            )
        await flowing
    assert killed > 20
    # The story's own connections were ended as well: let its pool notice.
    for _ in range(4):
        await asyncio.sleep(0.05)
        with suppress(StoreUnavailable):
            await stage.database.value("select 1")
    await oracle.settles(stage, placed)
    await stage.mine(2)
    await oracle.settles(stage, placed)


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that the server's account can reach."""
    with tempfile.TemporaryDirectory(prefix="railwatch-tests-", dir=database_folder()) as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_a_postgres_that_is_stopped_and_started_again_in_the_middle_costs_nothing(own_folder: Path) -> None:
    server = EmbeddedPostgres(own_folder / "data")
    dsn = await server.start()
    try:
        async with beside(dsn) as connection:
            await migrate(connection)
        async with Database(dsn, size=2) as database, DaemonHarness(database, [chain_named()]) as stage:
            placed = await some_invoices(stage)
            for turn in range(2):
                flowing = asyncio.create_task(traffic(stage, placed, 30, seed=turn))
                await asyncio.sleep(0.15)
                await server.stop()
                await asyncio.sleep(0.2)
                assert await server.start() == dsn
                await flowing
                await oracle.settles(stage, placed)
            await stage.mine(2)
            await oracle.settles(stage, placed)
    finally:
        await server.stop()


@pytest.mark.parametrize("mempool", [True, False])
async def test_a_commit_whose_answer_is_lost_is_not_done_twice(database: Database, mempool: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="railwatch-cut-") as name:
        async with Cutter(Path(name), database.dsn, seed=3) as wire:
            chain = chain_named(rules=Rules(mempool=mempool))
            async with DaemonHarness(database, [chain], daemon_dsn=wire.dsn) as stage:
                placed = await some_invoices(stage)
                wire.commits, wire.others = 0.4, 0.03
                # The number of commits of the traffic depends on the machine's load.
                async with asyncio.timeout(60):
                    while wire.cut["commit"] < 2:
                        await traffic(stage, placed, 30, pause=0.03)
                wire.commits = wire.others = 0
                await oracle.settles(stage, placed)
                await stage.mine(2)
                await oracle.settles(stage, placed)


async def test_a_service_that_holds_its_transaction_only_delays(stage: DaemonHarness) -> None:
    placed = await some_invoices(stage)
    address = await stage.sim.new_address()
    request = {
        "merchant_id": "shop",
        "order_id": "slow",
        "expires_in": 3600,
        "destinations": [{"rail": "story", "asset": "COIN", "amount": 100, "address": address}],
    }
    async with Database(stage.database.dsn, size=1) as service:
        async with service.transaction() as connection:
            slow = await connection.fetchval("select railwatch.create_invoice($1)", request)
            before = await stage.database.value("select max(seq) from railwatch.transitions")
            await traffic(stage, placed, 20)
            await stage.sim.pay(address, 100)
            # Blocks without payments go on meanwhile; a step with transitions waits for its turn.
            assert await stage.database.value("select max(seq) from railwatch.transitions") == before
        placed[Placed(slow, address)] = 100
    await oracle.settles(stage, placed)
    await stage.mine(2)
    await oracle.settles(stage, placed)
    first = "select seq from railwatch.transitions where invoice_id = $1 order by seq limit 1"
    assert await stage.database.value(first, slow) == before + 1


async def test_a_reader_that_only_goes_forward_misses_nothing_of_any_writer(stage: DaemonHarness) -> None:
    """HAZARDS P2: transactions stay open, some are rolled back, and a seq that was passed never appears later."""
    placed = await some_invoices(stage)
    done = asyncio.Event()

    async def service(number: int) -> None:
        dice = random.Random(number)
        async with beside(stage.database.dsn) as connection:
            for turn in range(15):
                transaction = connection.transaction()
                await transaction.start()
                way = {"rail": "story", "asset": "COIN", "amount": 1, "address": await stage.sim.new_address()}
                who = {"merchant_id": f"shop {number}", "order_id": str(turn)}
                request = json.dumps({**who, "expires_in": 60, "destinations": [way]})
                await connection.fetchval("select railwatch.create_invoice($1::text::jsonb)", request)
                await asyncio.sleep(dice.random() * 0.02)
                await (transaction.rollback() if dice.random() < 0.3 else transaction.commit())
                await asyncio.sleep(dice.random() * 0.01)

    async def read() -> list[int]:
        seen: list[int] = []
        async with beside(stage.database.dsn) as connection:
            while True:
                last = done.is_set()
                rows = await connection.fetch(
                    "select seq from railwatch.transitions where seq > $1 order by seq", seen[-1] if seen else 0
                )
                seen.extend(row["seq"] for row in rows)
                if last:
                    return seen
                await asyncio.sleep(0.001)

    reader = asyncio.create_task(read())
    await asyncio.gather(service(1), service(2), service(3), traffic(stage, placed, 40))
    await oracle.settles(stage, placed)
    done.set()
    seen = await reader
    assert seen == list(range(1, len(seen) + 1))
    newest = await stage.database.value("select max(seq) from railwatch.transitions")
    assert newest - len(seen) < 50  # what came after the last poll
    assert len(seen) > 200


async def test_a_stop_while_postgres_answers_nothing_is_soon_done(stage: DaemonHarness) -> None:
    """SIGTERM has to end in five seconds whatever hangs, or systemd kills in mid-step."""
    await some_invoices(stage, 2)
    async with beside(stage.database.dsn) as connection:
        # The rail's row, the leases and the feed are all locked by a session that never releases them.
        await connection.execute("begin; lock table railwatch.rails, railwatch.leases, railwatch.feed_position")
        stage.chain.mine(3)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await stage.stop()
        assert time.monotonic() - began < 5
        await connection.execute("rollback")

"""On a real node, under load: daemon, deliverer, consumer, receiver and Postgres are killed in turn."""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.endpoints import list_endpoints
from railwatch.store.migrate import migrate
from railwatch_evm.dev.simulator import EvmSimulator
from tests.consumers.test_fulfil import PROGRAM, TABLES
from tests.folders import database_folder
from tests.scenarios.daemon_harness import Placed
from tests.scenarios.evm_harness import EvmStage
from tests.webhooks.receiver import SECRET, Receiver, receiver
from tests.webhooks.shop import until
from tests.webhooks.test_delivery import in_order

pytestmark = pytest.mark.anvil

LONG = 60.0

WEBHOOK = """
[deliver]
allow = ["127.0.0.0/8"]
[[webhook]]
name = "shop"
url = {url}
events = ["*"]
secret_file = "shop.secret"
begin = "start"
attempts = 100
first_pause = 0.05
timeout = 2
"""


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that the server's account can reach."""
    with tempfile.TemporaryDirectory(prefix="railwatch-tests-", dir=database_folder()) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@dataclass(slots=True)
class Company:
    """All who work together, and how each is killed and comes back."""

    stage: EvmStage
    server: EmbeddedPostgres
    folder: Path
    shopkeeper: Receiver
    processes: dict[str, Process] = field(default_factory=dict)

    async def start(self) -> None:
        await self.begin("daemon", "-m", "railwatch", "run", "--config", self.config)
        await until(self.is_mirrored, LONG)
        await self.begin("deliverer", "-m", "railwatch", "deliver", "--config", self.config)
        dsn = self.stage.database.dsn
        await self.begin("consumer", str(PROGRAM), dsn, dsn)

    @property
    def config(self) -> str:
        return str(self.stage.folder / "railwatch.toml")

    async def is_mirrored(self) -> bool:
        return bool(await self.stage.database.value("select count(*) from railwatch.rails"))

    async def begin(self, name: str, *command: str) -> None:
        """Start it, and start it again whenever it ends, as systemd would."""
        with (self.stage.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=log)

        async def again(process: Process) -> None:
            await process.wait()
            await asyncio.sleep(0.2)
            await self.begin(name, *command)

        task = asyncio.create_task(again(self.processes[name]), name=name)
        self.keepers = [*(each for each in self.keepers if not each.done()), task]

    keepers: list[asyncio.Task[None]] = field(default_factory=list)

    async def kill(self, name: str) -> None:
        """Not before it works: a process that is killed while it imports proves nothing."""
        before = self.processes[name]
        before.kill()
        await before.wait()
        await until(lambda: self.processes[name] is not before, LONG)

    async def kill_receiver(self) -> None:
        await self.shopkeeper.stop()
        await asyncio.sleep(0.3)
        await self.shopkeeper.start()

    async def kill_postgres(self) -> None:
        """Its postmaster is killed, and every backend dies with it in the middle of what it does."""
        postmaster = int((self.folder / "data/cluster/postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        await asyncio.sleep(0.3)
        await self.server.start()

    async def end(self) -> None:
        for each in self.keepers:
            each.cancel()
        await asyncio.gather(*self.keepers, return_exceptions=True)
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def company(folder: Path, logs: Path) -> AsyncIterator[Company]:
    server = EmbeddedPostgres(folder / "data")
    dsn = await server.start()
    try:
        connection = await asyncpg.connect(dsn)
        await migrate(connection)
        await connection.execute(TABLES.read_text())
        await connection.close()
        async with (
            Database(dsn, size=4) as database,
            receiver() as shopkeeper,
            EvmSimulator(epoch=32) as sim,
            EvmStage(sim, database, logs) as stage,
        ):
            config = logs / "railwatch.toml"
            config.write_text(config.read_text() + WEBHOOK.format(url=json.dumps(shopkeeper.url)))
            (logs / "shop.secret").write_text(SECRET)
            made = Company(stage, server, folder, shopkeeper)
            try:
                await made.start()
                yield made
            finally:
                await made.end()
    finally:
        await server.stop()


async def traffic(stage: EvmStage, placed: list[Placed], enough: asyncio.Event) -> None:
    """Payments, blocks and reorgs. Touches the chain only."""
    dice = random.Random(17)
    while not enough.is_set():
        for _ in range(3):
            await stage.sim.pay(dice.choice(placed).address, dice.choice([50, 100]))
        await stage.sim.mine()
        if dice.random() < 0.3:
            await stage.sim.reorg(dice.randint(1, 3), keep=dice.random() < 0.5)
        await asyncio.sleep(0.05)


@pytest.mark.long
async def test_killed_in_turn_they_lose_nothing_and_double_nothing(own_folder: Path, tmp_path: Path) -> None:
    async with company(own_folder, tmp_path) as they:
        stage = they.stage
        await stage.follows()
        placed = [await stage.order(100) for _ in range(25)]
        await stage.tables.all_taken_in()
        enough = asyncio.Event()
        flowing = asyncio.create_task(traffic(stage, placed, enough))
        blows: list[Callable[[], Awaitable[None]]] = [
            lambda: they.kill("deliverer"),
            they.kill_receiver,
            lambda: they.kill("daemon"),
            lambda: they.kill("consumer"),
            they.kill_postgres,
        ]
        for blow in [*blows, *reversed(blows)]:
            heard = len(they.shopkeeper.accepted)
            await blow()
            await until(lambda heard=heard: len(they.shopkeeper.accepted) > heard + 20, LONG)  # type: ignore[misc]
        enough.set()
        await flowing
        await until(lambda: answers(stage.database))
        await stage.mine(3)
        await until(lambda: has_come_everywhere(stage.database), LONG)
        await stage.check([(each, "ETH", 100) for each in placed])
        await compare(stage.database, they.shopkeeper)


async def answers(database: Database) -> bool:
    """Whether the pool has noticed that its connections of before are gone."""
    try:
        return bool(await database.value("select true"))
    except Exception:  # noqa: BLE001 - whatever a dead connection says
        return False


async def has_come_everywhere(database: Database) -> bool:
    [endpoint] = await list_endpoints(database)
    position = (
        "select position = last_seq from railwatch.consumers, railwatch.feed_position where name = 'fulfilment-py'"
    )
    return (endpoint["lag"], endpoint["pending"], endpoint["dead"]) == (0, 0, 0) and bool(
        await database.value(position)
    )


async def compare(database: Database, shopkeeper: Receiver) -> None:
    """The feed is what happened; the receiver and the shop must agree with it."""
    feed = {
        str(row["event_id"]): row["seq"]
        for row in await database.rows("select event_id, seq from railwatch.transitions")
    }
    assert len(feed) > 300
    assert {each.id: each.seq for each in shopkeeper.accepted} == feed
    assert len({each.body for each in shopkeeper.accepted}) == len(feed), "a repeat has the same bytes"
    assert in_order(shopkeeper)
    fulfilled = """
        select count(*) filter (where f.invoice_id is null) + count(*) filter (where t.invoice_id is null)
        from shop.fulfilments f full join (
            select distinct invoice_id from railwatch.transitions
            where subject = 'invoice' and to_state in ('paid', 'overpaid')) t using (invoice_id)"""
    assert await database.value(fulfilled) == 0
    reversals = """
        select count(*) filter (where r.event_id is null) + count(*) filter (where t.event_id is null)
        from shop.reversals r full join (
            select t.event_id from railwatch.transitions t join shop.fulfilments f using (invoice_id)
            where t.subject = 'invoice' and t.reason = 'reversed' and t.seq > f.seq
              and t.to_state not in ('paid', 'overpaid', 'late_paid')) t using (event_id)"""
    assert await database.value(reversals) == 0
    assert await database.value("select count(*) from shop.reversals") > 0
    open_reversals = """
        select count(*) filter (where r.invoice_id is null) + count(*) filter (where e.invoice_id is null)
        from (select invoice_id from shop.reversals where settled_again_seq is null) r full join (
            select invoice_id from railwatch.exceptions join shop.fulfilments using (invoice_id)
            where kind = 'reversed' and resolved_at is null) e using (invoice_id)"""
    assert await database.value(open_reversals) == 0, "what is stopped is what is open"

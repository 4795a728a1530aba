"""A Postgres that is there and refuses, answers late or never: the daemon says so, waits, and comes back by itself."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from railwatch.cli.daemon_reporter import DaemonReporter
from railwatch.daemon.follow import steadiness
from railwatch.ops.metrics import Metrics
from railwatch.store.database import Database
from railwatch_fake import node_of
from tests.scenarios import oracle
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.scenarios.refuser import FATAL, Refuser
from tests.scenarios.test_postgres import some_invoices, traffic
from tests.webhooks.receiver import receiver
from tests.webhooks.shop import Shop, furnish, until, webhook

CODES = (
    *(
        "08006",
        "25006",
        "25P03",
        "25P04",
        "28P01",
        "3D000",
        "40001",
        "40003",
        "40P01",
        "53100",
        "53200",
        "53300",
        "53400",
    ),
    *("55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030", "F0000"),
)
"""A failover to a read-only server, no more disk, memory or connections, timeouts, deadlocks, shutdowns and crashes."""


@dataclass(slots=True)
class Heard(DaemonReporter):
    """What `/readyz` would say, and which tasks failed for an unforeseen reason."""

    broken: Counter[str] = field(default_factory=Counter)

    def failed(self, task: str) -> None:
        self.broken[task] += 1


@asynccontextmanager
async def playing(database: Database, **options: Any) -> AsyncIterator[tuple[DaemonHarness, Refuser, Heard]]:
    with tempfile.TemporaryDirectory(prefix="railwatch-refuse-") as name:
        heard = Heard(Metrics())
        async with (
            Refuser(Path(name), database.dsn, seed=5) as wire,
            DaemonHarness(database, [chain_named()], daemon_dsn=wire.dsn, reporter=heard, options=options) as stage,
        ):
            yield stage, wire, heard


async def is_unready(heard: Heard, what: str) -> None:
    await until(lambda: what in heard.unready.get("story", ""))


async def is_ready(heard: Heard) -> None:
    await until(lambda: not heard.unready)


async def test_what_postgres_refuses_for_a_while_is_waited_for_and_reported(database: Database) -> None:
    """Any statement, with any of these errors, at any moment: nothing is lost, nothing twice, and no task breaks."""
    async with playing(database) as (stage, wire, heard):
        placed = await some_invoices(stage)
        for number, code in enumerate(CODES):
            wire.code, wire.chance = code, 0.2
            async with asyncio.timeout(60):
                while not wire.refused[code]:
                    await traffic(stage, placed, 4, seed=number)
        wire.code = None
        await oracle.settles(stage, placed)
        await stage.mine(2)
        await oracle.settles(stage, placed)
        assert set(wire.refused) == set(CODES)
        assert not heard.broken
        await is_ready(heard)


@pytest.mark.parametrize("code", ["25006", "53100", "57P03"])
async def test_while_every_statement_is_refused_the_daemon_is_not_ready_and_says_why(
    database: Database, code: str
) -> None:
    async with playing(database) as (stage, wire, heard):
        invoice = await stage.invoice()
        await is_ready(heard)
        wire.code = code
        await stage.pay(invoice)
        await stage.sim.mine(2)
        await is_unready(heard, "refused for a test" if code not in FATAL else "")
        assert await stage.state(invoice) == "created"
        wire.code = None
        await stage.wait_for_state(invoice, "paid")
        await is_ready(heard)
        assert not heard.broken


async def test_a_node_that_is_too_slow_while_postgres_is_down_is_named_once_it_is_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To say so was a statement as well, and ended the task that minds the time."""
    monkeypatch.setattr(steadiness, "LAG_MAX_SECONDS", 1.0)
    async with playing(database, nodes=[{"chain": "story", "timeout": 30.0}]) as (stage, wire, heard):
        await is_ready(heard)
        node_of("story").latency = 5.0
        stage.chain.mine(3)
        wire.code = "53100"
        await asyncio.sleep(3)  # in which it is found to be slow
        wire.code = None

        async def is_named() -> bool:
            return "is too slow" in ((await stage.rail())["reason"] or "")

        await stage.until(is_named, stage.rail)
        assert not heard.broken
        node_of("story").latency = 0.0
        await is_ready(heard)


async def test_a_postgres_that_hangs_is_reported_and_one_that_is_late_is_used(database: Database) -> None:
    async with playing(database) as (stage, wire, heard):
        invoice = await stage.invoice()
        await is_ready(heard)
        wire.answers.clear()
        await until(lambda: bool(heard.unready), 60)
        wire.answers.set()
        wire.late = 0.1
        await stage.pay(invoice)
        await stage.sim.mine(2)
        await stage.wait_for_state(invoice, "paid")
        assert not heard.broken


@pytest.mark.parametrize("code", ["53100", "57P03"])
async def test_a_daemon_that_starts_while_postgres_refuses_waits_for_it(database: Database, code: str) -> None:
    async with playing(database) as (stage, wire, _):
        await stage.stop()
        wire.code = code
        await stage.start(wait=False)
        await until(lambda: wire.refused[code] > 1)
        wire.chance = 0.3
        await until(lambda: wire.refused[code] > 3)
        wire.code = None
        await stage.mine()


async def test_the_deliverer_waits_for_what_postgres_refuses(database: Database) -> None:
    await furnish(database)
    with tempfile.TemporaryDirectory(prefix="railwatch-refuse-") as name:
        async with (
            Refuser(Path(name), database.dsn, seed=6) as wire,
            receiver() as shopkeeper,
            Database(wire.dsn, size=4) as behind,
        ):
            shop, refused = Shop(database), Shop(behind)
            wire.chance = 0.2
            async with refused.delivering(webhook(shopkeeper)) as running:
                for code in CODES:
                    wire.code = code
                    async with asyncio.timeout(60):
                        while not wire.refused[code]:
                            await shop.emit(await shop.order())
                            await asyncio.sleep(0.02)
                wire.code = None
                await until(shop.owes_nothing, 60)
                assert not running.broken
                assert {each.id for each in shopkeeper.accepted} == {
                    str(each["event_id"]) for each in await database.rows("select event_id from railwatch.transitions")
                }

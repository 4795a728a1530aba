"""One whole life of a payment on real coins, and the daemon killed at any point of it: the feed is the same."""

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from railwatch.store.database import Database
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.scenarios.bitcoin_harness import BitcoinStage
from tests.scenarios.cut_proxy import Cutter
from tests.scenarios.daemon_harness import Placed
from tests.scenarios.test_bitcoin_stories import CONFIRMING, CREATED, DETECTED, PAID

pytestmark = pytest.mark.bitcoind

LIFE = [CREATED, DETECTED, CONFIRMING, PAID, ("created", "reversed")]
OF_ITS_DETECTION = [
    ("pending", "seen"),
    ("included", "included"),
    ("confirmed", "confirmed"),
    ("orphaned", "orphaned"),
    ("replaced", "replaced"),
]
COMMITS_MAX = 60


async def live(stage: BitcoinStage, meanwhile: Callable[[], Awaitable[None]]) -> tuple[Placed, str]:
    """Seen waiting, confirmed, paid, orphaned and spent elsewhere; each is emitted before the next happens.

    ``meanwhile`` is called after each thing that the chain does. Returns the invoice, and the rival's id.
    """
    invoice = await stage.order(await stage.sim.new_address())
    await stage.tables.all_taken_in()
    tx_id = await stage.pay(invoice)
    await meanwhile()
    await stage.emits(invoice, *LIFE[:2])
    for length in (3, 4):
        await stage.sim.mine()
        await meanwhile()
        await stage.emits(invoice, *LIFE[:length])
    rival = await stage.sim.reverse(2, tx_id)
    await meanwhile()
    await stage.emits(invoice, *LIFE)
    return invoice, rival


async def check(stage: BitcoinStage, invoice: Placed, rival: str) -> None:
    """All that any reader can see of it."""
    await stage.has_open(invoice, "reversed", "double_spend")
    await stage.follows()
    assert await stage.tables.path(invoice) == LIFE
    [detection] = await stage.detections(invoice)
    assert (detection["state"], detection["replaced_by"]) == ("replaced", rival)
    assert await stage.tables.path(invoice, "detection") == OF_ITS_DETECTION
    await stage.tables.audit()


async def test_dead_before_or_after_any_commit_of_it(database: Database, tmp_path: Path) -> None:
    """Every commit of the story in turn is the daemon's last act, or the act that it did not come to."""
    with tempfile.TemporaryDirectory(prefix="railwatch-cut-") as name:
        async with (
            Cutter(Path(name), database.dsn) as wire,
            BitcoinSimulator() as sim,
            BitcoinStage(sim, database, tmp_path, daemon_dsn=wire.dsn) as stage,
        ):
            await stage.start()
            for before in (True, False):
                for commit in range(1, COMMITS_MAX):
                    wire.strike_at(commit, before=before)
                    undertaker = asyncio.create_task(_bury(stage, wire))
                    invoice, rival = await live(stage, _nothing)
                    struck = wire.struck.is_set() or undertaker.done()
                    if struck:
                        await undertaker
                    undertaker.cancel()
                    wire.mend()
                    await check(stage, invoice, rival)
                    if not struck:
                        break
                # Registered, seen, included, confirmed, reversed: less would mean that the story was not cut at all.
                assert commit > 5


async def _bury(stage: BitcoinStage, wire: Cutter) -> None:
    """When the daemon has died, start another."""
    await wire.struck.wait()
    await stage.stop()
    wire.mend()
    await stage.start(wait=False)


async def _nothing() -> None:
    """Kill no process."""


@pytest.mark.long
async def test_killed_at_any_moment_of_it(database: Database, tmp_path: Path) -> None:
    """The process itself, by SIGKILL, while it hears of what has happened."""
    dice = random.Random(4)
    async with BitcoinSimulator() as sim, BitcoinStage(sim, database, tmp_path) as stage:

        async def murder() -> None:
            await asyncio.sleep(dice.random() * 0.06)
            await stage.kill()
            await stage.start_process()

        await stage.start_process()
        await stage.follows()
        for _ in range(2):
            await check(stage, *await live(stage, murder))
        # Once more without a kill: a feed that begins later is shorter, and ends the same.
        invoice = await stage.invoice()
        tx_id = await stage.pay(invoice)
        await stage.emits(invoice, *LIFE[:2])
        await stage.kill()
        await stage.sim.mine(2)
        rival = await stage.sim.reverse(2, tx_id)
        await stage.start_process()
        await stage.emits(invoice, *LIFE[:2], ("created", "replaced"))
        [detection] = await stage.detections(invoice)
        assert (detection["state"], detection["replaced_by"]) == ("replaced", rival)
        await stage.has_open(invoice, "double_spend")
        await stage.tables.audit()

"""Random stories end in the exact ledger: see `tests/model/__init__.py`, and `make model` for many more of them.

A story that fails is told at once, and kept in a file: `python -m tests.model --replay FILE` plays it again. The same
seed in `python -m tests.model` makes it shorter first.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.model.harness import Harness
from tests.model.machine import Model, play_stories
from tests.model.setting import Setting
from tests.model.world import World

SEED = int(os.environ.get("RAILWATCH_MODEL_SEED", "1"))
EXAMPLES = int(os.environ.get("RAILWATCH_MODEL_EXAMPLES", "200"))
KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))
"""Stories that once failed, in the shortest form that did."""

PARTS = 4
"""So that several workers share the work."""


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_the_ledger_is_exact_in_the_end(harness: Harness, part: int) -> None:
    Model.harness = harness
    play_stories(SEED * PARTS + part, max(1, EXAMPLES // PARTS), shrink=False)


@pytest.mark.parametrize("story", KEPT, ids=lambda path: path.stem)
def test_a_story_that_once_failed_ends_in_the_exact_ledger(harness: Harness, story: Path) -> None:
    harness.replay(json.loads(story.read_text()))


@pytest.mark.parametrize("act", ["holds", "refunds"])
def test_a_person_tries_again_while_a_daemon_holds_the_invoice(harness: Harness, act: str) -> None:
    with harness.playing(Setting()) as world:
        harness.run(_is_paid(world))
        harness.run(_acts_while_the_invoice_is_held(world, act))


async def _is_paid(world: World) -> None:
    await world.registers(amount=100)
    await world.is_watched()
    await world.pays(order=0, amount=100)
    await world.mines(blocks=3)
    await world.is_followed(within=5000)


async def _acts_while_the_invoice_is_held(world: World, act: str) -> None:
    """Let an act wait in vain once. Its second try finds the invoice unlocked."""
    await world.database.value("select set_config('lock_timeout', '200ms', false)")
    holder = await asyncpg.connect(world.database.dsn)
    held = holder.transaction()
    await held.start()
    await holder.execute("select from railwatch.invoices for update")
    asyncio.get_running_loop().call_later(0.3, holder.terminate)
    await (world.holds(order=0) if act == "holds" else world.refunds(order=0, amount=1))
    done = "select held is not null or exists (select from railwatch.refunds) from railwatch.invoices"
    assert await world.database.value(done)
    await world.database.value("reset lock_timeout")  # The session is kept for other stories.

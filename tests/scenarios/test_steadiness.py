"""Nodes that answer and yet cannot be followed: the rail is stalled by name and moves to another, and is never blind.

HAZARDS E19 and "Nodes". With one node the rail says what is wrong, and goes on as far as that is possible; with two it
goes on with the other one.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from railwatch.daemon import rail_backoff
from railwatch.daemon.follow import steadiness
from railwatch.daemon.nodes import node as node_module
from railwatch.daemon.nodes import voting
from railwatch.store.database import Database
from railwatch.store.rails import save_rail_state
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

ALLOWED = 1.0
"""Seconds of `steadiness.LAG_MAX_SECONDS` in these stories."""

TWO_NODES = {"nodes": [{"chain": "story", "node": each, "timeout": 20} for each in ("main", "second")]}
ONE_NODE = {"nodes": [{"chain": "story", "timeout": 20}]}


def takes_back(stage: DaemonHarness) -> None:
    """The node reports heads, and none of their blocks."""
    node_of("story").forgets = True


def flaps(stage: DaemonHarness) -> None:
    """Two branches answer in turn, each with all of its blocks; one of them is stuck."""
    node = node_of("story")
    node.pin(stage.chain.at(stage.chain.tip.height - 3).hash)
    node.make_up(3)
    stranger = node.line
    node.pin(None)
    node.turns = [stranger, None]


def is_slow(stage: DaemonHarness) -> None:
    """Each answer comes, much too late."""
    node_of("story").latency = 3 * ALLOWED


TROUBLES: dict[str, tuple[Callable[[DaemonHarness], None], str]] = {
    "takes back": (takes_back, "would not hold still|withdrew|has not advanced"),
    "flaps": (flaps, "back and forth between two branches|keeps going back|disagree|withdraws them"),
    "slow": (is_slow, "is too slow"),
}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All patience in the proportions that it has, and shorter."""
    monkeypatch.setattr(steadiness, "LAG_MAX_SECONDS", ALLOWED)
    monkeypatch.setattr(voting, "SECONDARY_TIMEOUT_SECONDS", ALLOWED / 5)
    monkeypatch.setattr(node_module, "AWAY_AFTER", ALLOWED / 2)


async def keeps_mining(stage: DaemonHarness) -> None:
    """The tip moves all the while."""
    while True:
        stage.chain.mine()
        await asyncio.sleep(0.2)


async def never_blind(stage: DaemonHarness, blind: list[str]) -> None:
    """Note each time at which the rail has been `live` for long although its cursor did not follow the tip."""
    behind_since: float | None = None
    while True:
        row = await stage.rail()
        if row["state"] == "halted":
            blind.append(f"halted: {row['reason']}")
        follows = row["cursor_height"] is None or row["cursor_height"] >= stage.chain.tip.height - 1
        if row["state"] != "live" or follows or _moved(row["cursor_hash"]):
            behind_since = None
        else:
            behind_since = behind_since or time.monotonic()
            if time.monotonic() - behind_since > 4 * ALLOWED:
                blind.append(f"live at {row['cursor_height']}, and the tip is at {stage.chain.tip.height}")
                behind_since = None
        await asyncio.sleep(0.05)


_cursor = [""]


def _moved(cursor: str) -> bool:
    before, _cursor[0] = _cursor[0], cursor
    return before != cursor


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_one_node_that_cannot_be_followed_stalls_its_rail_by_name(database: Database, trouble: str) -> None:
    begins, words = TROUBLES[trouble]
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False))], options=ONE_NODE) as stage:
        await stage.mine(10)
        blind: list[str] = []
        tasks = [asyncio.create_task(keeps_mining(stage)), asyncio.create_task(never_blind(stage, blind))]
        try:
            begins(stage)
            if trouble != "flaps":  # where the branch that grows is followed as well as said to be contradicted
                await says(stage, words)
            await asyncio.sleep(4 * ALLOWED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert blind == []
        node = node_of("story")
        node.forgets, node.turns, node.latency = False, [], 0.0
        node.pin(None)
        if trouble != "flaps":  # which is remembered for a minute
            invoice = await stage.invoice(100)
            await stage.pay(invoice)
            await stage.mine(2)
            assert await stage.state(invoice) == "paid"


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_of_two_nodes_the_one_that_can_be_followed_is_asked(database: Database, trouble: str) -> None:
    begins, words = TROUBLES[trouble]
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False))], options=TWO_NODES) as stage:
        await stage.mine(10)
        blind: list[str] = []
        watching = asyncio.create_task(never_blind(stage, blind))
        try:
            begins(stage)
            mining = asyncio.create_task(keeps_mining(stage))
            try:
                await says(stage, words)
            finally:
                mining.cancel()
                with suppress(asyncio.CancelledError):
                    await mining
            # The first node is as bad as before.
            invoice = await stage.invoice(100)
            await stage.pay(invoice)
            stage.chain.mine(2)
            await stage.wait_for_state(invoice, "paid")
            await stage.follows()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert blind == []
        assert await stage.database.value("select count(*) from railwatch.transitions where reason = 'reversed'") == 0


async def says(stage: DaemonHarness, words: str) -> None:
    """Wait until the rail is stalled with such a reason."""

    async def is_so() -> bool:
        query = "select state = 'stalled' and reason ~ $1 from railwatch.rails"
        return bool(await stage.database.value(query, words))

    await stage.until(is_so)


async def test_blind_is_blind_and_a_trouble_that_is_reported_after_it_is_over_does_not_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trouble is written next to the steps, so that it can come after the step that says that all is well again.

    No block comes after that; on some chains the next one takes an hour, in which nothing would be promoted.
    """
    is_well = asyncio.Event()

    async def say_late(*what: Any) -> None:
        await is_well.wait()
        await save_rail_state(*what)

    monkeypatch.setattr(rail_backoff, "save_rail_state", say_late)
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False))], options=ONE_NODE) as stage:
        await stage.mine(3)

        async def is_told_well_again() -> bool:
            return (await stage.rail())["updated_at"] > before and (await stage.rail())["state"] == "live"

        async def is_found_slow() -> bool:
            return (await stage.rail())["reason"] is not None

        before = (await stage.rail())["updated_at"]
        is_slow(stage)
        await asyncio.sleep(1.5 * ALLOWED)  # In which it is found to be slow, and that is about to be written.
        node_of("story").latency = 0.0
        await stage.until(is_told_well_again)
        is_well.set()
        await stage.until(is_found_slow)
        await stage.rail_is("live")

"""An endpoint that answers some requests from a node that is not well, through the whole daemon.

The rail follows or is stalled by name; it is never dead, never `live` and blind, and no payment is wrong. In every
run each family is tried in one way; ``make balancer`` tries all ways and kinds, 50 stories in a row for each family.
"""

import asyncio
import os
import time
from typing import Any

import pytest

from railwatch.config import Config
from railwatch.daemon.follow import steadiness
from railwatch.rail import http
from railwatch.store.database import Database
from tests.nodes.turns import WAYS, in_turn
from tests.scenarios.balancer import AMOUNT, FAMILIES, KINDS, Balancer
from tests.scenarios.daemon_harness import DaemonHarness, Placed

TIMES = int(os.environ.get("RAILWATCH_BALANCER", "1"))
"""Stories for each family: one after the other through all kinds of trouble and all ways to choose a node."""
ALLOWED = 1.0
"""Seconds of `steadiness.LAG_MAX_SECONDS` in these stories."""
BLIND_AFTER = 8 * ALLOWED
"""Seconds for which a rail may be `live` without a step towards a tip that moves."""
STALLED_FOR = 4 * ALLOWED
"""Seconds without another word after which a rail counts as stalled, and not about to follow."""
ONE, OTHER, STRANGER = 1, 2, 3


class BalancedStage(DaemonHarness):
    """`Phase` whose one rail has one node: the balanced endpoint."""

    balancer: Balancer

    @property
    def config(self) -> Config:
        rail = {"name": "rail", "nodes": [self.balancer.table], "poll_interval": 0.05, **self.balancer.rail}
        policy = {"rail": "rail", "confirmations": 1 if rail["adapter"] == "solana" else 2}
        return Config.model_validate({"database": {"url": self.database.dsn}, "rail": [rail], "policy": [policy]})

    async def _is_at_tip(self) -> bool:
        row = await self.database.row("select cursor_hash, state from railwatch.rails where enabled")
        return row is not None and (row["cursor_hash"], row["state"]) == (self.balancer.head[1], "live")

    async def asks(self, number: int) -> Placed:
        """Register an invoice at a numbered address, and wait until it is watched."""
        address = self.balancer.address(number)
        symbol = self.balancer.rail["asset"][0]["symbol"]
        way = {"rail": "rail", "asset": symbol, "address": address, "amount": AMOUNT}
        request: dict[str, Any] = {
            "merchant_id": "shop",
            "order_id": str(number),
            "expires_in": 3600,
            "destinations": [way],
        }
        placed = Placed(await self.database.value("select railwatch.create_invoice($1)", request), address)
        await self.all_taken_in()
        return placed


async def watch(stage: BalancedStage, wrong: list[str]) -> None:
    """Note what must never be: a halted rail, and one that is `live` and blind."""
    cursor, since = "", time.monotonic()
    while True:
        row = await stage.rail("rail")
        if row["state"] == "halted":
            wrong.append(str(row["reason"]))
        if row["cursor_hash"] != cursor or row["state"] != "live" or row["cursor_height"] >= stage.balancer.head[0]:
            cursor, since = row["cursor_hash"], time.monotonic()
        if time.monotonic() - since > BLIND_AFTER:
            wrong.append(f"live at {row['cursor_height']}, and the tip is at {stage.balancer.head[0]}")
        await asyncio.sleep(0.05)


STORIES = [(way, kind) for way in WAYS for kind in KINDS]


@pytest.mark.parametrize("turn", range(TIMES))
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_rail_behind_a_balancer_follows_or_says_why_not(
    database: Database, family: str, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, kind = STORIES[turn % len(STORIES)]
    monkeypatch.setattr(steadiness, "LAG_MAX_SECONDS", ALLOWED)
    monkeypatch.setattr(http, "CONNECTION_SECONDS", ALLOWED)
    balancer = FAMILIES[family]()
    async with balancer.server:
        stage = BalancedStage(database, [])
        stage.balancer = balancer
        await stage.start()
        wrong: list[str] = []
        watching = asyncio.create_task(watch(stage, wrong))
        try:
            one, other, stranger = [await stage.asks(number) for number in (ONE, OTHER, STRANGER)]
            if turn // len(STORIES) % 2:
                balancer.mine()
            balancer.begin(kind, WAYS[way](), STRANGER)
            for block in range(12):
                if block in (2, 7):
                    balancer.pay(ONE if block == 2 else OTHER)
                balancer.mine()
                await asyncio.sleep(0.1)
            follows = await follows_or_is_stalled(stage, one, other)
            print(f"{family}, {way}, {kind}: {'follows' if follows else (await stage.rail('rail'))['reason']}")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await stage.stop()
        assert wrong == [], (way, kind)
        paid = [await stage.state(each) for each in (one, other)]
        if follows:
            assert paid == ["paid", "paid"]
            assert await stage.state(stranger) == "created"
        await stage.audit()


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("family", ["bitcoin", "evm"])
async def test_a_rail_leaves_a_branch_that_one_of_two_nodes_is_stuck_on(
    database: Database, family: str, phase: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was led there while only that node answered. Then both take turns, and the other one's branch is longer.

    On Solana these nodes call each block final at once, so that there no other branch can be followed at all.
    """
    monkeypatch.setattr(steadiness, "LAG_MAX_SECONDS", ALLOWED)
    balancer = FAMILIES[family]()
    async with balancer.server:
        stage = BalancedStage(database, [])
        stage.balancer = balancer
        await stage.start()
        try:
            one, stranger = await stage.asks(ONE), await stage.asks(STRANGER)
            balancer.begin("another branch", lambda _method, _peer: True, STRANGER)
            # On Bitcoin's family it is a reward, and no payment before it has ripened (HAZARDS B7).
            await stage.wait_for_state(stranger, "confirming" if family == "bitcoin" else "paid")
            balancer.pay(ONE)
            for _ in range(5):
                balancer.mine()
            balancer.choice = in_turn(phase)
            await stage.wait_for_state(one, "paid")
            await stage.follows()
            assert await stage.state(stranger) == "created"
        finally:
            await stage.stop()
        await stage.audit()


async def follows_or_is_stalled(stage: BalancedStage, *due: Placed) -> bool:
    """Wait until the feed has all that is true, or the rail says for a while why it does not follow."""
    ends, stalled_since = time.monotonic() + 30, time.monotonic()
    while time.monotonic() < ends:
        row = await stage.rail("rail")
        states = {await stage.state(invoice) for invoice in due}
        if row["cursor_hash"] == stage.balancer.head[1] and states == {"paid"}:
            return True
        if row["state"] != "stalled" or not row["reason"]:
            stalled_since = time.monotonic()
        if time.monotonic() - stalled_since > STALLED_FOR:
            return False
        await asyncio.sleep(0.05)
    row = await stage.rail("rail")
    raise AssertionError(f"neither: {row['state']} {row['reason']} at {row['cursor_height']}, {states}")

"""A rail with balances, money that its blocks do not show, and what is written of both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from railwatch.store.database import Database
from railwatch_fake import FakeNode, Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

KIND = "unattributed_balance"
RULES = Rules(finality=8, safe=4, mempool=False, balances=True)


@asynccontextmanager
async def balance_stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail with balances, which are read all the time."""
    async with DaemonHarness(database, [chain_named(rules=RULES)], options={"reconcile_every": 1}) as stage:
        yield stage
        await stage.audit()


def node(stage: DaemonHarness) -> FakeNode:
    """The node that the daemon asks."""
    return node_of(stage.chain.name)


async def hidden(stage: DaemonHarness, to: Placed, amount: int, token: str = "") -> str:
    """A payment from within a contract, which this node does not show."""
    node(stage).traces = False
    output = stage.sim.output(to.address, amount, stage.sim.assets[1] if token else None)
    return stage.chain.send(output, inner=True).id


async def sweep(stage: DaemonHarness, of: Placed, amount: int) -> None:
    """The merchant's wallet moves money on."""
    stage.chain.send(takes=(stage.sim.output(of.address, amount),))


async def read_at_the_tip(stage: DaemonHarness) -> None:
    """Wait until each balance has been read at the chain's head."""

    async def is_so() -> bool:
        rows = await stage.database.rows("select block_hash from railwatch.balances")
        return bool(rows) and {row["block_hash"] for row in rows} == {stage.chain.tip.hash}

    await stage.until(is_so, lambda: balances(stage))


async def balances(stage: DaemonHarness) -> list[tuple[int, int, int, int, int]]:
    """(baseline, balance, detected, spent, unattributed) of each account."""
    rows = await stage.database.rows(
        "select baseline, balance, detected, spent, unattributed from railwatch.balances order by destination_id, asset"
    )
    return [tuple(int(value) for value in row.values()) for row in rows]  # type: ignore[misc]


async def wait_for_open(stage: DaemonHarness, invoice: Placed, *kinds: str) -> None:
    """Wait until exactly those are open, some blocks later: nothing is believed before no reorg can undo its block."""

    async def is_so() -> bool:
        found = await stage.open_cases(invoice) == set(kinds)
        if not found and KIND in kinds and not node(stage).down:
            await stage.sim.mine()
            await asyncio.sleep(0.2)
        return found

    await stage.until(is_so, lambda: balances(stage))


async def evidence(stage: DaemonHarness) -> dict[str, Any]:
    """Return the evidence of the newest opening."""
    found = await stage.database.value(
        "select evidence from railwatch.transitions where reason = $1 and to_state = 'open' order by seq desc limit 1",
        KIND,
    )
    assert isinstance(found, dict)
    return found

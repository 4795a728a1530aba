"""A full node, geth's default: it has the state of the newest 128 blocks, and traces no older one (HAZARDS E26).

go-ethereum#26636, bor#322, blockscout#5594: everything that needs no state goes on, and the rest is reported as a gap.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from railwatch.store.database import Database
from railwatch_evm.dev.simulator import EvmSimulator
from tests.nodes.dialects import GETH_STATE, TRACES, TRIE, Dialect, DialectNode, absent
from tests.scenarios.evm_harness import EvmStage

pytestmark = pytest.mark.anvil

ETHER = 10**18
FULL_GETH = Dialect("geth, full", absent(*TRACES), state=(128, GETH_STATE, TRIE), batch=(1000, "batch too large", True))


@dataclass
class Shop:
    """A daemon on a full node, whose chain is longer than the states that it keeps."""

    stage: EvmStage
    node: DialectNode

    async def reason(self) -> str:
        """Return what the rail says of itself."""
        return str(await self.stage.database.value("select reason from railwatch.rails"))

    async def says(self, *words: str) -> None:
        """Wait until the rail says so of itself: it is written with a step, or a turn without one."""

        async def is_said() -> bool:
            reason = await self.reason()
            return all(word in reason for word in words)

        await self.stage.tables.until(is_said)


@pytest.fixture
async def shop(database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with EvmSimulator(epoch=4) as sim, DialectNode(sim.node["http"], FULL_GETH) as node:
        await sim.mine(300)
        async with EvmStage(sim, database, tmp_path, http=node.http, options="reconcile_every = 1") as stage:
            await stage.start()
            await stage.follows()
            yield Shop(stage, node)
            await stage.tables.audit()


async def test_orders_are_watched_and_paid(shop: Shop) -> None:
    stage = shop.stage
    ether, inside, token = await stage.invoice(ETHER), await stage.invoice(ETHER), await stage.invoice(7, "TST")
    await stage.sim.pay(ether.address, ETHER)
    await stage.sim.pay_internal(inside.address, ETHER)
    await stage.sim.pay(token.address, 7, stage.sim.assets[1])
    await stage.mine(2)
    assert [await stage.tables.state(each) for each in (ether, inside, token)] == ["paid"] * 3
    assert await shop.reason() == "None"


async def test_an_address_with_a_past_is_watched_too(shop: Shop) -> None:
    """What came within the states is found by balances and traces; what came before them by the values alone."""
    stage, sim = shop.stage, shop.stage.sim
    address, early, late = await sim.new_address(), await sim.new_address(), await sim.new_address()
    await sim.pay(address, ETHER)
    await sim.pay_internal(early, ETHER)
    await stage.mine(150)
    await sim.pay(address, ETHER)
    await sim.pay_internal(late, ETHER)
    await stage.mine(3)
    orders = [await stage.order(2 * ETHER, address=address)]
    orders += [await stage.order(ETHER, address=text) for text in (early, late)]
    await stage.tables.all_taken_in()
    await stage.follows()
    amounts = await stage.database.rows("select amount, block_height from railwatch.detections order by block_height")
    assert [row["amount"] for row in amounts] == [ETHER, ETHER, ETHER]
    await shop.says("could not be traced", GETH_STATE)


async def test_nothing_is_stuck_after_downtime(shop: Shop) -> None:
    """200 blocks without a daemon: tokens and the transactions' own values are read, and the gap is reported."""
    stage, sim = shop.stage, shop.stage.sim
    ether, inside, token = await stage.invoice(ETHER), await stage.invoice(ETHER), await stage.invoice(7, "TST")

    async def is_looked_at() -> bool:
        # Without an earlier reading, a node without that state gives the counting no beginning.
        return await stage.database.value("select count(*) from railwatch.balances") >= 3

    await stage.tables.until(is_looked_at)
    stage.daemons[-1].terminate()
    await stage.daemons[-1].wait()
    await sim.pay(ether.address, ETHER)
    await sim.pay_internal(inside.address, ETHER)
    await sim.pay(token.address, 7, sim.assets[1])
    await sim.mine(200)
    await stage.start()
    await stage.follows()
    assert [await stage.tables.state(each) for each in (ether, token)] == ["paid"] * 2
    assert await stage.tables.state(inside) == "created"
    await shop.says("could not be traced", GETH_STATE, "balances are reconciled")

    async def is_reconciled() -> bool:
        found = await stage.tables.open_cases(inside) == {"unattributed_balance"}
        if not found:
            await sim.mine(4)  # believed once no reorg can undo the block
            await asyncio.sleep(0.3)
        return found

    await stage.tables.until(is_reconciled)
    assert await stage.tables.open_cases(ether) == await stage.tables.open_cases(token) == set()


async def test_an_address_without_an_owner_is_rejected_with_its_reason(shop: Shop) -> None:
    """mist#1583: what is paid to the zero address is destroyed, so no customer ever gets it."""
    placed = await shop.stage.order(ETHER, address="0x" + "00" * 20)

    async def is_rejected() -> bool:
        row = await shop.stage.database.row(
            "select watch_state, watch_error from railwatch.destinations where invoice_id = $1", placed.id
        )
        assert row is not None
        return row["watch_state"] == "rejected" and "destroyed" in row["watch_error"]

    await shop.stage.tables.until(is_rejected)

"""Ether that arrives through a contract, at a node that cannot trace: the gap is reported, with its numbers (E2)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from railwatch.store.database import Database
from railwatch_evm.dev.simulator import EvmSimulator
from tests.faulty_proxy import Liar, refuse_all
from tests.scenarios.daemon_harness import Placed
from tests.scenarios.evm_harness import EvmStage

pytestmark = pytest.mark.anvil

ETHER = 10**18
KIND = "unattributed_balance"


@dataclass
class Shop:
    """A stage whose daemon asks a node that does not trace."""

    stage: EvmStage
    liar: Liar

    async def is_looked_at(self) -> bool:
        """Return True if every account has been read as of anvil's head."""
        rows = await self.stage.database.rows("select block_hash from railwatch.balances")
        return bool(rows) and {row["block_hash"] for row in rows} == {await self.stage.sim.head()}

    async def looked(self) -> None:
        """Wait for that."""
        await self.stage.tables.until(self.is_looked_at)

    async def shows(self, invoice: Placed, *kinds: str) -> None:
        """Wait until exactly those are open, some blocks later: balances are believed at blocks that are final."""

        async def is_so() -> bool:
            found = await self.stage.tables.open_cases(invoice) == set(kinds)
            if not found and "unattributed_balance" in kinds:
                await self.stage.sim.mine()
                await asyncio.sleep(0.3)
            return found

        await self.stage.tables.until(is_so)

    async def sweep(self, address: str, amount: int) -> None:
        """The merchant's wallet moves ether on."""
        sim = self.stage.sim
        await sim.rpc("anvil_impersonateAccount", address)
        await sim.send({"from": address, "to": await sim.new_address(), "value": hex(amount), "gas": hex(21_000)})


@pytest.fixture
async def shop(database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with EvmSimulator(epoch=4) as sim, Liar(sim.node["http"]) as liar:
        liar.lies = {"trace_block": refuse_all, "debug_traceBlockByHash": refuse_all}
        async with EvmStage(sim, database, tmp_path, http=liar.http, options="reconcile_every = 1") as stage:
            await stage.start()
            await stage.follows()
            yield Shop(stage, liar)
            await stage.tables.audit()


async def test_ether_that_a_contract_sent_is_reported_and_found_by_a_node_that_traces(shop: Shop) -> None:
    stage, tables = shop.stage, shop.stage.tables
    invoice, other, token = await stage.invoice(2 * ETHER), await stage.invoice(ETHER), await stage.invoice(7, "TST")
    await stage.sim.pay(invoice.address, ETHER)
    await stage.sim.pay_internal(invoice.address, ETHER)
    await stage.sim.pay(other.address, ETHER)
    await stage.sim.pay(token.address, 7, stage.sim.assets[1])
    await stage.mine(2)
    await shop.shows(invoice, "underpaid", KIND)
    assert await tables.state(invoice) == "underpaid", "what no block shows pays nothing"
    shown = await stage.database.value(
        "select evidence from railwatch.transitions where reason = $1 and to_state = 'open'", KIND
    )
    assert (shown["balance"], shown["expected"], shown["unattributed"]) == (str(2 * ETHER), str(ETHER), str(ETHER))
    assert shown["node"] == shop.liar.http
    assert await stage.sim.rpc("eth_getBlockByHash", shown["block_hash"], False), (
        "a block of the chain, settled by then"
    )

    await shop.looked()
    assert [await tables.state(each) for each in (other, token)] == ["paid", "paid"]
    assert await tables.open_cases(other) == await tables.open_cases(token) == set()
    held = await stage.database.value("select balance from railwatch.balances where asset like '%erc20%'")
    assert held == 7

    shop.liar.lies.clear()
    stage.daemons[-1].terminate()
    await stage.daemons[-1].wait()
    await stage.start()
    await stage.follows()
    await stage.database.value("select railwatch.request_rescan('local-evm', 0)")
    await tables.rescanned()
    await shop.shows(invoice)
    assert await tables.state(invoice) == "paid"
    row = await stage.database.row("select resolution from railwatch.exceptions where kind = $1", KIND)
    assert row is not None
    assert row["resolution"] == "made good"


async def test_what_the_merchant_moves_on_opens_nothing_and_hides_nothing(shop: Shop) -> None:
    stage, tables = shop.stage, shop.stage.tables
    invoice = await stage.invoice(ETHER)
    await stage.sim.pay(invoice.address, ETHER)
    await stage.mine(2)
    await shop.looked()
    await shop.sweep(invoice.address, ETHER * 9 // 10)
    await stage.mine()
    await shop.looked()
    assert await tables.open_cases(invoice) == set()
    await stage.sim.pay_internal(invoice.address, ETHER // 4)
    await stage.mine()
    await shop.shows(invoice, KIND)
    shown = await stage.database.value("select unattributed from railwatch.balances")
    assert shown == ETHER // 4
    assert await tables.state(invoice) == "paid"

"""Dogecoin, Bitcoin Cash and the chains that are one row of parameters, through the whole daemon.

Each against a node that speaks as its client does (HAZARDS B20) and blocks of the chain's own kind: merge-mined ones
too where the chain has them. What each client serves is named in docs/nodes-bitcoin-solana.md.
"""

from typing import Any

import pytest

from railwatch.config import Config
from railwatch.store.database import Database
from railwatch_bitcoin.address import script_address
from railwatch_bitcoin.chains import (
    BITCOIN,
    BITCOIN_CASH,
    BITCOIN_CASH_CHIPNET,
    DOGECOIN,
    ECASH,
    LITECOIN,
    NAMECOIN,
    Chain,
)
from tests.bitcoin.build import p2pkh
from tests.nodes.utxo_chain import Client, UtxoChain, client_node
from tests.scenarios.daemon_harness import DaemonHarness, Placed

BITCOIND, CASH = Client(), Client(params_most=1)
CLIENTS: dict[str, tuple[Chain, Client]] = {
    "Bitcoin Core": (BITCOIN, BITCOIND),
    "Litecoin Core": (LITECOIN, BITCOIND),
    "Dogecoin Core": (DOGECOIN, Client(params_most=1, raw_by_truth=True)),
    "Bitcoin Cash Node": (BITCOIN_CASH, CASH),
    "Bitcoin Cash Node, chipnet": (BITCOIN_CASH_CHIPNET, CASH),
    "Bitcoin ABC": (ECASH, CASH),
    "Namecoin Core": (NAMECOIN, BITCOIND),
}


class UtxoStage(DaemonHarness):
    """`Phase` whose one chain is made up block by block."""

    utxo: UtxoChain
    url: str

    @property
    def config(self) -> Config:
        chain = self.utxo.chain
        rail = {
            "name": "utxo",
            "adapter": "bitcoin",
            "chain_id": chain.id,
            "nodes": [{"rpc": self.url, "timeout": 10}],
            "poll_interval": 0.1,
            "start_height": self.utxo.base + 1,
            "asset": [{"symbol": chain.symbol}],
        }
        policy = {"rail": "utxo", "confirmations": 2}
        return Config.model_validate({"database": {"url": self.database.dsn}, "rail": [rail], "policy": [policy]})

    async def _is_at_tip(self) -> bool:
        row = await self.database.row("select cursor_hash, state from railwatch.rails where enabled")
        return row is not None and (row["cursor_hash"], row["state"]) == (self.utxo.line[-1].hash, "live")

    async def asks(self, tag: int, amount: int) -> Placed:
        """Register an invoice at an address of its own, and wait until it is watched."""
        address = script_address(p2pkh(tag), self.utxo.chain)
        way = {"rail": "utxo", "asset": self.utxo.chain.symbol, "address": address, "amount": amount}
        request: dict[str, Any] = {
            "merchant_id": "shop",
            "order_id": str(tag),
            "expires_in": 3600,
            "destinations": [way],
        }
        placed = Placed(await self.database.value("select railwatch.create_invoice($1)", request), str(address))
        await self.all_taken_in()
        return placed


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_payment_lives_through_mempool_block_reorg_and_confirmation(database: Database, name: str) -> None:
    params, client = CLIENTS[name]
    utxo = UtxoChain(params)
    async with client_node(utxo, client) as node:
        stage = UtxoStage(database, [])
        stage.utxo, stage.url = utxo, node.url
        await stage.start()
        try:
            invoice, before = await stage.asks(900_001, 1_000), p2pkh(900_002)
            utxo.pay(p2pkh(900_001), 1_000)
            await stage.wait_for_state(invoice, "detected")
            utxo.mine()
            await stage.wait_for_state(invoice, "confirming")
            utxo.mine()
            await stage.wait_for_state(invoice, "paid")
            await stage.follows()
            # A branch without it, and then one that has it again.
            utxo.reorg(2, keep=False)
            await stage.wait_for_state(invoice, "created")
            await stage.follows()
            utxo.pay(p2pkh(900_001), 1_000)
            utxo.mine(2)
            await stage.wait_for_state(invoice, "paid")
            # One that was paid before the registration: the look-back finds it.
            utxo.pay(before, 5)
            utxo.mine(2)
            await stage.follows()
            early = await stage.asks(900_002, 5)
            await stage.wait_for_state(early, "paid")
            await stage.audit()
            path = await stage.path(invoice)
            assert ("created", "reversed") in path
            assert (await stage.rail("utxo"))["state"] == "live"
        finally:
            await stage.stop()

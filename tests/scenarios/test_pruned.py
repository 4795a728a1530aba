"""Blocks that a node of Bitcoin's family has pruned: a task that needs them fails alone (HAZARDS B16)."""

from typing import Any

import pytest

from railwatch.config import Config
from railwatch.store.database import Database
from tests.nodes.bitcoin_node import Method, Refusal
from tests.scenarios.balancer import Utxo
from tests.scenarios.test_balancer import BalancedStage

KEPT_FROM = 40
"""The lowest height that the pruned node serves."""


CORE, OLDER = Refusal(-1, "Block not available (pruned data)"), Refusal(-32603, "Block not available (pruned data)")
"""As Bitcoin Core says so, and as the heirs of its version 0.14 do."""
SNAPSHOT = Refusal(-1, "Block not available (not fully downloaded)")
"""As Bitcoin Core says of blocks below an assumed UTXO snapshot; it reports no prune height then."""


class Pruned(Utxo):
    """A node that answers for a block below its prune height as a client does."""

    def __init__(self, refusal: Refusal = CORE) -> None:
        super().__init__()
        whole: Method = self.methods["getblock"]
        info: Method = self.methods["getblockchaininfo"]

        def getblock(block_hash: str, *more: Any) -> Any:
            if self.utxo.line.index(self._block(block_hash)) + 1 + self.utxo.base < KEPT_FROM:
                raise refusal
            return whole(block_hash, *more)

        pruned = {"pruned": True, "pruneheight": KEPT_FROM}
        self.methods = {
            **self.methods,
            "getblock": getblock,
            "getblockchaininfo": lambda: info() if refusal is SNAPSHOT else {**info(), **pruned},
        }

    def _block(self, block_hash: str) -> Any:
        return next((block for block in self.utxo.line if block.hash == block_hash), self.utxo.line[0])


class PrunedStage(BalancedStage):
    """`BalancedStage` with a second node behind the first, if there is one."""

    whole: Utxo | None = None
    first = "pruned"

    @property
    def config(self) -> Config:
        config = super().config
        if self.whole is not None:
            tables = [self.balancer.table, self.whole.table]
            if self.first == "whole":
                tables.reverse()
            rail = {"name": "rail", "nodes": tables, "poll_interval": 0.05, **self.balancer.rail}
            policy = {"rail": "rail", "confirmations": 2}
            config = Config.model_validate({"database": {"url": self.database.dsn}, "rail": [rail], "policy": [policy]})
        return config


CASES = [
    *((1, "pruned", refusal) for refusal in (CORE, OLDER, SNAPSHOT)),
    (2, "pruned", SNAPSHOT),
    (2, "whole", CORE),
]


@pytest.mark.parametrize(("nodes", "first", "refusal"), CASES, ids=str)
async def test_a_rescan_below_the_prune_height_asks_another_node_or_fails_alone(
    database: Database, nodes: int, first: str, refusal: Refusal
) -> None:
    """f05: the rescan ends with its error and the rail goes on. f06: a second node that is whole serves it."""
    pruned, whole = Pruned(refusal), Utxo()
    whole.utxo.line = pruned.utxo.line
    async with pruned, whole:
        stage = PrunedStage(database, [])
        stage.balancer, stage.whole, stage.first = pruned, whole if nodes == 2 else None, first
        await stage.start()
        try:
            invoice = await stage.asks(1)
            await database.value("select railwatch.request_rescan('rail', 10, 30)")

            async def is_over() -> bool:
                row = await database.row("select finished_at, error from railwatch.rescans")
                return row is not None and row["finished_at"] is not None

            await stage.until(is_over)
            error = await database.value("select error from railwatch.rescans")
            assert (error is None) is (nodes == 2), error
            assert nodes == 2 or f"it keeps blocks from height {KEPT_FROM} on" in error
            pruned.pay(1)
            pruned.mine()
            pruned.mine()
            await stage.wait_for_state(invoice, "paid")
            assert (await stage.rail("rail"))["state"] == "live"
        finally:
            await stage.stop()

"""One rail of a story: its chain, what that chain really was, and the nodes that follow it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from railwatch_fake import FakeChain, FakeNode, Rules, node_of, register
from railwatch_fake.decode import asset_id
from tests.model.truth import LEAST, Truth

STALL_AFTER = 3600
"""Seconds of the story without a block after which a rail is stalled."""


MOST_CONFIRMATIONS = 3
"""What any policy of a story asks for at most."""


class Side:
    """A rail. ``nodes``: how many follow its chain and are configured.

    ``confirmations``: what its policy asks for, `MOST_CONFIRMATIONS` at most.
    """

    def __init__(
        self, name: str, rules: Rules, clock: Callable[[], datetime], *, nodes: int, confirmations: int
    ) -> None:
        self.name, self.nodes, self.confirmations = name, nodes, confirmations
        self.chain = register(FakeChain(name, rules, clock=clock))
        self.chain.mine(3)
        self.truth = Truth(self.chain)
        self.coin = self.asset("")
        self.gold = self.asset("gold")
        self.dropped: list[str] = []
        """Transactions that its mempool has forgotten."""

    def asset(self, token: str) -> str:
        """Return the id of the coin, or of a token."""
        return str(asset_id(self.chain.chain_id, token))

    @property
    def final_depth(self) -> int:
        """How deep a block is final, inclusive."""
        rules = self.chain.rules
        return rules.horizon if rules.finality is None else rules.finality + 1

    def node(self, number: int) -> FakeNode:
        """Return a node by its number, which wraps around."""
        return node_of(self.name, f"node{number % self.nodes}")

    def all_nodes(self) -> list[FakeNode]:
        """Return all nodes."""
        return [self.node(number) for number in range(self.nodes)]

    def config(self, *, with_gold: bool) -> dict[str, Any]:
        """Return the rail's table as the operator would have written it."""
        nodes = [{"chain": self.name, "node": f"node{n}", "timeout": 0.08} for n in range(self.nodes)]
        assets: list[dict[str, Any]] = [{"symbol": "COIN", "min_amount": LEAST}]
        if with_gold:
            assets.append({"symbol": "GOLD", "contract": "gold", "decimals": 6, "min_amount": LEAST})
        return {
            "name": self.name,
            "adapter": "fake",
            "chain_id": self.chain.chain_id,
            "nodes": nodes,
            "asset": assets,
            "poll_interval": 0.02,
            "stall_after": STALL_AFTER,
        }

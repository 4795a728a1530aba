"""One node of a rail, for errands beside the follower, and its name in the evidence of what it told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from railwatch.daemon.nodes.node import Node
from railwatch.rail import (
    Address,
    AssetId,
    BlockRef,
    RailAdapter,
    Scanned,
    Span,
    SupportsPaymentCheck,
    Transfer,
    Watches,
)


@dataclass(frozen=True, slots=True)
class OneNode:
    """A node to which all questions of one errand go, so that it never mixes two views of a chain."""

    node: Node

    async def block_at(self, height: int) -> BlockRef:
        """`RailAdapter.block_at` of the node."""
        return await self.node.ask(lambda adapter: adapter.block_at(height))

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """`RailAdapter.scan` of the node, which is named in the evidence."""
        scanned = await self.node.ask(lambda adapter: adapter.scan(span, watches))
        return (
            replace(scanned, transfers=with_node_name(scanned.transfers, self.node.name))
            if scanned.transfers
            else scanned
        )

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """`SupportsPaymentCheck.check_payment` of the node; None where it has none."""

        async def question(adapter: RailAdapter) -> str | None:
            if not isinstance(adapter, SupportsPaymentCheck):
                return None
            return await adapter.check_payment(address, asset, amount, reference)

        return await self.node.ask(question)


def with_node_name(transfers: Sequence[Transfer], node: str) -> list[Transfer]:
    """Return them with the name of the node that told them, where the adapter has not said a better one."""
    return [
        each if "node" in each.evidence else replace(each, evidence={**each.evidence, "node": node})
        for each in transfers
    ]

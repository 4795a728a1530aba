"""One node for a whole errand, and node names in the evidence."""

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
    """The node that answers all queries of one errand, so that the errand never mixes two views of a chain."""

    node: Node

    async def block_at(self, height: int) -> BlockRef:
        """Return the node's block; see `RailAdapter.block_at`."""
        return await self.node.ask(lambda adapter: adapter.block_at(height))

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Scan a span with the node, which the evidence names; see `RailAdapter.scan`."""
        return with_evidence(await self.node.ask(lambda adapter: adapter.scan(span, watches)), self.node.name)

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Return the node's `SupportsPaymentCheck.check_payment`; None if its adapter has no such check."""

        async def question(adapter: RailAdapter) -> str | None:
            if not isinstance(adapter, SupportsPaymentCheck):
                return None
            return await adapter.check_payment(address, asset, amount, reference)

        return await self.node.ask(question)


def with_evidence(scanned: Scanned, node: str) -> Scanned:
    """Return a scan whose transfers name the node that reported them."""
    return replace(scanned, transfers=with_node_name(scanned.transfers, node)) if scanned.transfers else scanned


def with_node_name(transfers: Sequence[Transfer], node: str) -> list[Transfer]:
    """Return the transfers with the reporting node's name in their evidence, unless the adapter has named one."""
    return [
        transfer if "node" in transfer.evidence else replace(transfer, evidence={**transfer.evidence, "node": node})
        for transfer in transfers
    ]

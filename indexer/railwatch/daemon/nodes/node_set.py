"""All nodes of one rail behind the seam of an adapter: one is active, the others vote and replace it.

* `selection`: which node is active, and when the next one follows it.
* `voting`: the heads that more than half of the nodes have reached.
* `queries`: one query, and the other nodes where the active one cannot answer.
* `second_opinion`: a second reading by another node.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import structlog

from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.one_node import OneNode, with_evidence, with_node_name
from railwatch.daemon.nodes.queries import Queries
from railwatch.daemon.nodes.second_opinion import Reread, SecondOpinion
from railwatch.daemon.nodes.selection import Selection
from railwatch.daemon.nodes.voting import Voting
from railwatch.rail import (
    Address,
    AssetId,
    BadAddress,
    BlockRef,
    ChainId,
    Heads,
    RailAdapter,
    RailFault,
    RailUnavailable,
    Scanned,
    Span,
    SupportsBalances,
    SupportsPaymentCheck,
    Traits,
    Transfer,
    Watches,
)

__all__ = ["NodeSet", "Reread"]

Answer = TypeVar("Answer")


class NodeSet:
    """`railwatch.rail.RailAdapter` over all nodes of a rail, in the order of the configuration."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise ValueError("a rail needs at least one node")
        self._prototype = nodes[0].open()
        self.chain_id: ChainId = self._prototype.chain_id
        self._selection = Selection(nodes, self.chain_id)
        self._voting = Voting(self._selection)
        self._queries = Queries(self._selection)
        self._second_opinion = SecondOpinion(self._selection)
        self._log = structlog.get_logger()

    @property
    def traits(self) -> Traits:
        """The active node's traits; before a node is active, those that an unconnected adapter knows."""
        current = self._selection.current
        adapter = current.adapter if current else None
        return adapter.traits if adapter else self._prototype.traits

    @property
    def answering(self) -> str | None:
        """The name of the active node."""
        return self._selection.current.name if self._selection.current else None

    @property
    def supports_balances(self) -> bool:
        """True if the rail can report the balance of an address."""
        return self._prototype.traits.can_balance and isinstance(self._prototype, SupportsBalances)

    @property
    def has_other_answering(self) -> bool:
        """Return True if a secondary node has answered lately."""
        others = (node for node in self._selection.nodes if node is not self._selection.current)
        return any(node.adapter is not None and not node.in_backoff for node in others)

    async def __aenter__(self) -> Self:
        await self._selection.active()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._selection.close()

    async def leave(self, reason: RailUnavailable) -> None:
        """Deselect the active node for a reason that only the caller can see; the next query goes to another node."""
        if self._selection.current is not None:
            await self._selection.deselect(self._selection.current, reason)

    def parse_address(self, text: str) -> Address:
        """Parse an address without asking a node. Raises `BadAddress`, also for a defect of the adapter."""
        try:
            return self._prototype.parse_address(text)
        except BadAddress:
            raise
        except Exception as defect:
            self._log.exception("node.fault", reason="the adapter failed to parse an address")
            raise BadAddress(f"this address cannot be read: {type(defect).__name__}") from defect

    async def heads(self) -> Heads:
        """Return the active node's heads, as far as more than half of the voters have reached them.

        Raises `Disagreement` while there is no such block, and `RailUnavailable` when the active node is deselected.
        """
        return await self._voting.heads()

    async def block_at(self, height: int) -> BlockRef:
        """Return the active node's block; see `RailAdapter.block_at`."""
        _, block = await self._queries.query(lambda adapter: adapter.block_at(height))
        return block

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Scan a span with the active node, which the evidence names; see `RailAdapter.scan`."""
        node, scanned = await self._queries.query(lambda adapter: adapter.scan(span, watches))
        return with_evidence(scanned, node.name)

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return the active node's pending transfers, whose evidence names it; see `RailAdapter.pending`."""
        node, transfers = await self._queries.query(lambda adapter: adapter.pending(watches))
        return with_node_name(transfers, node.name)

    async def wait_for_change(self) -> None:
        """Wait for a push. A node without pushes still answers queries, so it stays active."""
        node = await self._selection.active()
        try:
            await node.ask(lambda adapter: adapter.wait_for_change())
        except RailFault as fault:
            raise RailUnavailable(str(fault)) from fault

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Run `SupportsPaymentCheck.check_payment` as `on_one_node` does. Returns None where the rail has no check."""
        if not isinstance(self._prototype, SupportsPaymentCheck):
            return None
        return await self.on_one_node(lambda node: node.check_payment(address, asset, amount, reference))

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> tuple[str, Mapping[bytes, int]]:
        """Return the active node's name, and its `SupportsBalances.balances`. Only where `supports_balances`."""

        async def question(adapter: RailAdapter) -> Mapping[bytes, int]:
            assert isinstance(adapter, SupportsBalances)
            return await adapter.balances(keys, asset, at)

        node, amounts = await self._queries.query_active(question)
        return node.name, amounts

    async def reread(self, block: tuple[int, str], watches: Watches, first: str | None) -> Reread:
        """Read a block again; see `SecondOpinion.reread`."""
        return await self._second_opinion.reread(block, watches, first)

    async def reread_balances(
        self, keys: Sequence[bytes], asset: AssetId, block: tuple[int, str], first: str | None
    ) -> tuple[str, str, Mapping[bytes, int]]:
        """Read balances again; see `SecondOpinion.reread_balances`."""
        return await self._second_opinion.reread_balances(keys, asset, block, first)

    async def on_one_node(self, errand: Callable[[OneNode], Awaitable[Answer]]) -> Answer:
        """Run ``errand`` on the first node that can; see `Queries.on_one_node`."""
        return await self._queries.on_one_node(errand)

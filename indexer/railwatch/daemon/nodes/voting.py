"""The heads that a majority of a rail's nodes reports.

With each query for heads the rail also asks its secondary nodes, which are all but the active one. The rail follows a
chain only as far as more than half of the voting nodes have reached it (`railwatch.daemon.nodes.cross_check`).

A node votes from its first answer on. While it is unavailable for a moment, its last report counts; after
`AWAY_AFTER` seconds it has no vote, so that it does not block failover. A node that returns votes again once it has
caught up, or once it reports a different chain: a node that is catching up holds nothing back.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from railwatch.daemon.follow.steadiness import QUARRELS_MAX, NodeLagging, Often
from railwatch.daemon.nodes import node as node_module
from railwatch.daemon.nodes.cross_check import CrossCheck, HeadConflict, NodeHead, Verdict, disagreement
from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.selection import Selection
from railwatch.rail import Heads, RailAdapter, RailError, RailFault, RailUnavailable

SECONDARY_TIMEOUT_SECONDS = 2.0
"""Seconds to wait for a secondary node: for its first connection, and for each answer."""


class Voting:
    """Asks all nodes of a rail for their heads, and returns what a majority agrees on."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._check = CrossCheck()
        self._agreed: Heads | None = None
        self._highest_agreed = -1
        """The greatest height that a majority has ever agreed on."""
        self._quarrels = Often(QUARRELS_MAX)
        self._log = structlog.get_logger()

    async def heads(self) -> Heads:
        """Return the active node's heads, as far as more than half of the voters have reached them.

        Raises `Disagreement` while there is no such block, and `RailUnavailable` when the active node is deselected.
        """
        node = await self._selection.active()
        queries = [asyncio.create_task(self._query_secondary(other)) for other in self._selection.others(node)]
        try:
            heads = await self._query_active(node)
            secondary = [head for head in [await query for query in queries] if head is not None]
        finally:
            for query in queries:
                query.cancel()
        if self._selection.current is not node:
            raise RailUnavailable(f"{node.name} was deselected during the query; the daemon asks the next node")
        await self._leave_unsteady(node, secondary)
        return await self._agree(NodeHead(node, heads), secondary)

    # Queries

    async def _query_active(self, node: Node) -> Heads:
        """Return the active node's heads. An unreadable head never halts the rail: the next one may be readable."""
        try:
            heads = await node.heads()
        except RailUnavailable as failure:
            await self._selection.deselect(node, failure)
            raise
        except RailFault as fault:
            await self._selection.deselect(node, RailUnavailable(str(fault)))
            raise RailUnavailable(str(fault)) from fault
        if self._selection.current is node:
            node.answered(heads)  # An answer that arrives after the deselection does not count.
        return heads

    async def _query_secondary(self, node: Node) -> NodeHead | None:
        """Return a secondary node's heads, or its last ones while it is briefly unavailable; None if it has no vote."""
        if node.adapter is not None or await self._connect_secondary(node) is not None:
            try:
                async with asyncio.timeout(SECONDARY_TIMEOUT_SECONDS):
                    heads = await node.heads()
            except (RailError, TimeoutError):
                node.record_failure()
                await node.disconnect()
            else:
                node.answered(heads)
                return NodeHead(node, heads)
        node.missed()
        node.votes = node.votes and not node.is_away
        return NodeHead(node, node.reported, present=False) if node.votes and node.reported else None

    async def _connect_secondary(self, node: Node) -> RailAdapter | None:
        """Start to connect a secondary node. Wait only for the first attempt: no vote happens without having tried."""
        first = node.connect_task is None
        if (node.connect_task is None or node.connect_task.done()) and not node.in_backoff:
            node.connect_task = asyncio.create_task(node.try_connect())
        if first and node.connect_task is not None:
            await asyncio.wait({node.connect_task}, timeout=SECONDARY_TIMEOUT_SECONDS)
        return node.adapter

    # The vote

    async def _agree(self, ours: NodeHead, secondary: Sequence[NodeHead]) -> Heads:
        """Return what a majority has of the active node's chain; deselect the node if a majority is elsewhere."""
        voters = [head for head in secondary if await self._votes(ours, head)]
        verdict = await self._check.check_majority(ours, voters)
        ours.node.votes = True
        self._log_disagreements(verdict.conflicts)
        if verdict.heads is None:
            raise await self._disagree(ours.node, verdict)
        self._selection.disagreement = None
        heads = self._with_finality(verdict.heads, ours.heads)
        await self._leave_lagging(ours, heads, verdict)
        self._agreed = heads
        self._highest_agreed = max(self._highest_agreed, heads.latest.height)
        return heads

    async def _disagree(self, node: Node, verdict: Verdict) -> RailUnavailable:
        """Pause the rail's other queries. Deselect the active node if it is outnumbered."""
        self._selection.disagreement = reason = disagreement(verdict)
        if verdict.agreeing < len(verdict.conflicts):
            await self._selection.deselect(node, reason)
        return reason

    async def _leave_lagging(self, ours: NodeHead, agreed: Heads, verdict: Verdict) -> None:
        """Deselect an active node that a majority does not follow, or that does not follow it. Raises the reason."""
        wanted = max(verdict.reached, ours.height) if verdict.outvoted else verdict.reached
        if gap := self._selection.lag_detector.lags(agreed.latest.height, wanted):
            side = "ahead of" if verdict.outvoted else "behind"
            reason = RailUnavailable(
                f"{ours.name} stays {gap} blocks {side} the rail's other nodes; the daemon switches to another node. "
                "Compare the nodes with: railwatch check"
            )
            await self._selection.deselect(ours.node, reason)
            raise reason

    async def _leave_unsteady(self, node: Node, secondary: Sequence[NodeHead]) -> None:
        """Deselect a node whose head keeps going back if another node's head does not. Raises `NodeLagging` then."""
        present = [head.node for head in secondary if head.present]
        if (node.setbacks.far or self._flaps(node)) and not all(other.setbacks.often for other in present):
            reason = NodeLagging(
                f"the head of {node.name} keeps going back, so several nodes at different heights or on different "
                "branches answer at its url; the daemon switches to another node. Configure one url per node"
            )
            await self._selection.deselect(node, reason)
            raise reason

    def _flaps(self, node: Node) -> bool:
        """Return True if nodes agree and disagree in turn, and this node's head is the one that goes back."""
        return bool(self._quarrels and node.setbacks.often)

    async def _votes(self, ours: NodeHead, theirs: NodeHead) -> bool:
        """Return True if a secondary node's heads count, and note that on the node.

        * A node that has reached the height that was agreed on before votes, also when it has just returned.
        * A node that falls below that height (restored, or another backend of one url) votes for `AWAY_AFTER` seconds.
        * Then it votes only if it reports a different chain.
        * A node that withdraws its own heads has no vote.
        """
        node = theirs.node
        if self._flaps(node) and not ours.node.setbacks.often:
            node.votes = False
            return False
        if ours.height < self._highest_agreed or theirs.height >= self._highest_agreed:
            node.votes, node.behind_since = True, None
            return True
        node.behind_since = node.behind_since or time.monotonic()
        if not node.votes or time.monotonic() - node.behind_since >= node_module.AWAY_AFTER:
            node.votes = await self._check.conflicts(ours, theirs)
        return node.votes

    def _with_finality(self, agreed: Heads, ours: Heads) -> Heads:
        """Return the agreed heads with the last agreed finalized block if there is no majority for one now."""
        before = self._agreed.finalized if self._agreed else None
        if ours.finalized is None or agreed.finalized is not None or before is None:
            return agreed
        return replace(agreed, finalized=before) if before.height <= agreed.latest.height else agreed

    def _log_disagreements(self, conflicts: Sequence[HeadConflict]) -> None:
        """Log once when a node starts to disagree, and once when it agrees again."""
        by_name = {conflict.theirs.name: conflict for conflict in conflicts}
        for node in self._selection.nodes:
            conflict = by_name.get(node.name)
            if conflict is not None and not node.disagrees:
                self._quarrels.note()
                self._log.warning("node.disagrees", node=node.name, where=str(conflict))
            elif conflict is None and node.disagrees:
                self._log.info("node.agrees", node=node.name)
            node.disagrees = conflict is not None

"""Several nodes of one rail behind the same seam: who answers, who rests, who is asked next, and whether they agree.

One node answers at a time, so that one round never mixes two views of a chain. A node that fails rests for a while,
longer each time, and the next one is entered, which verifies its identity again (HAZARDS E23, "Nodes"). The others
are witnesses: with each question for heads they are asked for theirs, and a chain that they contradict is not believed
(`indexer.daemon.agreement`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

import structlog

from indexer.daemon.agreement import Disagreement, Dispute, Laggard, Testimony, compare, verdict
from indexer.daemon.node import Node
from indexer.rail import (
    Address,
    AssetId,
    BlockGone,
    BlockRef,
    ChainId,
    Heads,
    NotKept,
    PendingUnknown,
    RailAdapter,
    RailUnavailable,
    RefusesPayments,
    Scanned,
    Span,
    TellsBalances,
    Traits,
    Transfer,
    Watches,
)

Answer = TypeVar("Answer")

WITNESS_SECONDS = 2.0
"""How long a witness is waited for: when it is entered for the first time, and until it is taken for away."""


class NodeSet:
    """`indexer.rail.RailAdapter` over all nodes of a rail, in the order of the configuration."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise ValueError("a rail needs at least one node")
        self._nodes = nodes
        self._unentered = nodes[0].open()
        self.chain_id: ChainId = self._unentered.chain_id
        self._current: Node | None = None
        self._entering = asyncio.Lock()
        self._laggard = Laggard()
        self._disagreement: Disagreement | None = None
        self._log = structlog.get_logger()

    @property
    def traits(self) -> Traits:
        """Those of the node that answers; before one does, what is known without it."""
        adapter = self._current.adapter if self._current else None
        return adapter.traits if adapter else self._unentered.traits

    @property
    def answering(self) -> str | None:
        """The name of the node that answers now."""
        return self._current.name if self._current else None

    async def __aenter__(self) -> Self:
        await self._entered()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._current = None
        coming = [node.coming for node in self._nodes if node.coming is not None]
        for each in coming:
            each.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for node in self._nodes:
            await node.leave()

    def parse_address(self, text: str) -> Address:
        """Any node's adapter can; none is asked."""
        return self._unentered.parse_address(text)

    async def heads(self) -> Heads:
        """`RailAdapter.heads` of the node that answers. Raises `Disagreement` while too many others contradict it."""
        node, adapter = await self._entered()
        asked = [asyncio.create_task(self._testify(each)) for each in self._nodes if each is not node]
        try:
            heads = await self._ask(lambda answering: answering.heads(), disputed=True)
            told = [testimony for testimony in [await each for each in asked] if testimony is not None]
        finally:
            for each in asked:
                each.cancel()
        if self._current is node:
            await self._compare(node, Testimony(node.name, adapter, heads.latest), told)
        return heads

    async def block_at(self, height: int) -> BlockRef:
        """`RailAdapter.block_at` of the node that answers."""
        return await self._ask(lambda node: node.block_at(height))

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """`RailAdapter.scan` of the node that answers, which is named in the evidence."""
        name, scanned = await self._ask_somebody(lambda node: node.scan(span, watches))
        return replace(scanned, transfers=_signed(scanned.transfers, name)) if scanned.transfers else scanned

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """`RailAdapter.pending` of the node that answers, which is named in the evidence."""
        name, transfers = await self._ask_somebody(lambda node: node.pending(watches))
        return _signed(transfers, name)

    async def wait_for_change(self) -> None:
        """Wait for a push. A node that pushes nothing still answers, so it is not left for that."""
        _, adapter = await self._entered()
        await adapter.wait_for_change()

    async def refusal(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """`RefusesPayments.refusal` of the node that answers; None, and nobody is asked, where the rail has none."""

        async def question(node: RailAdapter) -> str | None:
            if not isinstance(node, RefusesPayments):
                return None
            return await node.refusal(address, asset, amount, reference)

        return await self._ask(question) if isinstance(self._unentered, RefusesPayments) else None

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> tuple[str, Mapping[bytes, int]]:
        """`TellsBalances.balances` of the node that answers, and that node's name. Only where `tells_balances`.

        A node that fails at this is not left for it: it may still be the best one to follow.
        """
        node, adapter = await self._entered()
        if self._disagreement is not None:
            raise self._disagreement
        assert isinstance(adapter, TellsBalances)
        return node.name, await adapter.balances(keys, asset, at)

    @property
    def tells_balances(self) -> bool:
        """Whether the rail can tell what an address holds."""
        return self._unentered.traits.can_balance and isinstance(self._unentered, TellsBalances)

    async def leave(self, why: RailUnavailable) -> None:
        """Let the node that answers rest, for a reason that only its asker can see; the next is asked instead."""
        if self._current is not None:
            await self._rest(self._current, why)

    # Asking

    async def _ask(self, question: Callable[[RailAdapter], Awaitable[Answer]], *, disputed: bool = False) -> Answer:
        return (await self._ask_somebody(question, disputed=disputed))[1]

    async def _ask_somebody(
        self, question: Callable[[RailAdapter], Awaitable[Answer]], *, disputed: bool = False
    ) -> tuple[str, Answer]:
        """The answer, and the name of the node that gave it. While that is contradicted only its heads are asked."""
        node, adapter = await self._entered()
        if self._disagreement is not None and not disputed:
            raise self._disagreement
        try:
            answer = await question(adapter)
        except PendingUnknown:
            raise  # It is well otherwise, and goes on reading only while it is not left.
        except NotKept as gone:
            return await self._ask_who_keeps(node, question, gone)
        except RailUnavailable as away:
            await self._rest(node, away)
            raise
        node.failures = 0
        return node.name, answer

    async def _ask_who_keeps(
        self, node: Node, question: Callable[[RailAdapter], Awaitable[Answer]], gone: NotKept
    ) -> tuple[str, Answer]:
        """Ask the other nodes for what the answering one has thrown away; nobody is left for having done so.

        Raises the `NotKept` of whoever keeps most, if nobody has it.
        """
        best = gone
        for other in self._nodes:
            adapter = None if other is node else other.adapter or await self._summon(other)
            if adapter is None:
                continue
            try:
                return other.name, await question(adapter)
            except NotKept as also:
                if also.first is not None and (best.first is None or also.first < best.first):
                    best = also
            except RailUnavailable as away:
                self._log.info("node.cannot_help", node=other.name, reason=str(away))
        raise best

    async def _entered(self) -> tuple[Node, RailAdapter]:
        """The node that answers; enters the next that is rested if there is none. Raises `RailUnavailable`."""
        async with self._entering:
            if self._current is not None and self._current.adapter is not None:
                return self._current, self._current.adapter
            reasons: list[str] = []
            for node in sorted(self._nodes, key=lambda each: each.rests_until):
                if node.rests and len(self._nodes) > 1 and reasons:
                    continue
                try:
                    adapter = await node.enter()
                except RailUnavailable as away:
                    reasons.append(f"{node.name}: {away}")
                    continue
                self._current, self._disagreement = node, None
                self._laggard.forget()
                self._log.info("node.entered", node=node.name, chain_id=self.chain_id)
                return node, adapter
            raise RailUnavailable("; ".join(reasons))

    async def _rest(self, node: Node, why: RailUnavailable) -> None:
        if self._current is node:
            self._log.warning("node.left", node=node.name, why=str(why))
            node.punish()
            self._current = None
            await node.leave()

    # Witnesses

    async def _testify(self, node: Node) -> Testimony | None:
        """What a witness says; nothing where it is away, resting or slow."""
        adapter = node.adapter or await self._summon(node)
        if adapter is None:
            return None
        try:
            async with asyncio.timeout(WITNESS_SECONDS):
                latest = (await adapter.heads()).latest
        except (RailUnavailable, BlockGone, TimeoutError):
            node.punish()
            await node.leave()
            return None
        node.failures = 0
        return Testimony(node.name, adapter, latest)

    async def _summon(self, node: Node) -> RailAdapter | None:
        """Have a witness entered. Only the first time is waited for: nothing is believed before it was asked once."""
        first = node.coming is None
        if (node.coming is None or node.coming.done()) and not node.rests:
            node.coming = asyncio.create_task(node.come())
        if first and node.coming is not None:
            await asyncio.wait({node.coming}, timeout=WITNESS_SECONDS)
        return node.adapter

    async def _compare(self, node: Node, ours: Testimony, told: Sequence[Testimony]) -> None:
        """Believe ours only with more than half of those that answered, and only if it keeps up with them."""
        disputes, agreeing = [], [ours]
        for theirs in told:
            dispute = await self._dispute(ours, theirs)
            if dispute is None:
                agreeing.append(theirs)
            else:
                disputes.append(dispute)
        self._tell(disputes)
        self._disagreement = verdict(len(agreeing), disputes)
        if self._disagreement is not None:
            if len(agreeing) < len(disputes):
                await self._rest(node, self._disagreement)
            raise self._disagreement
        behind = self._laggard.lags(ours.latest, [each.latest for each in agreeing])
        if behind:
            lagging = RailUnavailable(f"{node.name} stays {behind} blocks behind other nodes; another one is asked")
            await self._rest(node, lagging)
            raise lagging

    async def _dispute(self, ours: Testimony, theirs: Testimony) -> Dispute | None:
        """A comparison that cannot be made now is no contradiction: the next heads bring another."""
        try:
            async with asyncio.timeout(WITNESS_SECONDS):
                return await compare(ours, theirs)
        except (RailUnavailable, BlockGone, TimeoutError):
            return None

    def _tell(self, disputes: Sequence[Dispute]) -> None:
        """Tell the log once when a node begins to contradict, and once when it no longer does."""
        contradicting = {dispute.theirs.name: dispute for dispute in disputes}
        for node in self._nodes:
            dispute = contradicting.get(node.name)
            if dispute is not None and not node.contradicts:
                self._log.warning("node.contradicts", node=node.name, where=str(dispute))
            elif dispute is None and node.contradicts:
                self._log.info("node.agrees", node=node.name)
            node.contradicts = dispute is not None


def _signed(transfers: Sequence[Transfer], node: str) -> list[Transfer]:
    """With the name of the node that told them, where the adapter has not said a better one."""
    return [
        each if "node" in each.evidence else replace(each, evidence={**each.evidence, "node": node})
        for each in transfers
    ]

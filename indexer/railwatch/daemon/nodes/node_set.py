"""Several nodes of one rail behind the same seam: who answers, who rests, who is asked next, and whether they agree.

One node answers at a time, so that one round never mixes two views of a chain. A node that fails rests for a while,
longer each time, and the next one is entered, which verifies its identity again (HAZARDS E23, "Nodes"). The others
are witnesses: with each question for heads they are asked for theirs, and heads are told as far as more than half of
the voters have reached them (`railwatch.daemon.nodes.cross_check`).

A node votes from its first answer on, and goes on doing so with what it told last while it is away for a moment; away
for `AWAY_AFTER`, it is not counted, so that failover is not stopped by it. When it returns it votes again as soon as
it has caught up, or contradicts: a node that is catching up holds nothing back.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

import structlog

from railwatch.daemon.follow.steadiness import QUARRELS_MAX, NodeLagging, Often
from railwatch.daemon.nodes import node as node_module
from railwatch.daemon.nodes.cross_check import CrossCheck, HeadConflict, LagDetector, NodeHead, disagreement
from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.one_node import OneNode, with_node_name
from railwatch.rail import (
    Address,
    AssetId,
    BadAddress,
    BlockRef,
    ChainId,
    Heads,
    NotKept,
    PendingUnknown,
    RailAdapter,
    RailError,
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

Answer = TypeVar("Answer")

SECONDARY_TIMEOUT_SECONDS = 2.0
"""How long a witness is waited for: when it is entered for the first time, and until it is taken for away."""


REREAD_SECONDS = 5.0
"""How long a node may take for a second look at one block."""


@dataclass(frozen=True, slots=True)
class Reread:
    """One node's second reading of a block: the hash that it has there, and what it tells if that is the one asked for.

    ``native_complete``: the node shows every way in which the native asset moves.
    """

    node: str
    block_hash: str
    transfers: Sequence[Transfer]
    native_complete: bool


class NodeSet:
    """`railwatch.rail.RailAdapter` over all nodes of a rail, in the order of the configuration."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise ValueError("a rail needs at least one node")
        self._nodes = nodes
        self._prototype = nodes[0].open()
        self.chain_id: ChainId = self._prototype.chain_id
        self._current: Node | None = None
        self._connecting = asyncio.Lock()
        self._check = CrossCheck()
        self._lag_detector = LagDetector()
        self._believed: Heads | None = None
        self._highest = -1
        """The height that was believed at most."""
        self._disagreement: RailUnavailable | None = None
        self._quarrels = Often(QUARRELS_MAX)
        self._log = structlog.get_logger()

    @property
    def traits(self) -> Traits:
        """Those of the node that answers; before one does, what is known without it."""
        adapter = self._current.adapter if self._current else None
        return adapter.traits if adapter else self._prototype.traits

    @property
    def answering(self) -> str | None:
        """The name of the node that answers now."""
        return self._current.name if self._current else None

    async def __aenter__(self) -> Self:
        await self._active()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._current = None
        coming = [node.connect_task for node in self._nodes if node.connect_task is not None]
        for each in coming:
            each.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for node in self._nodes:
            await node.disconnect()

    def parse_address(self, text: str) -> Address:
        """Any node's adapter can; none is asked."""
        try:
            return self._prototype.parse_address(text)
        except BadAddress:
            raise
        except Exception as defect:
            self._log.exception("node.fault", reason="an address could not be read")
            raise BadAddress(f"this address cannot be read: {type(defect).__name__}") from defect

    async def heads(self) -> Heads:
        """The answering node's heads, as far as more than half of the voters have reached them.

        Raises `Disagreement` while there is no such block, and `RailUnavailable` when the node that answers is left.
        """
        node, _ = await self._active()
        asked = [asyncio.create_task(self._query_secondary(each)) for each in self._nodes if each is not node]
        try:
            heads = await self._heads_of(node)
            told = [testimony for testimony in [await each for each in asked] if testimony is not None]
        finally:
            for each in asked:
                each.cancel()
        if self._current is not node:
            raise RailUnavailable(f"{node.name} was left while it was asked")
        await self._prefer_steady(node, told)
        return await self._believe(NodeHead(node, heads), told)

    async def block_at(self, height: int) -> BlockRef:
        """`RailAdapter.block_at` of the node that answers."""
        return await self._query(lambda node: node.block_at(height))

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """`RailAdapter.scan` of the node that answers, which is named in the evidence."""
        name, scanned = await self._query_named(lambda node: node.scan(span, watches))
        return replace(scanned, transfers=with_node_name(scanned.transfers, name)) if scanned.transfers else scanned

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """`RailAdapter.pending` of the node that answers, which is named in the evidence."""
        name, transfers = await self._query_named(lambda node: node.pending(watches))
        return with_node_name(transfers, name)

    async def wait_for_change(self) -> None:
        """Wait for a push. A node that pushes nothing still answers, so it is not left for that."""
        node, _ = await self._active()
        try:
            await node.ask(lambda adapter: adapter.wait_for_change())
        except RailFault as fault:
            raise RailUnavailable(str(fault)) from fault

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """`SupportsPaymentCheck.check_payment` of a node, as `on_one_node`;
        None, and nobody is asked, where the rail has none.
        """
        if not isinstance(self._prototype, SupportsPaymentCheck):
            return None
        return await self.on_one_node(lambda node: node.check_payment(address, asset, amount, reference))

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> tuple[str, Mapping[bytes, int]]:
        """`SupportsBalances.balances` of the node that answers, and that node's name. Only where `supports_balances`.

        A node that fails at this is not left for it: it may still be the best one to follow.
        """
        node, _ = await self._active()
        if self._disagreement is not None:
            raise self._disagreement

        async def question(adapter: RailAdapter) -> Mapping[bytes, int]:
            assert isinstance(adapter, SupportsBalances)
            return await adapter.balances(keys, asset, at)

        try:
            return node.name, await node.ask(question)
        except RailFault as fault:
            raise RailUnavailable(str(fault)) from fault

    async def reread(self, block: tuple[int, str], watches: Watches, first: str | None) -> Reread:
        """Read one block once more, by its height and hash, from another node than ``first`` where one answers.

        Only nodes that agree with the majority are asked: one that is on another chain, or was not counted, says
        nothing of this one. So another block at that height counts only where the node that answers tells it.
        Raises `RailUnavailable` where no node can tell it now, and leaves nobody for that.
        """
        height, block_hash = block

        async def question(adapter: RailAdapter) -> tuple[BlockRef, Sequence[Transfer]]:
            found = await adapter.block_at(height)
            if found.hash != block_hash:
                return found, ()
            before = await adapter.block_at(height - 1)
            return found, (await adapter.scan(Span(before, found), watches)).transfers

        def contradicts(node: Node, told: tuple[BlockRef, Sequence[Transfer]]) -> str | None:
            found = told[0]
            if found.hash != block_hash and node is not self._current:
                return f"has block {found.hash} at height {height}"
            return None

        node, (found, transfers) = await self._second_opinion(question, first, contradicts)
        whole = node.adapter.traits.native_complete if node.adapter else False
        return Reread(node.name, found.hash, transfers, whole)

    async def reread_balances(
        self, keys: Sequence[bytes], asset: AssetId, block: tuple[int, str], first: str | None
    ) -> tuple[str, str, Mapping[bytes, int]]:
        """Read balances once more at a block, from another node than ``first`` where one answers.

        Returns the node, the hash that it has at that height, and the balances if that is the hash that was asked for.
        Raises `RailUnavailable` where no node that agrees with the majority can tell now.
        """
        height, block_hash = block

        async def question(adapter: RailAdapter) -> tuple[str, Mapping[bytes, int]]:
            found = await adapter.block_at(height)
            if found.hash != block_hash:
                return found.hash, {}
            assert isinstance(adapter, SupportsBalances)
            return found.hash, await adapter.balances(keys, asset, found)

        node, (found, amounts) = await self._second_opinion(question, first)
        return node.name, found, amounts

    async def _second_opinion(
        self,
        question: Callable[[RailAdapter], Awaitable[Answer]],
        first: str | None,
        contradicts: Callable[[Node, Answer], str | None] = lambda _node, _told: None,
    ) -> tuple[Node, Answer]:
        """Ask nodes that agree with the majority, the one named ``first`` last, until one tells.

        ``disagrees``: why an answer does not count. Raises `RailUnavailable` with what each said if none tells now.
        """
        reasons = []
        agreeing = [each for each in self._nodes if each is self._current or (each.votes and not each.disagrees)]
        for node in sorted(agreeing, key=lambda each: (each.name == first, each is self._current)):
            try:
                async with asyncio.timeout(REREAD_SECONDS):
                    told = await node.ask(question)
            except (RailError, TimeoutError) as away:
                reasons.append(f"{node.name}: {away or 'no answer'}")
                continue
            if (why := contradicts(node, told)) is None:
                return node, told
            reasons.append(f"{node.name}: {why}")
        raise RailUnavailable("; ".join(reasons))

    async def on_one_node(self, errand: Callable[[OneNode], Awaitable[Answer]]) -> Answer:
        """Do ``errand``, which reads old blocks of one node, with the answering node or the first other that can do it.

        A node that fails at this is not left for it: it may lack an archive, and still be the best one to follow.
        Raises the `NotKept` of whoever keeps most, else what the answering node told, if nobody can do it.
        """
        current, _ = await self._active()
        if self._disagreement is not None:
            raise self._disagreement
        failures: list[RailError] = []
        for node in sorted(self._nodes, key=lambda each: each is not current):
            try:
                await node.connect()
                return await errand(OneNode(node))
            except RailError as why:
                failures.append(why)
                if node is not current:
                    self._log.info("node.cannot_help", node=node.name, reason=str(why))
        kept = [why for why in failures if isinstance(why, NotKept)]
        raise min(kept, key=lambda why: math.inf if why.first is None else why.first) if kept else failures[0]

    @property
    def supports_balances(self) -> bool:
        """Whether the rail can tell what an address holds."""
        return self._prototype.traits.can_balance and isinstance(self._prototype, SupportsBalances)

    @property
    def has_other_answering(self) -> bool:
        """Whether another node than the one that answers has answered lately."""
        return any(
            each.adapter is not None and not each.in_backoff for each in self._nodes if each is not self._current
        )

    async def leave(self, why: RailUnavailable) -> None:
        """Let the node that answers rest, for a reason that only its asker can see; the next is asked instead."""
        if self._current is not None:
            await self._deselect(self._current, why)

    # Asking

    async def _query(self, question: Callable[[RailAdapter], Awaitable[Answer]]) -> Answer:
        return (await self._query_named(question))[1]

    async def _query_named(self, question: Callable[[RailAdapter], Awaitable[Answer]]) -> tuple[str, Answer]:
        """The answer, and the name of the node that gave it. While nodes disagree only heads are asked."""
        node, _ = await self._active()
        if self._disagreement is not None:
            raise self._disagreement
        try:
            answer = await node.ask(question)
        except PendingUnknown:
            raise  # It is well otherwise, and goes on reading only while it is not left.
        except NotKept as gone:
            return await self._query_archive(node, question, gone)
        except RailUnavailable as away:
            await self._deselect(node, away)
            raise
        except RailFault as fault:
            return await self._query_others(node, question, fault)
        node.failures = 0
        return node.name, answer

    async def _query_others(
        self, faulty: Node, question: Callable[[RailAdapter], Awaitable[Answer]], fault: RailFault
    ) -> tuple[str, Answer]:
        """A fault of one node is no fault of the rail: whoever can answer the same question answers from now on.

        Raises the fault if every node that answers tells one, and `RailUnavailable` while one that votes is away.
        """
        waits = False
        for other in self._nodes:
            if other is faulty:
                continue
            try:
                await other.connect()
                answer = await other.ask(question)
            except RailFault:
                continue
            except RailError:
                waits = waits or (other.votes and not other.is_away)
                continue
            self._log.warning("node.fault", node=faulty.name, reason=str(fault))
            await self._deselect(faulty, RailUnavailable(str(fault)))
            self._select(other)
            return other.name, answer
        if not waits:
            raise fault
        await self._deselect(faulty, RailUnavailable(str(fault)))
        raise RailUnavailable(f"{faulty.name}: {fault}; the other nodes have not answered yet")

    async def _heads_of(self, node: Node) -> Heads:
        """Ask the answering node. A head is no block: one that cannot be read is the node's trouble, and heals."""
        try:
            heads = await node.heads()
        except RailUnavailable as away:
            await self._deselect(node, away)
            raise
        except RailFault as fault:
            await self._deselect(node, RailUnavailable(str(fault)))
            raise RailUnavailable(str(fault)) from fault
        if self._current is node:
            node.answered(heads)  # What comes after it was left comes too late.
        return heads

    async def _query_archive(
        self, node: Node, question: Callable[[RailAdapter], Awaitable[Answer]], gone: NotKept
    ) -> tuple[str, Answer]:
        """Ask the other nodes for what the answering one has thrown away; nobody is left for having done so.

        Raises the `NotKept` of whoever keeps most, if nobody has it.
        """
        best = gone
        for other in self._nodes:
            if other is node:
                continue
            try:
                await other.connect()
                return other.name, await other.ask(question)
            except NotKept as also:
                if also.first is not None and (best.first is None or also.first < best.first):
                    best = also
            except RailError as away:
                self._log.info("node.cannot_help", node=other.name, reason=str(away))
        raise best

    async def _active(self) -> tuple[Node, RailAdapter]:
        """The node that answers; enters the next that is rested if there is none. Raises `RailUnavailable`."""
        async with self._connecting:
            if self._current is not None and self._current.adapter is not None:
                return self._current, self._current.adapter
            reasons: list[str] = []
            faults: list[RailFault] = []
            for node in sorted(self._nodes, key=lambda each: each.backoff_until):
                if node.in_backoff and len(self._nodes) > 1 and reasons:
                    continue
                try:
                    adapter = await node.connect()
                except RailError as away:
                    reasons.append(f"{node.name}: {away}")
                    faults += [away] if isinstance(away, RailFault) else []
                    continue
                self._select(node)
                return node, adapter
            if len(faults) == len(self._nodes):
                raise faults[0]
            raise RailUnavailable("; ".join(reasons))

    def _select(self, node: Node) -> None:
        self._current, self._disagreement = node, None
        self._lag_detector.forget()
        self._log.info("node.selected", node=node.name, chain_id=self.chain_id)

    async def _deselect(self, node: Node, why: RailUnavailable) -> None:
        if self._current is node:
            self._log.warning("node.deselected", node=node.name, reason=str(why))
            node.record_failure()
            self._current = None
            await node.disconnect()

    # Witnesses

    async def _query_secondary(self, node: Node) -> NodeHead | None:
        """What a witness says, or what it said last while it is away for a moment; nothing of one that has no vote."""
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
        """Have a witness entered. Only the first time is waited for: nothing is believed before it was asked once."""
        first = node.connect_task is None
        if (node.connect_task is None or node.connect_task.done()) and not node.in_backoff:
            node.connect_task = asyncio.create_task(node.try_connect())
        if first and node.connect_task is not None:
            await asyncio.wait({node.connect_task}, timeout=SECONDARY_TIMEOUT_SECONDS)
        return node.adapter

    async def _believe(self, ours: NodeHead, told: Sequence[NodeHead]) -> Heads:
        """What a majority has of the answering node's chain; leaves that node where a majority is elsewhere."""
        node = ours.node
        verdict = await self._check.check_majority(ours, [each for each in told if await self._votes(ours, each)])
        node.votes = True
        self._log_disagreements(verdict.conflicts)
        if verdict.heads is None:
            self._disagreement = why = disagreement(verdict)
            if verdict.agreeing < len(verdict.conflicts):
                await self._deselect(node, why)
            raise why
        self._disagreement = None
        heads = self._with_finality(verdict.heads, ours.heads)
        wanted = max(verdict.reached, ours.height) if verdict.outvoted else verdict.reached
        if gap := self._lag_detector.lags(heads.latest.height, wanted):
            side = "ahead of" if verdict.outvoted else "behind"
            left = RailUnavailable(f"{node.name} stays {gap} blocks {side} other nodes; another one is asked")
            await self._deselect(node, left)
            raise left
        self._believed = heads
        self._highest = max(self._highest, heads.latest.height)
        return heads

    async def _prefer_steady(self, node: Node, told: Sequence[NodeHead]) -> None:
        """Leave a node whose head goes back again and again for one whose head does not. Raises `NodeLagging` then."""
        others = [each.node for each in told if each.present]
        if (node.setbacks.far or self._flaps(node)) and not all(each.setbacks.often for each in others):
            left = NodeLagging(
                f"{node.name} goes back again and again: several nodes at different heights or on different branches "
                "answer behind its address; another one is asked"
            )
            await self._deselect(node, left)
            raise left

    def _flaps(self, node: Node) -> bool:
        """Whether the node agrees with another and contradicts it in turn, and it is its own head that goes back."""
        return bool(self._quarrels and node.setbacks.often)

    async def _votes(self, ours: NodeHead, theirs: NodeHead) -> bool:
        """Whether a witness is counted.

        One that comes (back) later is, once it has caught up with what was believed, and one that falls behind that
        (restored, or another backend of one address) is so for `AWAY_AFTER` only; whoever contradicts is counted.
        """
        node = theirs.node
        if self._flaps(node) and not ours.node.setbacks.often:
            # What one of the nodes behind its address says, the next one takes back.
            node.votes = False
            return False
        if ours.height < self._highest or theirs.height >= self._highest:
            node.votes, node.behind_since = True, None
            return True
        node.behind_since = node.behind_since or time.monotonic()
        if not node.votes or time.monotonic() - node.behind_since >= node_module.AWAY_AFTER:
            node.votes = await self._check.conflicts(ours, theirs)
        return node.votes

    def _with_finality(self, agreed: Heads, ours: Heads) -> Heads:
        """Where a majority agrees on no finalized block now, the one that it agreed on before stays: never less."""
        before = self._believed.finalized if self._believed else None
        if ours.finalized is None or agreed.finalized is not None or before is None:
            return agreed
        return replace(agreed, finalized=before) if before.height <= agreed.latest.height else agreed

    def _log_disagreements(self, conflicts: Sequence[HeadConflict]) -> None:
        """Tell the log once when a node begins to contradict, and once when it no longer does."""
        contradicting = {conflict.theirs.name: conflict for conflict in conflicts}
        for node in self._nodes:
            conflict = contradicting.get(node.name)
            if conflict is not None and not node.disagrees:
                self._quarrels.note()
                self._log.warning("node.disagrees", node=node.name, where=str(conflict))
            elif conflict is None and node.disagrees:
                self._log.info("node.agrees", node=node.name)
            node.disagrees = conflict is not None

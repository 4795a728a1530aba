"""One query to the active node, and to the other nodes where it cannot answer."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.one_node import OneNode
from railwatch.daemon.nodes.selection import Selection
from railwatch.rail import NotKept, PendingUnknown, RailAdapter, RailError, RailFault, RailUnavailable

Answer = TypeVar("Answer")


class Queries:
    """Queries over all nodes of a rail. Each decides whether a failure deselects the active node."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._log = structlog.get_logger()

    async def query(self, question: Callable[[RailAdapter], Awaitable[Answer]]) -> tuple[Node, Answer]:
        """Return the node that answered, and its answer. A node that fails is deselected.

        Raises the disagreement while the nodes report different chains: the rail queries only heads then.
        """
        node = await self._selection.agreed()
        try:
            answer = await node.ask(question)
        except PendingUnknown:
            raise  # The node works otherwise, and reads its mempool only while it stays connected.
        except NotKept as missing:
            return await self._query_archive(node, question, missing)
        except RailUnavailable as failure:
            await self._selection.deselect(node, failure)
            raise
        except RailFault as fault:
            return await self._query_others(node, question, fault)
        node.failures = 0
        return node, answer

    async def query_active(self, question: Callable[[RailAdapter], Awaitable[Answer]]) -> tuple[Node, Answer]:
        """Return the active node, and its answer. A failure does not deselect it: it may be the best one to follow."""
        node = await self._selection.agreed()
        try:
            return node, await node.ask(question)
        except RailFault as fault:
            raise RailUnavailable(str(fault)) from fault

    async def on_one_node(self, errand: Callable[[OneNode], Awaitable[Answer]]) -> Answer:
        """Run ``errand``, which reads old blocks of one node, on the first node that can: the active one, then others.

        A failure does not deselect a node: it may lack an archive, and still be the best one to follow.
        Raises the `NotKept` of the node that keeps most, else the active node's error, if no node can.
        """
        active = await self._selection.agreed()
        failures: list[RailError] = []
        for node in (active, *self._selection.others(active)):
            try:
                await node.connect()
                return await errand(OneNode(node))
            except RailError as failure:
                failures.append(failure)
                if node is not active:
                    self._log.info("node.cannot_help", node=node.name, reason=str(failure))
        missing = [failure for failure in failures if isinstance(failure, NotKept)]
        raise _keeps_most(missing) if missing else failures[0]

    async def _query_others(
        self, faulty: Node, question: Callable[[RailAdapter], Awaitable[Answer]], fault: RailFault
    ) -> tuple[Node, Answer]:
        """Ask the other nodes after a node's fault, and make the first that answers the active one.

        Raises the fault if every other node raises one, and `RailUnavailable` while a voter is unavailable.
        """
        voter_unavailable = False
        for other in self._selection.others(faulty):
            try:
                await other.connect()
                answer = await other.ask(question)
            except RailFault:
                continue
            except RailError:
                voter_unavailable = voter_unavailable or (other.votes and not other.is_away)
                continue
            self._log.warning("node.fault", node=faulty.name, reason=str(fault))
            await self._selection.deselect(faulty, RailUnavailable(str(fault)))
            self._selection.select(other)
            return other, answer
        if not voter_unavailable:
            raise fault
        await self._selection.deselect(faulty, RailUnavailable(str(fault)))
        raise RailUnavailable(f"{faulty.name}: {fault}; no other node has answered yet")

    async def _query_archive(
        self, node: Node, question: Callable[[RailAdapter], Awaitable[Answer]], missing: NotKept
    ) -> tuple[Node, Answer]:
        """Ask the other nodes for data that the active node has pruned. Pruning does not deselect a node.

        Raises the `NotKept` of the node that keeps most, if none has it.
        """
        pruned = [missing]
        for other in self._selection.others(node):
            try:
                await other.connect()
                return other, await other.ask(question)
            except NotKept as also:
                pruned.append(also)
            except RailError as failure:
                self._log.info("node.cannot_help", node=other.name, reason=str(failure))
        raise _keeps_most(pruned)


def _keeps_most(pruned: list[NotKept]) -> NotKept:
    """Return the error of the node whose first block is the lowest; the first of equals."""
    return min(pruned, key=lambda error: math.inf if error.first is None else error.first)

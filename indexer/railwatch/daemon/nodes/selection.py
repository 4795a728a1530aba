"""Which node of a rail is active.

One node at a time answers the follower, so that one round never mixes two views of a chain. A node that fails backs
off, longer each time, and the next one is connected, which verifies its identity again (HAZARDS E23, "Nodes").
"""

import asyncio
from collections.abc import Iterator, Sequence

import structlog

from railwatch.daemon.nodes.cross_check import LagDetector
from railwatch.daemon.nodes.node import Node
from railwatch.rail import ChainId, RailError, RailFault, RailUnavailable


class Selection:
    """The nodes of one rail, in the order of the configuration, and the one that is active."""

    def __init__(self, nodes: Sequence[Node], chain_id: ChainId) -> None:
        self.nodes = nodes
        self.current: Node | None = None
        self.disagreement: RailUnavailable | None = None
        """The reason why the rail queries only heads now: the nodes report different chains."""
        self.lag_detector = LagDetector()
        """Compares the active node with a majority; starts anew with each selection."""
        self._chain_id = chain_id
        self._connecting = asyncio.Lock()
        self._log = structlog.get_logger()

    async def active(self) -> Node:
        """Return the active node; connect the next one that is out of backoff if there is none.

        Raises `RailUnavailable` with each node's reason, or `RailFault` if every node raises one.
        """
        async with self._connecting:
            if self.current is None or self.current.adapter is None:
                self.select(await self._connect_next())
            assert self.current is not None
            return self.current

    async def agreed(self) -> Node:
        """Return the active node. Raises the disagreement while the nodes report different chains."""
        node = await self.active()
        if self.disagreement is not None:
            raise self.disagreement
        return node

    def others(self, node: Node) -> Iterator[Node]:
        """Return all nodes but ``node``."""
        return (other for other in self.nodes if other is not node)

    def select(self, node: Node) -> None:
        """Make a connected node the active one."""
        self.current, self.disagreement = node, None
        self.lag_detector.forget()
        self._log.info("node.selected", node=node.name, chain_id=self._chain_id)

    async def deselect(self, node: Node, reason: RailUnavailable) -> None:
        """Disconnect the node and let it back off, if it is the active one."""
        if self.current is node:
            self._log.warning("node.deselected", node=node.name, reason=str(reason))
            node.record_failure()
            self.current = None
            await node.disconnect()

    async def close(self) -> None:
        """Cancel connection attempts and disconnect all nodes."""
        self.current = None
        attempts = [node.connect_task for node in self.nodes if node.connect_task is not None]
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
        for node in self.nodes:
            await node.disconnect()

    async def _connect_next(self) -> Node:
        failures: list[tuple[Node, RailError]] = []
        for node in sorted(self.nodes, key=lambda node: node.backoff_until):
            if node.in_backoff and failures:
                continue
            try:
                await node.connect()
            except RailError as failure:
                failures.append((node, failure))
            else:
                return node
        faults = [failure for _, failure in failures if isinstance(failure, RailFault)]
        if len(faults) == len(self.nodes):
            raise faults[0]
        raise RailUnavailable("; ".join(f"{node.name}: {failure}" for node, failure in failures))

"""Several nodes of one development chain, and what passes between them.

They do not speak to one another: blocks and transactions are carried from node to node by command, and a partition is
that they are not. So nothing of a story depends on how long peers take to find one another.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

from railwatch_bitcoin.dev.node_process import DaemonNode, NodeError
from railwatch_bitcoin.dev.node_rpc import DevNodeRpc
from railwatch_bitcoin.dev.tx_builder import Block, Tx

FORK_MAX = 1_000
"""How far below the lower head two nodes' common block is searched for."""


class RegtestCluster:
    """Nodes that agree, but for a partition. ``at`` is a node's place, everywhere. All commands raise `NodeError`."""

    def __init__(self, nodes: Sequence[DaemonNode]) -> None:
        self.nodes = tuple(nodes)
        self.rpcs = tuple(DevNodeRpc(node) for node in self.nodes)
        self._parted = False
        self.exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            for node in self.nodes:
                self.exits.callback(node.remove)
            await asyncio.gather(*[asyncio.to_thread(node.start) for node in self.nodes])
            for console in self.rpcs:
                await self.exits.enter_async_context(console)
        except BaseException:
            await self.exits.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.exits.aclose()

    async def rpc(self, method: str, *params: Any, at: int = 0) -> Any:
        """One command to one node."""
        return await self.rpcs[at].rpc(method, *params)

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], at: int = 0) -> list[Any]:
        """Many commands to one node, at once."""
        return await self.rpcs[at].batch(calls)

    def reached(self, at: int = 0) -> list[int]:
        """Places of the nodes that hear of what happens at this one: itself first, then all that run, unless parted."""
        others = [place for place, node in enumerate(self.nodes) if node.running and place != at]
        return [at] if self._parted else [at, *others]

    async def send(self, tx: Tx, at: int = 0) -> None:
        """Send a transaction to one node, and by it to all that it reaches."""
        for place in self.reached(at):
            await self.rpc("sendrawtransaction", tx.raw, at=place)

    async def submit(self, block: Block, at: int = 0) -> None:
        """Submit a block to every node. A block on another branch is held until that branch is the best."""
        for place in self.reached(at):
            await self._take_in(block.raw, place)

    async def carry(self, hashes: Iterable[str], at: int = 0) -> None:
        """Bring blocks that one node has made to the others that it reaches."""
        for place in self.reached(at)[1:]:
            await self._carry(hashes, at, place)

    async def partition(self) -> None:
        """From now on nothing passes between the nodes."""
        self._parted = True

    async def heal(self) -> None:
        """Connect the nodes again: all adopt the longest branch and one mempool."""
        self._parted = False
        heights = {place: await self.rpc("getblockcount", at=place) for place in self.reached()}
        best = max(heights, key=lambda place: heights[place])
        for place in self.reached(best)[1:]:
            fork = await self._fork(best, place, min(heights[best], heights[place]))
            above = [("getblockhash", (height,)) for height in range(fork + 1, heights[best] + 1)]
            await self._carry(await self.batch(above, best), best, place)
        for place in self.reached():
            for tx_id in await self.waiting(place):
                raw = await self.rpc("getrawtransaction", tx_id, at=place)
                for other in self.reached(place)[1:]:
                    with suppress(NodeError):  # it is there already, or spends what is spent there
                        await self.rpc("sendrawtransaction", raw, at=other)

    async def waiting(self, at: int = 0) -> list[str]:
        """Ids of what waits at a node, ancestors first."""
        entries = await self.rpc("getrawmempool", True, at=at)
        return sorted(entries, key=lambda tx_id: int(entries[tx_id]["ancestorcount"]))

    async def stop(self, at: int = 0, *, kill: bool = False) -> None:
        """End a node in order, or kill it: then it has its blocks, as after an hour of running, and no mempool."""
        if kill:
            await self.rpc("gettxoutsetinfo", at=at)  # which writes the chain to the disk
        await asyncio.to_thread(self.nodes[at].kill if kill else self.nodes[at].end)

    async def start(self, at: int = 0) -> None:
        """Start it again where it was; `heal` brings what it missed."""
        await asyncio.to_thread(self.nodes[at].start)

    async def _fork(self, one: int, other: int, height: int) -> int:
        """Return the height of the last block that two nodes share."""
        for below in range(height, max(-1, height - FORK_MAX), -1):
            if await self.rpc("getblockhash", below, at=one) == await self.rpc("getblockhash", below, at=other):
                return below
        raise NodeError(f"two nodes have nothing in common for {FORK_MAX} blocks below {height}")

    async def _carry(self, hashes: Iterable[str], one: int, other: int) -> None:
        for raw in await self.batch([("getblock", (each, 0)) for each in hashes], one):
            await self._take_in(raw, other)

    async def _take_in(self, raw: str, at: int) -> None:
        # "inconclusive" is a block of a branch that is not the best one yet.
        if (why := await self.rpc("submitblock", raw, at=at)) not in (None, "inconclusive", "duplicate"):
            raise NodeError(f"submitblock: {why}")

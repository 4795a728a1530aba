"""Node sets over fake nodes of one chain."""

import asyncio
from contextlib import suppress
from functools import partial

from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import Heads, RailUnavailable
from railwatch_fake import FakeAdapter, FakeChain, FakeNode


def some_nodes(count: int) -> tuple[FakeChain, list[FakeNode], NodeSet]:
    chain = FakeChain("several")
    chain.mine(3)
    nodes = [FakeNode(chain) for _ in range(count)]
    rail = NodeSet(
        [
            Node(f"node-{place}", partial(FakeAdapter, node, chain.chain_id, timeout=0.2))
            for place, node in enumerate(nodes)
        ]
    )
    return chain, nodes, rail


def two_nodes() -> tuple[FakeChain, list[FakeNode], NodeSet]:
    return some_nodes(2)


async def until_believed(rail: NodeSet) -> Heads:
    """Ask repeatedly, as a rail does, and return the first heads."""
    async with asyncio.timeout(10):
        while True:
            with suppress(RailUnavailable):
                return await rail.heads()
            await asyncio.sleep(0.02)

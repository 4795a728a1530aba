"""A second reading of a block or of balances, by another node than the one that reported them first."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.selection import Selection
from railwatch.rail import (
    AssetId,
    BlockRef,
    RailAdapter,
    RailError,
    RailUnavailable,
    Span,
    SupportsBalances,
    Transfer,
    Watches,
)

Answer = TypeVar("Answer")

REREAD_SECONDS = 5.0
"""Seconds that a node has for one second reading."""


@dataclass(frozen=True, slots=True)
class Reread:
    """One node's second reading of a block: its hash at that height, and the transfers if that is the expected hash.

    ``native_complete``: the node shows every way in which the native asset moves.
    """

    node: str
    block_hash: str
    transfers: Sequence[Transfer]
    native_complete: bool


class SecondOpinion:
    """Second readings over all nodes of a rail that agree with the majority."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    async def reread(self, block: tuple[int, str], watches: Watches, first: str | None) -> Reread:
        """Read a block, given as height and hash, again: from another node than ``first`` where one answers.

        A different hash at that height counts only if the active node reports it.
        Raises `RailUnavailable` if no node can read the block now; no node is deselected for that.
        """
        height, block_hash = block

        async def question(adapter: RailAdapter) -> tuple[BlockRef, Sequence[Transfer]]:
            found = await adapter.block_at(height)
            if found.hash != block_hash:
                return found, ()
            before = await adapter.block_at(height - 1)
            return found, (await adapter.scan(Span(before, found), watches)).transfers

        def objection(node: Node, answer: tuple[BlockRef, Sequence[Transfer]]) -> str | None:
            found = answer[0]
            if found.hash != block_hash and node is not self._selection.current:
                return f"has block {found.hash} at height {height}"
            return None

        node, (found, transfers) = await self._ask(question, first, objection)
        complete = node.adapter.traits.native_complete if node.adapter else False
        return Reread(node.name, found.hash, transfers, complete)

    async def reread_balances(
        self, keys: Sequence[bytes], asset: AssetId, block: tuple[int, str], first: str | None
    ) -> tuple[str, str, Mapping[bytes, int]]:
        """Read balances (base units, by key) at a block again: from another node than ``first`` where one answers.

        Returns the node's name, its block hash at that height, and the balances if that is the expected hash.
        Raises `RailUnavailable` if no node can read them now.
        """
        height, block_hash = block

        async def question(adapter: RailAdapter) -> tuple[str, Mapping[bytes, int]]:
            found = await adapter.block_at(height)
            if found.hash != block_hash:
                return found.hash, {}
            assert isinstance(adapter, SupportsBalances)
            return found.hash, await adapter.balances(keys, asset, found)

        node, (found, amounts) = await self._ask(question, first)
        return node.name, found, amounts

    async def _ask(
        self,
        question: Callable[[RailAdapter], Awaitable[Answer]],
        first: str | None,
        objection: Callable[[Node, Answer], str | None] = lambda _node, _answer: None,
    ) -> tuple[Node, Answer]:
        """Ask the agreeing nodes, the one named ``first`` last, and return the first answer without an objection.

        Raises `RailUnavailable` with each node's reason.
        """
        reasons = []
        for node in self._agreeing(first):
            try:
                async with asyncio.timeout(REREAD_SECONDS):
                    answer = await node.ask(question)
            except (RailError, TimeoutError) as failure:
                reasons.append(f"{node.name}: {failure or f'no answer within {REREAD_SECONDS:.0f} s'}")
                continue
            if (reason := objection(node, answer)) is None:
                return node, answer
            reasons.append(f"{node.name}: {reason}")
        raise RailUnavailable("; ".join(reasons))

    def _agreeing(self, first: str | None) -> list[Node]:
        """Return the nodes that agree with the majority; last the one named ``first``, and the active one.

        A node on another chain, or without a vote, proves nothing about this chain.
        """
        current = self._selection.current
        agreeing = [node for node in self._selection.nodes if node is current or (node.votes and not node.disagrees)]
        return sorted(agreeing, key=lambda node: (node.name == first, node is current))

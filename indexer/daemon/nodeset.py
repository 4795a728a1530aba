"""Several nodes of one rail behind the same seam: who answers, who rests, and who is asked next.

One node answers at a time, so that one round never mixes two views of a chain. A node that fails rests for a while,
longer each time, and the next one is entered, which verifies its identity again (HAZARDS E23, "Nodes").
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import structlog

from indexer.rail import (
    Address,
    AssetId,
    BlockRef,
    ChainId,
    Heads,
    RailAdapter,
    RailError,
    RailUnavailable,
    RefusesPayments,
    Scanned,
    Span,
    Traits,
    Transfer,
    Watches,
)

Answer = TypeVar("Answer")

REST_FIRST, REST_MOST = 0.2, 10.0
"""Seconds that a failing node rests, at first and at most; jittered, so that many daemons do not return as one."""


@dataclass(slots=True)
class Node:
    """One configured node and how it has fared."""

    name: str
    open: Callable[[], RailAdapter]
    failures: int = 0
    rests_until: float = 0.0


class NodeSet:
    """`indexer.rail.RailAdapter` over all nodes of a rail, in the order of the configuration."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise ValueError("a rail needs at least one node")
        self._nodes = nodes
        self._unentered = nodes[0].open()
        self.chain_id: ChainId = self._unentered.chain_id
        self._current: tuple[Node, RailAdapter] | None = None
        self._entering = asyncio.Lock()
        self._log = structlog.get_logger()

    @property
    def traits(self) -> Traits:
        """Those of the node that answers; before one does, what is known without it."""
        return self._current[1].traits if self._current else self._unentered.traits

    @property
    def answering(self) -> str | None:
        """The name of the node that answers now."""
        return self._current[0].name if self._current else None

    async def __aenter__(self) -> Self:
        await self._entered()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    def parse_address(self, text: str) -> Address:
        """Any node's adapter can; none is asked."""
        return self._unentered.parse_address(text)

    async def heads(self) -> Heads:
        """`RailAdapter.heads` of the node that answers."""
        return await self._ask(lambda node: node.heads())

    async def block_at(self, height: int) -> BlockRef:
        """`RailAdapter.block_at` of the node that answers."""
        return await self._ask(lambda node: node.block_at(height))

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """`RailAdapter.scan` of the node that answers."""
        return await self._ask(lambda node: node.scan(span, watches))

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """`RailAdapter.pending` of the node that answers."""
        return await self._ask(lambda node: node.pending(watches))

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

    async def _ask(self, question: Callable[[RailAdapter], Awaitable[Answer]]) -> Answer:
        node, adapter = await self._entered()
        try:
            answer = await question(adapter)
        except RailUnavailable as away:
            await self._rest(node, away)
            raise
        node.failures = 0
        return answer

    async def _entered(self) -> tuple[Node, RailAdapter]:
        """The node that answers; enters the next that is rested if there is none. Raises `RailUnavailable`."""
        async with self._entering:
            if self._current is not None:
                return self._current
            reasons: list[str] = []
            for node in sorted(self._nodes, key=lambda each: each.rests_until):
                if node.rests_until > time.monotonic() and len(self._nodes) > 1 and reasons:
                    continue
                adapter = node.open()
                try:
                    await adapter.__aenter__()
                except RailUnavailable as away:
                    reasons.append(f"{node.name}: {away}")
                    await adapter.__aexit__(None, None, None)
                    self._punish(node)
                    continue
                self._current = (node, adapter)
                self._log.info("node.entered", node=node.name, chain_id=self.chain_id)
                return self._current
            raise RailUnavailable("; ".join(reasons))

    async def leave(self, why: RailUnavailable) -> None:
        """Let the node that answers rest, for a reason that only its asker can see; the next is asked instead."""
        if self._current is not None:
            await self._rest(self._current[0], why)

    async def _rest(self, node: Node, why: RailUnavailable) -> None:
        if self._current is not None and self._current[0] is node:
            self._log.warning("node.left", node=node.name, why=str(why))
            self._punish(node)
            await self._leave()

    def _punish(self, node: Node) -> None:
        node.failures += 1
        rest = min(REST_MOST, REST_FIRST * 2 ** min(node.failures - 1, 10))
        node.rests_until = time.monotonic() + rest * random.uniform(0.5, 1.0)

    async def _leave(self) -> None:
        if self._current is not None:
            (_, adapter), self._current = self._current, None
            with suppress(RailError):
                await adapter.__aexit__(None, None, None)

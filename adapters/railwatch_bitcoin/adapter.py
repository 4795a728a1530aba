"""The seam's methods on a node of the Bitcoin family: each a few calls, all decisions elsewhere."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from railwatch.rail import (
    Ability,
    Address,
    BlockRef,
    Heads,
    RailSettings,
    RailUnavailable,
    Scanned,
    Span,
    Traits,
    Transfer,
    Watches,
)
from railwatch.rail.boundary import only_rail_errors
from railwatch.rail.options import height_options
from railwatch_bitcoin.address import parse_address
from railwatch_bitcoin.options import BitcoinOptions
from railwatch_bitcoin.params import chain_of

if TYPE_CHECKING:
    from railwatch_bitcoin.connection import NodeConnection


class BitcoinAdapter:
    """One node of a chain of the Bitcoin family (`railwatch.rail.RailAdapter`). Pure until entered."""

    def __init__(self, rail: RailSettings, node: BitcoinOptions) -> None:
        try:
            self._chain = chain_of(rail.chain_id)
        except ValueError as error:
            raise ValueError(f"rail {rail.name}: chain_id: {error}") from error
        self.chain_id = rail.chain_id
        heights = {"lookback": self._chain.lookback, **height_options(rail, "mempool")}
        self._mempool = _may_read_mempool(rail)
        self._traits = Traits(
            # Keys are scripts, and a script belongs to the same owner on each chain of the family (HAZARDS E17).
            family="bitcoin",
            native_asset=self._chain.native_asset,
            native_decimals=self._chain.decimals,
            has_pending=self._mempool,
            **heights,
        )
        self._node = node
        self._connection: NodeConnection | None = None

    @property
    def traits(self) -> Traits:
        """What the rail can do; a node that will not tell what waits makes it one without pending payments."""
        if self._connection is None or self._connection.tells_pending:
            return self._traits
        return replace(self._traits, has_pending=False)

    @only_rail_errors
    async def __aenter__(self) -> Self:
        # bitcoinrpc and ZMQ take 0.15 s to import: in a thread, so that the daemon's other rails do not stand still.
        module = await asyncio.to_thread(importlib.import_module, "railwatch_bitcoin.connection")
        connection: NodeConnection = module.NodeConnection(self._node, self._chain, mempool=self._mempool)
        try:
            await connection.open()
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return self

    @only_rail_errors
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def parse_address(self, text: str) -> Address:
        """The output script that ``text`` is paid by (`railwatch_bitcoin.address`). Raises `BadAddress`."""
        return parse_address(text, self._chain)

    @only_rail_errors
    async def heads(self) -> Heads:
        """The newest block, and the chain's landmarks once more, in one request (HAZARDS B16, E23)."""
        return await self._open.heads()

    @only_rail_errors
    async def block_at(self, height: int) -> BlockRef:
        """The canonical block. Raises `BlockGone` above the head."""
        return await self._open.block_at(height)

    @only_rail_errors
    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span: one block by hash, many in pieces, a look-back by filters where there are some."""
        return await self._open.scan(span, watches)

    @only_rail_errors
    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """What waits in the node's mempool, as it is at this moment."""
        return await self._open.pending(watches)

    @only_rail_errors
    async def wait_for_change(self) -> None:
        """Return at a new block, or, with ZMQ, when something of ours comes into the mempool or leaves it."""
        await self._open.wait_for_change()

    @only_rail_errors
    async def abilities(self) -> Sequence[Ability]:
        """`railwatch.rail.SupportsAbilities`: what the node serves of `railwatch_bitcoin.methods`."""
        return self._open.abilities()

    @property
    def _open(self) -> NodeConnection:
        if self._connection is None:
            raise RailUnavailable(f"{self._node.name}: not connected, enter the adapter first")
        return self._connection


def _may_read_mempool(rail: RailSettings) -> bool:
    """The option ``mempool``. Raises ValueError if it is neither true nor false."""
    mempool = rail.options.get("mempool", True)
    if mempool not in (True, False):
        raise ValueError(f"rail {rail.name}: option mempool must be true or false")
    return bool(mempool)

"""The adapter of the Bitcoin family: its settings and traits; `railwatch_bitcoin.connection` does the work."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from railwatch.rail import Address, RailSettings, Traits
from railwatch.rail.options import height_options
from railwatch.rail.shell import AdapterShell
from railwatch_bitcoin.address import parse_address
from railwatch_bitcoin.chains import chain_of
from railwatch_bitcoin.options import BitcoinOptions

if TYPE_CHECKING:
    from railwatch_bitcoin.connection import NodeConnection


class BitcoinAdapter(AdapterShell["NodeConnection"]):
    """One node of a chain of the Bitcoin family (`railwatch.rail.RailAdapter`). Pure until entered."""

    def __init__(self, rail: RailSettings, node: BitcoinOptions) -> None:
        try:
            self._chain = chain_of(rail.chain_id)
        except ValueError as error:
            raise ValueError(f"rail {rail.name}: chain_id: {error}") from error
        super().__init__(rail.chain_id, node.name)
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

    @property
    def traits(self) -> Traits:
        """What the rail can do; a node that does not serve its mempool makes it a rail without pending payments."""
        if self._connection is None or self._connection.tells_pending:
            return self._traits
        return replace(self._traits, has_pending=False)

    async def _connect(self) -> NodeConnection:
        # bitcoinrpc and ZMQ take 0.15 s to import: in a thread, so that the daemon's other rails keep running.
        module = await asyncio.to_thread(importlib.import_module, "railwatch_bitcoin.connection")
        connection: NodeConnection = module.NodeConnection(self._node, self._chain, mempool=self._mempool)
        return connection

    def parse_address(self, text: str) -> Address:
        """Return the output script that ``text`` is paid by (`railwatch_bitcoin.address`). Raises `BadAddress`."""
        return parse_address(text, self._chain)


def _may_read_mempool(rail: RailSettings) -> bool:
    """Return the option ``mempool``. Raises ValueError if it is neither true nor false."""
    mempool = rail.options.get("mempool", True)
    if mempool not in (True, False):
        raise ValueError(f"rail {rail.name}: option mempool must be true or false")
    return bool(mempool)

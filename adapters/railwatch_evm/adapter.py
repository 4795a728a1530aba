"""The adapter of EVM chains: its settings and traits; `railwatch_evm.connection` does the work."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from railwatch.rail import Address, AssetId, BadAddress, BlockRef, RailSettings, Traits
from railwatch.rail.boundary import only_rail_errors
from railwatch.rail.decoding import bound_recursion
from railwatch.rail.options import height_options
from railwatch.rail.shell import AdapterShell
from railwatch_evm.address import burn_refusal, check_contract, parse_address
from railwatch_evm.block_pace import lookback_of
from railwatch_evm.options import EvmOptions

if TYPE_CHECKING:
    from railwatch_evm.connection import Learned, NodeConnection

LEARNED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Learned]] = WeakKeyDictionary()
"""What nodes taught us, by rail and URL: a daemon that reconnects to a node starts from there. It lives as long as the
event loop, for another loop has another clock. No answer depends on it."""

TRAITS = Traits(
    family="evm",
    native_asset="slip44:60",
    native_decimals=18,
    token_namespace="erc20",
    fold_case=True,
    has_pending=False,
    has_finalized=True,
    can_balance=True,
)


class EvmAdapter(AdapterShell["NodeConnection"]):
    """One node of an EVM chain (`railwatch.rail.RailAdapter`). Pure until entered."""

    def __init__(self, rail: RailSettings, node: EvmOptions) -> None:
        reference = rail.chain_id.removeprefix("eip155:")
        if reference == rail.chain_id or not re.fullmatch("[1-9][0-9]{0,31}", reference):
            raise ValueError(f"rail {rail.name}: chain_id must be eip155: and a number, not {rail.chain_id!r}")
        _check_contracts(rail)
        super().__init__(rail.chain_id, node.name)
        self._name = rail.name
        self._assets = rail.assets
        for spec in rail.assets:
            check_contract(rail, spec)
        heights = height_options(rail)
        self._knows_lookback, self._known_lookback = "lookback" in heights, rail.lookback
        self._traits = replace(TRAITS, **{"lookback": rail.lookback or TRAITS.lookback, **heights})
        self._native = any(spec.contract is None for spec in rail.assets)
        self._node = node

    @property
    def traits(self) -> Traits:
        """What this rail can do; ``native_gap`` names the blocks that could not be traced, as soon as there is one."""
        connection = self._connection
        if connection is not None and connection.gap != self._traits.native_gap:
            self._traits = replace(self._traits, native_complete=not connection.gap, native_gap=connection.gap)
        return self._traits

    async def _connect(self) -> NodeConnection:
        # web3 takes 0.8 s to import: in a thread, so that the daemon's other rails keep running.
        module = await asyncio.to_thread(importlib.import_module, "railwatch_evm.connection")
        bound_recursion()
        known = LEARNED.setdefault(asyncio.get_running_loop(), {})
        learned = known.setdefault((self._name, self._node.http), module.Learned())
        connection: NodeConnection = module.NodeConnection(self._node, self.chain_id, learned, native=self._native)
        return connection

    def _connected(self, connection: NodeConnection) -> None:
        seconds = connection.block_seconds
        self._traits = replace(self._traits, block_seconds=seconds, poll_interval=connection.poll_interval)
        if seconds is not None and not self._knows_lookback:
            self._traits = replace(self._traits, lookback=lookback_of(seconds, self._known_lookback))

    def parse_address(self, text: str) -> Address:
        """Return the key of an address by EIP-55 (`railwatch_evm.address`). Raises `BadAddress`."""
        return parse_address(text)

    @only_rail_errors
    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> Mapping[bytes, int]:
        """Return what the keys hold of ether or a token after that block (E2, E14)."""
        return await self._open.balances(keys, asset, at)

    @only_rail_errors
    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Return why a payment would be lost: an address without an owner destroys what is paid there."""
        return burn_refusal(address)

    @only_rail_errors
    async def check_assets(self) -> Sequence[str]:
        """Return a sentence for each contract without code, or with other decimals than configured."""
        return await self._open.check_assets(self._assets)


def _check_contracts(rail: RailSettings) -> None:
    """Raise ValueError that names an asset whose contract is no address or has a wrong EIP-55 checksum."""
    for spec in rail.assets:
        if spec.contract is not None:
            try:
                parse_address(spec.contract)
            except BadAddress as bad:
                raise ValueError(f"rail {rail.name}: asset {spec.symbol}: contract: {bad}") from bad

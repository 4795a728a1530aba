"""The seam's methods on an EVM node: each a few calls, all decisions elsewhere."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self
from weakref import WeakKeyDictionary

from railwatch.rail import (
    Ability,
    Address,
    AssetId,
    BadAddress,
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
from railwatch.rail.decoding import bound_recursion
from railwatch.rail.options import height_options
from railwatch_evm.address import burn_refusal, check_contract, parse_address
from railwatch_evm.block_pace import lookback_of
from railwatch_evm.options import EvmOptions

if TYPE_CHECKING:
    from railwatch_evm.connection import Learned, NodeConnection

LEARNED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Learned]] = WeakKeyDictionary()
"""What nodes taught us, by rail and URL: a daemon that leaves a node and comes back starts from there. It lives as long
as the daemon's event loop: another one, with a clock of its own, knows nothing of it. No answer depends on it."""

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


class EvmAdapter:
    """One node of an EVM chain (`railwatch.rail.RailAdapter`). Pure until entered."""

    def __init__(self, rail: RailSettings, node: EvmOptions) -> None:
        reference = rail.chain_id.removeprefix("eip155:")
        if reference == rail.chain_id or not re.fullmatch("[1-9][0-9]{0,31}", reference):
            raise ValueError(f"rail {rail.name}: chain_id must be eip155: and a number, not {rail.chain_id!r}")
        _check_contracts(rail)
        self.chain_id = rail.chain_id
        self._name = rail.name
        self._assets = rail.assets
        for spec in rail.assets:
            check_contract(rail, spec)
        heights = height_options(rail)
        self._knows_lookback, self._known_lookback = "lookback" in heights, rail.lookback
        self._traits = replace(TRAITS, **{"lookback": rail.lookback or TRAITS.lookback, **heights})
        self._native = any(spec.contract is None for spec in rail.assets)
        self._node = node
        self._connection: NodeConnection | None = None

    @property
    def traits(self) -> Traits:
        """What this rail can do; ``native_gap`` names the blocks that could not be traced, as soon as there is one."""
        connection = self._connection
        if connection is not None and connection.gap != self._traits.native_gap:
            self._traits = replace(self._traits, native_complete=not connection.gap, native_gap=connection.gap)
        return self._traits

    @only_rail_errors
    async def __aenter__(self) -> Self:
        # web3 takes 0.8 s to import: in a thread, so that the daemon's other rails do not stand still for it.
        module = await asyncio.to_thread(importlib.import_module, "railwatch_evm.connection")
        bound_recursion()
        known = LEARNED.setdefault(asyncio.get_running_loop(), {})
        learned = known.setdefault((self._name, self._node.http), module.Learned())
        connection: NodeConnection = module.NodeConnection(self._node, self.chain_id, learned)
        try:
            await connection.open(native=self._native)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        seconds = connection.block_seconds
        self._traits = replace(self._traits, block_seconds=seconds, poll_interval=connection.poll_interval)
        if seconds is not None and not self._knows_lookback:
            self._traits = replace(self._traits, lookback=lookback_of(seconds, self._known_lookback))
        return self

    @only_rail_errors
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def parse_address(self, text: str) -> Address:
        """EIP-55 (`railwatch_evm.address`). Raises `BadAddress`."""
        return parse_address(text)

    @only_rail_errors
    async def heads(self) -> Heads:
        """Latest, safe and finalized, and the chain id once more, in one request (E19, E23)."""
        return await self._open.heads()

    @only_rail_errors
    async def block_at(self, height: int) -> BlockRef:
        """The canonical block. Raises `BlockGone` above the head."""
        return await self._open.block_at(height)

    @only_rail_errors
    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span: one block by hash, many by range, a look-back by topics and balances."""
        return await self._open.scan(span, watches)

    @only_rail_errors
    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Always empty: `Traits.has_pending` is False, because no EVM node gives a full snapshot of what is pending."""
        return ()

    @only_rail_errors
    async def wait_for_change(self) -> None:
        """Return at a new head. Raises `RailUnavailable` without a websocket, or when it has gone silent (E22)."""
        await self._open.wait_for_change()

    @only_rail_errors
    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> Mapping[bytes, int]:
        """`railwatch.rail.SupportsBalances`: ether or tokens after that block (E2, E14)."""
        return await self._open.balances(keys, asset, at)

    @only_rail_errors
    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """`railwatch.rail.SupportsPaymentCheck`: an address that nobody has the key of destroys what is paid there."""
        return burn_refusal(address)

    @only_rail_errors
    async def check_assets(self) -> Sequence[str]:
        """`railwatch.rail.SupportsAssetCheck`: a contract without code, or with other decimals than configured."""
        return await self._open.check_assets(self._assets)

    @only_rail_errors
    async def abilities(self) -> Sequence[Ability]:
        """`railwatch.rail.SupportsAbilities`: what the node serves of `railwatch_evm.methods`."""
        return await self._open.abilities()

    @property
    def _open(self) -> NodeConnection:
        if self._connection is None:
            raise RailUnavailable(f"{self._node.name}: not connected, enter the adapter first")
        return self._connection


def _check_contracts(rail: RailSettings) -> None:
    """Raises ValueError that names an asset whose contract is no address, or has a wrong EIP-55 checksum: a slip."""
    for spec in rail.assets:
        if spec.contract is not None:
            try:
                parse_address(spec.contract)
            except BadAddress as bad:
                raise ValueError(f"rail {rail.name}: asset {spec.symbol}: contract: {bad}") from bad

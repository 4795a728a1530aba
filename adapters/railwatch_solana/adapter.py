"""The adapter of Solana: its settings and traits; `railwatch_solana.connection` does the work."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from railwatch.rail import Address, AssetId, BadAddress, RailSettings, Traits
from railwatch.rail.boundary import only_rail_errors
from railwatch.rail.options import height_options
from railwatch.rail.shell import AdapterShell
from railwatch_solana.address import key_of, parse_address
from railwatch_solana.decode import NATIVE_ASSET, TOKEN_NAMESPACE
from railwatch_solana.options import NAMESPACE, REFERENCE_LENGTH, SolanaOptions

if TYPE_CHECKING:
    from railwatch_solana.connection import NodeConnection

TRAITS = Traits(
    family="solana",
    native_asset=NATIVE_ASSET,
    native_decimals=9,
    token_namespace=TOKEN_NAMESPACE,
    fold_case=False,
    has_checksum=False,
    # A block of mainnet has megabytes, and a step should end within seconds.
    span_max=200,
    # An hour of slots of 200 ms, which is half of their nominal time; slots are no clock (HAZARDS S13).
    lookback=18_000,
    horizon=32,
    has_pending=False,
    has_finalized=True,
    has_references=True,
    # Solana has no depth: a node says confirmed, and then finalized.
    max_confirmations=1,
)
LOOKBACK_SPAN = 100_000
"""By the node's index, a look-back costs the same however many slots it covers."""


class SolanaAdapter(AdapterShell["NodeConnection"]):
    """One node of a Solana cluster (`railwatch.rail.RailAdapter`). Pure until entered."""

    def __init__(self, rail: RailSettings, node: SolanaOptions) -> None:
        reference = rail.chain_id.removeprefix(NAMESPACE)
        if reference == rail.chain_id or len(reference) != REFERENCE_LENGTH:
            raise ValueError(
                f"rail {rail.name}: chain_id must be {NAMESPACE} and the first {REFERENCE_LENGTH} characters of the "
                f"genesis hash, not {rail.chain_id!r}"
            )
        super().__init__(rail.chain_id, node.name)
        _check_mints(rail)
        self._index = _may_ask_index(rail)
        self._traits = replace(
            TRAITS, lookback_span=LOOKBACK_SPAN if self._index else None, **height_options(rail, "index")
        )
        if all(spec.contract is not None for spec in rail.assets):
            gap = "SOL is not configured, so the scan does not search for its transfers"
            self._traits = replace(self._traits, native_complete=False, native_gap=gap)
        self._node = node

    @property
    def traits(self) -> Traits:
        """What the rail can do."""
        return self._traits

    async def _connect(self) -> NodeConnection:
        # An HTTP client is imported only to connect: parsing an address needs none.
        module = await asyncio.to_thread(importlib.import_module, "railwatch_solana.connection")
        connection: NodeConnection = module.NodeConnection(self._node, self.chain_id, index=self._index)
        return connection

    def parse_address(self, text: str) -> Address:
        """Return the key that base58 of 32 bytes spells (`railwatch_solana.address`). Raises `BadAddress`."""
        return parse_address(text)

    @only_rail_errors
    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Return why this could never be paid: less than rent, a token account, a bad reference; else None."""
        return await self._open.check_payment(address, asset, amount, reference)


def _check_mints(rail: RailSettings) -> None:
    """Raise ValueError that names an asset whose contract is no key: no payment in it is possible."""
    for spec in rail.assets:
        if spec.contract is not None:
            try:
                key_of(spec.contract)
            except BadAddress as bad:
                raise ValueError(f"rail {rail.name}: asset {spec.symbol}: contract must be a mint: {bad}") from bad


def _may_ask_index(rail: RailSettings) -> bool:
    """Return the option ``index``. Raises ValueError if it is neither true nor false."""
    index = rail.options.get("index", True)
    if index not in (True, False):
        raise ValueError(f"rail {rail.name}: option index must be true or false")
    return bool(index)

"""The seam's methods on a Solana node: each a few calls, all decisions elsewhere."""

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
from railwatch.rail.options import height_options
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
    # An hour of slots of 200 ms, which is half of what they are meant to take; slots are no clock (HAZARDS S13).
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


class SolanaAdapter:
    """One node of a Solana cluster (`railwatch.rail.RailAdapter`). Pure until entered."""

    def __init__(self, rail: RailSettings, node: SolanaOptions) -> None:
        reference = rail.chain_id.removeprefix(NAMESPACE)
        if reference == rail.chain_id or len(reference) != REFERENCE_LENGTH:
            raise ValueError(
                f"rail {rail.name}: chain_id must be {NAMESPACE} and the first {REFERENCE_LENGTH} characters of the "
                f"genesis hash, not {rail.chain_id!r}"
            )
        self.chain_id = rail.chain_id
        _check_mints(rail)
        self._index = _may_ask_index(rail)
        self.traits = replace(
            TRAITS, lookback_span=LOOKBACK_SPAN if self._index else None, **height_options(rail, "index")
        )
        if all(spec.contract is not None for spec in rail.assets):
            gap = "SOL is not configured, so its transfers are not looked for"
            self.traits = replace(self.traits, native_complete=False, native_gap=gap)
        self._node = node
        self._connection: NodeConnection | None = None

    @only_rail_errors
    async def __aenter__(self) -> Self:
        # What talks is loaded when somebody talks: parsing an address needs no HTTP client.
        module = await asyncio.to_thread(importlib.import_module, "railwatch_solana.connection")
        connection: NodeConnection = module.NodeConnection(self._node, self.chain_id, index=self._index)
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
        """Base58 of 32 bytes (`railwatch_solana.address`). Raises `BadAddress`."""
        return parse_address(text)

    @only_rail_errors
    async def heads(self) -> Heads:
        """The newest confirmed block, and the newest finalized one. They may be the same."""
        return await self._open.source.heads()

    @only_rail_errors
    async def block_at(self, height: int) -> BlockRef:
        """The canonical block at a slot, or the nearest below. Raises `BlockGone` above the head."""
        return await self._open.source.at(height)

    @only_rail_errors
    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span's slots: every block whole, its lineage proven by parents' slots and hashes."""
        return await self._open.scan(span, watches)

    @only_rail_errors
    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Always empty: Solana has no mempool, and what is only processed can vanish (HAZARDS S10)."""
        return ()

    @only_rail_errors
    async def wait_for_change(self) -> None:
        """Return at a new slot. Raises `RailUnavailable` without a websocket, or when it has gone silent (E22)."""
        await self._open.wait_for_change()

    @only_rail_errors
    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Why this could never be paid (`SupportsPaymentCheck`): less than rent, a token account, a bad reference."""
        return await self._open.check_payment(address, asset, amount, reference)

    @only_rail_errors
    async def abilities(self) -> Sequence[Ability]:
        """`railwatch.rail.SupportsAbilities`: what the node serves of `railwatch_solana.methods`."""
        return self._open.abilities()

    @property
    def _open(self) -> NodeConnection:
        if self._connection is None:
            raise RailUnavailable(f"{self._node.name}: not connected, enter the adapter first")
        return self._connection


def _check_mints(rail: RailSettings) -> None:
    """Raises ValueError that names an asset whose contract is no key: nobody could ever pay in it."""
    for spec in rail.assets:
        if spec.contract is not None:
            try:
                key_of(spec.contract)
            except BadAddress as bad:
                raise ValueError(f"rail {rail.name}: asset {spec.symbol}: contract must be a mint: {bad}") from bad


def _may_ask_index(rail: RailSettings) -> bool:
    """The option ``index``. Raises ValueError if it is neither true nor false."""
    index = rail.options.get("index", True)
    if index not in (True, False):
        raise ValueError(f"rail {rail.name}: option index must be true or false")
    return bool(index)

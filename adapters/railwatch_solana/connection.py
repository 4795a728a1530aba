"""An open node: everything behind the seam that talks."""

from collections.abc import Sequence

from railwatch.rail import (
    Ability,
    Address,
    AssetId,
    BlockRef,
    ChainId,
    Heads,
    NotKept,
    NotYet,
    RailUnavailable,
    Scanned,
    Span,
    Transfer,
    Watches,
)
from railwatch.rail.pacing import TOO_MANY
from railwatch.rail.push import PushChannel
from railwatch_solana.abilities import INDEX, Abilities
from railwatch_solana.account_index import NO_DATA, AccountIndex
from railwatch_solana.block_source import BlockSource
from railwatch_solana.decode import NATIVE_ASSET, DecodeContext
from railwatch_solana.lookback import look_back
from railwatch_solana.options import SolanaOptions
from railwatch_solana.payment_checks import bad_reference, less_than_rent, not_an_owner
from railwatch_solana.push import Slots
from railwatch_solana.rpc import Rpc
from railwatch_solana.rpc_errors import BEHIND, RpcRejected
from railwatch_solana.scan import scan
from railwatch_solana.wire import account_decoder, number_decoder

FEW = 500
"""Addresses up to which a look-back asks by the node's index: all that one batch of registrations brings."""

FAILURES_MOST = 5
"""Look-backs by the index that may fail in a row before the blocks are read instead, which is far slower."""


class NodeConnection:
    """One node, connected and identified. ``index``: whether look-backs may ask for accounts instead of blocks."""

    def __init__(self, node: SolanaOptions, chain_id: ChainId, *, index: bool) -> None:
        self._chain_id = chain_id
        self._index = index
        self._failures = 0
        """Look-backs by the index that failed, since one succeeded."""
        self._name = node.name
        self._rpc = Rpc(node)
        self._abilities = Abilities(self._rpc)
        self.source = BlockSource(self._rpc, chain_id)
        self._history = AccountIndex(self._rpc)
        self._push = PushChannel(Slots(node, self.source.slot).follow) if node.ws else None

    async def open(self) -> None:
        """Connect, learn what the node serves, and compare the chain. Raises `RailUnavailable`."""
        await self._rpc.open()
        await self._abilities.learn(index=self._index)
        self._index = self._index and all(self._abilities.serves(method) for method in INDEX)
        self.source.limited = self._abilities.serves("getBlocksWithLimit")
        self.source.tells_health = self._abilities.serves("getHealth")
        await self.source.heads()

    async def abilities(self) -> list[Ability]:
        """Return what the node serves (`railwatch.rail.SupportsAbilities`), as it was learned on entering."""
        return self._abilities.table(pushed=self._push is not None)

    async def close(self) -> None:
        """Close the websocket and all connections. Idempotent."""
        try:
            if self._push is not None:
                await self._push.close()
        finally:
            await self._rpc.close()

    async def heads(self) -> Heads:
        """Return the newest confirmed block, and the newest finalized one. They may be the same."""
        return await self.source.heads()

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at a slot, or the nearest below. Raises `BlockGone` above the head."""
        return await self.source.at(height)

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return nothing: Solana has no mempool, and what is only processed can vanish (HAZARDS S10)."""
        return ()

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span to watched addresses."""
        context = DecodeContext(self._chain_id, self._name, watches)
        keys = watches.keys_up_to(FEW) if self._index and span.sparse and len(watches) else None
        if keys is not None and len(span) > len(keys):
            scanned = await self._look_back(span, context, keys)
            if scanned is not None:
                return scanned
        return await scan(self.source, span, context)

    async def _look_back(self, span: Span, context: DecodeContext, keys: Sequence[bytes]) -> Scanned | None:
        """Look back by the index; None where it fails repeatedly in unforeseen ways: read the blocks.

        An endpoint that only lags, or has not kept the blocks, would not serve those either. Raises `RailUnavailable`.
        """
        try:
            scanned = await look_back(self.source, self._history, span, context, keys)
        except (NotKept, NotYet):
            raise
        except RailUnavailable as failure:
            self._failures += not (isinstance(failure, RpcRejected) and failure.code in (BEHIND, TOO_MANY))
            if self._failures < FAILURES_MOST:
                raise
            return None
        self._failures = 0
        return scanned

    async def wait_for_change(self) -> None:
        """Return at a new slot. Raises `RailUnavailable` where there is no push, or where it has gone silent."""
        if self._push is None:
            raise RailUnavailable(f"{self._name}: no ws is configured, so nothing is pushed")
        await self._push.wait()

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Why this could never be paid as asked for; None if it could (`railwatch_solana.payment_checks`)."""
        if reference is not None and (why := bad_reference(reference)):
            return why
        if not self._abilities.serves("getAccountInfo"):
            return None
        try:
            return await self._unpayable(address, asset, amount)
        except RpcRejected as refused:
            if refused.passes:
                raise
            return None  # It is not checked, as where the node never served the question.

    async def _unpayable(self, address: Address, asset: AssetId, amount: int) -> str | None:
        """Return why the account or its rent rule out the payment, or None."""
        found = await self._rpc.read(account_decoder, "getAccountInfo", address.text, NO_DATA)
        if why := not_an_owner(address, found.value):
            return why
        checks_rent = self._abilities.serves("getMinimumBalanceForRentExemption")
        if asset != f"{self._chain_id}/{NATIVE_ASSET}" or not checks_rent:
            return None
        rent = await self._rpc.read(number_decoder, "getMinimumBalanceForRentExemption", 0)
        return less_than_rent(address, amount, found.value.lamports if found.value else 0, rent)

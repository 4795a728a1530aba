"""An open node: everything behind the seam that talks."""

from adapters.solana.address import key_of
from adapters.solana.decode import NATIVE_ASSET, Lens
from adapters.solana.history import History
from adapters.solana.node import SolanaNode
from adapters.solana.rpc import Rpc
from adapters.solana.scan import scan
from adapters.solana.source import CONFIRMED, Source
from adapters.solana.sparse import look_back
from adapters.solana.wake import SlotPush
from adapters.solana.wire import balance_decoder, number_decoder
from indexer.rail import Address, AssetId, BadAddress, ChainId, RailUnavailable, Scanned, Span, Watches

FEW = 500
"""Addresses up to which a look-back asks by the node's index: all that one batch of registrations brings."""


class Connection:
    """One node, connected and identified. ``index``: whether look-backs may ask for accounts instead of blocks."""

    def __init__(self, node: SolanaNode, chain_id: ChainId, *, index: bool) -> None:
        self._chain_id = chain_id
        self._index = index
        self._name = node.name
        self._rpc = Rpc(node)
        self.source = Source(self._rpc, chain_id)
        self._history = History(self._rpc)
        self._push = SlotPush(node, self.source.slot) if node.ws else None

    async def open(self) -> None:
        """Connect, and compare the chain. Raises `RailUnavailable`."""
        await self._rpc.open()
        await self.source.heads()

    async def close(self) -> None:
        """Let go of the websocket and of all connections. Idempotent."""
        try:
            if self._push is not None:
                await self._push.close()
        finally:
            await self._rpc.close()

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span to watched addresses."""
        lens = Lens(self._chain_id, self._name, watches)
        keys = watches.few(FEW) if self._index and span.sparse and len(watches) else None
        if keys is not None and len(span) > len(keys):
            return await look_back(self.source, self._history, span, lens, keys)
        return await scan(self.source, span, lens)

    async def wait_for_change(self) -> None:
        """Return at a new slot. Raises `RailUnavailable` where there is no push, or where it has gone silent."""
        if self._push is None:
            raise RailUnavailable(f"{self._name}: no ws is configured, so nothing is pushed")
        await self._push.wait()

    async def refusal(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Why this could never be paid as asked for; None if it could."""
        if reference is not None:
            try:
                key_of(reference)
            except BadAddress as bad:
                return f"the reference can never be among a transaction's keys: {bad}"
        if asset != f"{self._chain_id}/{NATIVE_ASSET}":
            return None
        least = await self._rpc.call(number_decoder, "getMinimumBalanceForRentExemption", 0)
        if amount >= least:
            return None
        balance = await self._rpc.call(balance_decoder, "getBalance", address.text, CONFIRMED)
        if balance.value + amount >= least:
            return None
        return (
            f"{amount} lamports cannot arrive at {address.text}, which holds {balance.value}: an account must hold at "
            f"least {least} (its rent), and the network refuses the payment; ask for {least - balance.value} or more"
        )

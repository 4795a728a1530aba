"""An open node: everything behind the seam that needs bitcoinrpc and ZMQ, loaded only when an adapter is entered."""

from railwatch.rail import Ability, BlockRef, Heads, Scanned, Span, Transfer, Watches
from railwatch.rail.push import PushChannel
from railwatch_bitcoin.abilities import Asked, find_abilities
from railwatch_bitcoin.block_source import BlockSource
from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.decode import DecodeContext
from railwatch_bitcoin.lookback import FEW, look_back
from railwatch_bitcoin.mempool import Mempool
from railwatch_bitcoin.options import BitcoinOptions
from railwatch_bitcoin.push import long_poll
from railwatch_bitcoin.rpc import Rpc
from railwatch_bitcoin.scan import batch_sizer, scan_block, scan_headers, scan_range
from railwatch_bitcoin.zmq_subscriber import ZmqSubscriber


class NodeConnection:
    """One node, connected and identified."""

    def __init__(self, node: BitcoinOptions, chain: Chain, *, mempool: bool) -> None:
        self._node, self._chain, self._wants_mempool = node, chain, mempool
        self._rpc = Rpc(node)
        self._asked = Asked(self._rpc)
        self._source = BlockSource(self._rpc, chain)
        self._sizer = batch_sizer()
        self._mempool = Mempool(self._rpc, chain)
        follow = ZmqSubscriber(node, self._rpc, self._mempool).follow if node.zmq else long_poll(self._rpc)
        self._push = PushChannel(follow)

    async def open(self) -> None:
        """Connect, compare the chain (HAZARDS B19, E23), and learn what the node serves. Raises `RailUnavailable`."""
        await self._rpc.open()
        asked = self._asked
        asked.served.said.clear()
        served = await asked.serves("getblockhash", 0) and await asked.serves("getblockchaininfo")
        if served:
            await self._source.identify()
        abilities = await find_abilities(asked, self._chain, self._node.rest, self._wants_mempool, bool(self._node.zmq))
        self._source.abilities = self._mempool.abilities = abilities

    async def abilities(self) -> list[Ability]:
        """Return what the node serves (`railwatch.rail.SupportsAbilities`), as it was learned on entering."""
        return self._asked.served.table()

    async def close(self) -> None:
        """Close the push and all connections. Idempotent."""
        try:
            await self._push.close()
            await self._mempool.close()
        finally:
            await self._rpc.aclose()

    @property
    def tells_pending(self) -> bool:
        """Whether the node serves its mempool."""
        return self._mempool.able

    async def heads(self) -> Heads:
        """Return the newest block.

        Raises `RailUnavailable` for another chain, and for a node that is not up to date.
        """
        return await self._source.heads()

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``. Raises `BlockGone` above the head."""
        return await self._source.at(height)

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span to watched scripts, in the way that asks for the least."""
        context = self._context(watches)
        if not len(watches) and not watches.spends:
            return await scan_headers(self._source, span)
        if len(span) == 1:
            return await scan_block(self._source, span, context)
        # A filter knows scripts and not coins: rivals that pay a stranger would slip through it.
        scripts = watches.keys_up_to(FEW) if span.sparse and not watches.spends else None
        if scripts is not None and self._source.abilities.filters:
            scanned = await look_back(self._rpc, self._source, self._sizer, span, context, scripts)
            if scanned is not None:
                return scanned
        return await scan_range(self._source, self._sizer, span, context)

    async def pending(self, watches: Watches) -> list[Transfer]:
        """All that waits for watched scripts, and all rivals of what is claimed. Raises `PendingUnknown`."""
        if not self._mempool.able:
            return []
        return await self._mempool.pending(self._context(watches))

    async def wait_for_change(self) -> None:
        """Return when something may have changed. Raises `RailUnavailable` when the push has failed."""
        await self._push.wait()

    def _context(self, watches: Watches) -> DecodeContext:
        return DecodeContext(self._chain, self._node.name, watches)

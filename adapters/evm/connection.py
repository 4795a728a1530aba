"""An open node: everything behind the seam that needs web3, loaded only when an adapter is entered."""

from collections.abc import Sequence

from adapters.evm import wire
from adapters.evm.balances import balances
from adapters.evm.decode import Lens
from adapters.evm.node import EvmNode, check_chain
from adapters.evm.rpc import Answer, Rpc
from adapters.evm.scan import Stride, scan_block, scan_range
from adapters.evm.source import Source
from adapters.evm.sparse import look_back
from adapters.evm.wake import NewHeads
from adapters.evm.want import Tracing, Want
from adapters.evm.wire import block_ref
from indexer.rail import AssetId, BlockGone, BlockRef, ChainId, Heads, RailUnavailable, Scanned, Span, Watches
from indexer.rail.push import Push

FEW = 100
"""Addresses up to which a look-back asks by topic; nodes limit the length of such lists."""


class Connection:
    """One node, connected and identified. ``gap`` says which ether it cannot see; empty: none."""

    def __init__(self, node: EvmNode, chain_id: ChainId) -> None:
        self._chain_id = chain_id
        self._rpc = Rpc(node)
        self._source = Source(self._rpc)
        self._stride = Stride()
        self._push = Push(NewHeads(node, chain_id, self._height).follow) if node.ws else None
        self._tracing = Tracing.NONE
        self._name = node.name
        self.gap = ""

    async def open(self, *, native: bool) -> None:
        """Connect, compare the chain's id, and find out how the node traces if ether is watched (E2, E23)."""
        await self._rpc.open()
        self._check_chain(await self._rpc.call("eth_chainId"))
        if not native:
            self.gap = "the chain's own asset is not configured, so its transfers are not looked for"
            return
        self._tracing = await self._source.tracing()
        if self._tracing is Tracing.NONE:
            self.gap = (
                f"{self._name} can neither trace_block nor debug_traceBlockByHash: ether sent by contracts "
                "(exchange batches, smart wallets) is not seen and shows only when balances are reconciled"
            )

    async def close(self) -> None:
        """Let go of the websocket and of all connections. Idempotent."""
        try:
            if self._push is not None:
                await self._push.close()
        finally:
            await self._rpc.disconnect()

    async def heads(self) -> Heads:
        """Latest, safe and finalized. Raises `RailUnavailable` for another chain, or for heads of several nodes."""
        chain, latest, safe, finalized = await self._rpc.batch(
            [("eth_chainId", ()), *(("eth_getBlockByNumber", (tag, False)) for tag in ("latest", "safe", "finalized"))]
        )
        self._check_chain(chain)
        newest = _head(latest)
        if newest is None:
            raise RailUnavailable(f"{self._name}: it has no latest block")
        heads = Heads(newest, _tagged(safe), _tagged(finalized))
        for below in (heads.safe, heads.finalized):
            if below is not None and below.height > newest.height:
                raise RailUnavailable(f"{self._name}: height {below.height} is safe and {newest.height} is latest")
        return heads

    async def block_at(self, height: int) -> BlockRef:
        """The canonical block at ``height``. Raises `BlockGone` above the head."""
        ref = await self._source.at(hex(height))
        if ref is None or ref.height != height:
            raise BlockGone(f"{self._name}: no block at height {height}")
        return ref

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span to watched addresses."""
        lens = Lens(self._chain_id, self._name, watches)
        want = self._want(lens)
        if len(span) == 1:
            return await scan_block(self._source, span, want, lens)
        keys = watches.few(FEW) if span.sparse and len(watches) else None
        if keys is not None:
            return await look_back(self._source, self._stride, span, want, lens, tuple(keys))
        return await scan_range(self._source, self._stride, span, want, lens)

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> dict[bytes, int]:
        """What each key holds of ``asset`` after that block. Raises `BlockGone` where the node cannot tell."""
        return await balances(self._source, keys, asset, at)

    async def wait_for_change(self) -> None:
        """Return at a new head. Raises `RailUnavailable` where there is no push, or where it has gone silent."""
        if self._push is None:
            raise RailUnavailable(f"{self._name}: no ws is configured, so nothing is pushed")
        await self._push.wait()

    def _want(self, lens: Lens) -> Want:
        """What a scan asks of each block: nothing but its header if nobody is watched."""
        if not len(lens.watches):
            return Want(logs=False)
        native = lens.native is not None
        tracing = self._tracing if native else Tracing.NONE
        return Want(bodies=native and tracing is Tracing.NONE, tracing=tracing)

    async def _height(self) -> int:
        """The head's height, for the stall timer of the push."""
        text = (await self._rpc.call("eth_blockNumber")).read(wire.text_decoder)
        try:
            return int(text, 16)
        except ValueError as error:
            raise RailUnavailable(f"{self._name} eth_blockNumber: {text[:40]!r} is no number") from error

    def _check_chain(self, answer: Answer) -> None:
        """Raises `RailUnavailable` if the node is on another chain (E23)."""
        check_chain(self._name, answer.read(wire.text_decoder), self._chain_id)


def _head(answer: Answer) -> BlockRef | None:
    header = answer.read_block(wire.header_decoder)
    return None if header is None else block_ref(header)


def _tagged(answer: Answer) -> BlockRef | None:
    """The block behind a tag; None where the node refuses the tag, or has no such block yet."""
    return None if answer.refused else _head(answer)

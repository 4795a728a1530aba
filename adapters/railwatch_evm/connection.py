"""An open node: everything behind the seam that needs web3, loaded only when an adapter is entered."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

from railwatch.rail import (
    Ability,
    AssetId,
    AssetSpec,
    BlockGone,
    BlockRef,
    ChainId,
    Heads,
    RailUnavailable,
    Scanned,
    Span,
    Transfer,
    Watches,
)
from railwatch.rail.again import ask_again
from railwatch.rail.decoding import AHEAD, read_quantity
from railwatch.rail.push import PushChannel
from railwatch_evm import wire
from railwatch_evm.abilities import Abilities
from railwatch_evm.balances import balances
from railwatch_evm.block_pace import block_seconds, poll_of
from railwatch_evm.block_query import BlockQuery
from railwatch_evm.block_source import BlockSource
from railwatch_evm.chains import DEVELOPMENT
from railwatch_evm.decode import DecodeContext
from railwatch_evm.gap import Gap
from railwatch_evm.identity import asset_problems, check_identity
from railwatch_evm.lookback import look_back
from railwatch_evm.options import EvmOptions, check_chain
from railwatch_evm.push import NewHeadsPush
from railwatch_evm.responses import RpcResponse, read_block
from railwatch_evm.rpc import Endpoint, Rpc
from railwatch_evm.scan import batch_sizer, scan_block, scan_range
from railwatch_evm.tracing import Tracer, Ways
from railwatch_evm.wire import block_ref

MOVED = timedelta(days=30_000)
"""How far ahead a block of a development chain may be."""
NEAR = 3
"""Blocks by which a tag may be ahead of latest behind a balancer (E19)."""
TAGS_SECONDS = 60.0
"""How long a metered endpoint is believed about what is safe and final: both move seldom, and never back."""
FEW = 100
"""Addresses up to which a look-back asks by topic; nodes limit the length of such lists."""


class Learned:
    """What a node taught us about itself, kept over its connections: its pace, batches, widths, gap, methods."""

    def __init__(self) -> None:
        self.endpoint = Endpoint()
        self.sizer = batch_sizer()
        self.gap = Gap()
        self.abilities = Abilities()
        self.ways = Ways()
        self.block_seconds: float | None = None


class NodeConnection:
    """One node, connected and identified."""

    def __init__(
        self, node: EvmOptions, chain_id: ChainId, learned: Learned | None = None, *, native: bool = True
    ) -> None:
        learned = learned or Learned()
        self._chain_id = chain_id
        self._rpc = Rpc(node, learned.endpoint)
        self._ahead = MOVED if chain_id in DEVELOPMENT else AHEAD
        self._source = BlockSource(self._rpc, Tracer(self._rpc, learned.gap, learned.ways), self._ahead)
        self._sizer = learned.sizer
        self._abilities = learned.abilities
        self._learned = learned
        self._metered = node.metered
        self._tags: tuple[float, BlockRef | None, BlockRef | None] = (float("-inf"), None, None)
        self._woken = 0.0
        self._reported = -1
        """The height of the highest head that this endpoint has reported."""
        self._push = PushChannel(NewHeadsPush(node, chain_id, self._height).follow) if node.ws else None
        self._native = native
        self._name = node.name

    @property
    def gap(self) -> str:
        """Which ether this node cannot see; empty: none."""
        if not self._native:
            return "the chain's own asset is not configured, so the scan does not search for its transfers"
        tracer = self._source.tracer
        # A node without traces counts no blocks as untraced: what else is there is something else.
        also = str(tracer.gap) if not tracer.unable or tracer.never_traces else ""
        return "; ".join(filter(None, (tracer.unable, also)))

    async def open(self) -> None:
        """Connect, prove the chain, and learn what the node serves, tracing too if ether is watched (E2, E23)."""
        await self._rpc.open()
        if not self._abilities.is_fresh:
            await self._abilities.learn(self._rpc)
        if self._abilities.serves("eth_chainId"):
            self._check_chain(await self._rpc.call("eth_chainId"))
        if self._abilities.serves("eth_getBlockByNumber"):
            await check_identity(self._rpc, self._chain_id)
            if self._native:
                await self._source.tracer.probe()
                self._abilities.note_tracing(self._source.tracer)
        self._abilities.check(self._name, native=self._native)
        if self._learned.block_seconds is None and self._chain_id not in DEVELOPMENT:
            self._learned.block_seconds = await block_seconds(self._source)
        self._source.receipts_of.one = self._abilities.serves("eth_getTransactionReceipt")
        self._source.has_logs = self._abilities.serves("eth_getLogs")

    @property
    def block_seconds(self) -> float | None:
        """Seconds between two blocks, as they were on entering; None if that is not known."""
        return self._learned.block_seconds

    @property
    def poll_interval(self) -> float:
        """Seconds between two polls."""
        return poll_of(self.block_seconds) if self._metered else 1.0

    async def abilities(self) -> list[Ability]:
        """Return what the node serves (`railwatch.rail.SupportsAbilities`), as it was learned on entering."""
        return self._abilities.table(native=self._native, pushed=self._push is not None)

    async def close(self) -> None:
        """Close the websocket and all connections. Idempotent."""
        try:
            if self._push is not None:
                await self._push.close()
        finally:
            await self._rpc.disconnect()

    async def heads(self) -> Heads:
        """Latest, safe and finalized. Raises `RailUnavailable` for another chain, or for heads of several nodes."""
        asks_tags = not self._metered or time.monotonic() - self._tags[0] >= TAGS_SECONDS
        asked = ("latest", "safe", "finalized") if asks_tags else ("latest",)
        chain, latest, *others = await self._rpc.batch(
            [("eth_chainId", ()), *(("eth_getBlockByNumber", (tag, False)) for tag in asked)]
        )
        self._check_chain(chain)
        newest = self._head(latest)
        if newest is None:
            raise RailUnavailable(f"{self._name}: it has no latest block")
        tags = [self._tagged(other) for other in others] if asks_tags else list(self._tags[1:])
        for below in tags:
            if below is not None and below.height > newest.height + NEAR:
                raise RailUnavailable(f"{self._name}: height {below.height} is safe and {newest.height} is latest")
        if asks_tags:
            self._tags = (time.monotonic(), tags[0], tags[1])
        self._reported = max(self._reported, newest.height)
        # One request, answered by nodes that differ by a block or two: such a tag is reported another time.
        known = [None if below is None or below.height > newest.height else below for below in tags]
        return Heads(newest, safe=known[0], finalized=known[1])

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``. Raises `BlockGone` above the head.

        A block that this endpoint has reported is requested again: another node behind it may have it (E19).
        """
        return await (ask_again(lambda: self._at(height)) if height <= self._reported else self._at(height))

    async def _at(self, height: int) -> BlockRef:
        ref = await self._source.at(hex(height))
        if ref is None or ref.height != height:
            raise BlockGone(f"{self._name}: no block at height {height}")
        return ref

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """All transfers of the span to watched addresses."""
        context = DecodeContext(self._chain_id, self._name, watches)
        query = self._want(context)
        if len(span) == 1:
            return await scan_block(self._source, span, query, context)
        by_index = self._abilities.serves("eth_getTransactionReceipt") or self._abilities.serves("eth_getBlockReceipts")
        keys = watches.keys_up_to(FEW) if span.sparse and len(watches) and by_index else None
        if keys is not None:
            return await look_back(self._source, self._sizer, span, query, context, tuple(keys))
        return await scan_range(self._source, self._sizer, span, query, context)

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return nothing: no EVM node gives a full snapshot of what is pending (`Traits.has_pending`)."""
        return ()

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> dict[bytes, int]:
        """Return what each key holds of ``asset`` after that block.

        Raises `BlockGone` where the node has no such state.
        """
        return await balances(self._source, keys, asset, at)

    async def wait_for_change(self) -> None:
        """Return at a new head. Raises `RailUnavailable` where there is no push, or where it has gone silent."""
        if self._push is None:
            raise RailUnavailable(f"{self._name}: no ws is configured, so nothing is pushed")
        await self._push.wait()
        if self._metered:
            # A push costs little, and the blocks that it wakes for are asked for together.
            await asyncio.sleep(max(0.0, self._woken + self.poll_interval - time.monotonic()))
            self._woken = time.monotonic()

    def _want(self, context: DecodeContext) -> BlockQuery:
        """Return what a scan asks of each block: only its header if no address is watched."""
        if not len(context.watches):
            return BlockQuery(logs=False)
        return BlockQuery(native=context.native is not None)

    async def _height(self) -> int:
        """Return the head's height, for the stall timer of the push."""
        if not self._abilities.serves("eth_blockNumber"):
            ref = await self._source.at("latest")
            return -1 if ref is None else ref.height
        text = (await self._rpc.call("eth_blockNumber")).read(wire.text_decoder)
        return read_quantity(text, f"{self._name} eth_blockNumber")

    async def check_assets(self, assets: Sequence[AssetSpec]) -> list[str]:
        """Return what is wrong with the configured contracts (`railwatch.rail.SupportsAssetCheck`)."""
        return await asset_problems(self._source, assets)

    def _check_chain(self, answer: RpcResponse) -> None:
        """Raise `RailUnavailable` if the node is on another chain (E23)."""
        check_chain(self._name, answer.read(wire.text_decoder), self._chain_id)

    def _head(self, answer: RpcResponse) -> BlockRef | None:
        header = read_block(answer, wire.header_decoder)
        return None if header is None else block_ref(header, self._ahead)

    def _tagged(self, answer: RpcResponse) -> BlockRef | None:
        """Return the block behind a tag; None where the node refuses the tag, or has no such block yet."""
        return None if answer.refused else self._head(answer)

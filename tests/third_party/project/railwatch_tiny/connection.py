"""One node, connected: five calls of its JSON-RPC."""

from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from railwatch.rail import (
    Ability,
    AssetId,
    BlockGone,
    BlockRef,
    ChainId,
    Heads,
    Method,
    RailUnavailable,
    Scanned,
    Span,
    Transfer,
    Watches,
)
from railwatch.rail.jsonrpc import JsonRpcClient, RpcRejected
from railwatch.rail.prefetch import in_order, stretches
from railwatch.rail.refusals import Refusal, will_pass
from railwatch.rail.served import Served
from railwatch_tiny import decode
from railwatch_tiny.options import TinyOptions

METHODS = (
    Method("chain", "comparing the chain", "", "no setting: every node serves it"),
    Method("head", "the newest block", "", "no setting: every node serves it"),
    Method("block", "everything", "", "no setting: every node serves it"),
)
UNKNOWN_BLOCK = -5
AHEAD = 4
_block = msgspec.json.Decoder(decode.Block)
_text = msgspec.json.Decoder(str)


class TinyRejected(RpcRejected):
    """A node's error, with its code."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(f"{what} refused: {refusal.words} ({refusal.code})")
        self.code = refusal.code
        self.passes = will_pass(refusal, frozenset())


class Rpc(JsonRpcClient[TinyRejected]):
    """The dialect: nothing but what an error is."""

    def rejected(self, what: str, refusal: Refusal) -> TinyRejected:
        """Return the error that a refusal is."""
        return TinyRejected(what, refusal)


class TinyConnection:
    """One node, connected (`railwatch.rail.shell.NodeConnection`)."""

    def __init__(self, node: TinyOptions, chain_id: ChainId) -> None:
        self._chain_id, self._name = chain_id, node.name
        self._rpc = Rpc(node.name, node.http, node.options, node.options.timeout)

    async def open(self) -> None:
        """Connect and compare the chain. Raises `RailUnavailable`."""
        await self._rpc.open()
        await self.heads()

    async def close(self) -> None:
        """Close the connections."""
        await self._rpc.close()

    async def heads(self) -> Heads:
        """Return the newest block, with the chain compared in the same request."""
        chain, head = await self._rpc.batch([("chain", ()), ("head", ())])
        if (actual := chain.read(_text)) != self._chain_id:
            raise RailUnavailable(f"{self._name} is {actual}, expected {self._chain_id}: set chain_id, or another node")
        return Heads(head.read(_block).ref)

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block. Raises `BlockGone` above the head."""
        return (await self._get(height)).ref

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Return the span's transfers, each block the child of the one before, ``upto`` canonical to the end."""
        blocks: list[BlockRef] = []
        found: list[Transfer] = []
        parent = span.after
        async with aclosing(in_order(stretches(span, lambda: 1), self._first, AHEAD)) as chunks:
            async for block in chunks:
                if block.parent != parent.hash:
                    raise BlockGone(f"block {block.height} {block.hash} is not built on {parent.hash}")
                if block.count != len(block.txs):
                    raise RailUnavailable(f"{self._name}: block {block.hash} is not whole")
                parent = block.ref
                blocks.append(parent)
                found += decode.transfers(block, AssetId(f"{self._chain_id}/slip44:1"), watches)
        if parent.hash != span.upto.hash or (await self.block_at(span.upto.height)).hash != span.upto.hash:
            raise BlockGone(f"{span.upto.hash} at {span.upto.height} is not canonical")
        return Scanned(blocks, found)

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return nothing: the rail has no mempool."""
        return ()

    async def wait_for_change(self) -> None:
        """Raise `RailUnavailable`: the node pushes nothing, so the daemon polls."""
        raise RailUnavailable(f"{self._name} pushes nothing")

    async def abilities(self) -> Sequence[Ability]:
        """Return the methods, all of which the node has just answered."""
        served = Served(METHODS)
        for method in METHODS:
            served.note(method.name, True)
        return served.table()

    async def _first(self, heights: tuple[int, int]) -> decode.Block:
        return await self._get(heights[0])

    async def _get(self, height: int) -> decode.Block:
        try:
            return (await self._rpc.call("block", height)).read(_block)
        except TinyRejected as refused:
            if refused.code == UNKNOWN_BLOCK:
                raise BlockGone(f"{self._name}: no block at height {height}") from refused
            raise

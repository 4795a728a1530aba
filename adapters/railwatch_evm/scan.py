"""Long spans: in pieces that fit the node, several at once, stitched together in order."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from railwatch.rail import BlockGone, BlockRef, NotKept, NotYet, RailUnavailable, Scanned, Span
from railwatch.rail.again import ask_again
from railwatch.rail.batch_sizer import BatchSizer, GrowingBatches
from railwatch.rail.prefetch import in_order, stretches
from railwatch_evm.assemble import sort_transfers, transfers
from railwatch_evm.block_query import BlockQuery
from railwatch_evm.block_source import BlockSource
from railwatch_evm.decode import DecodeContext, OrderedTransfer
from railwatch_evm.integrity import check_link
from railwatch_evm.rpc_errors import Meaning, RpcRejected

CONCURRENCY = 4
"""Pieces asked for at once: the node works while we decode. More gained nothing on two cores."""
LARGE_RESPONSE_BYTES = 8_000_000
"""Bytes: a piece above it is halved, for it blocks the loop for some 20 ms."""


def batch_sizer() -> BatchSizer:
    """Return what decides how many blocks a piece has."""
    return GrowingBatches(width=32, most=128, size_max=LARGE_RESPONSE_BYTES)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive blocks and the transfers in them."""

    refs: Sequence[BlockRef]
    placed: Sequence[OrderedTransfer]


async def scan_block(source: BlockSource, span: Span, query: BlockQuery, context: DecodeContext) -> Scanned:
    """Return a span of one block. Raises `BlockGone` if it is not canonical or not the child of ``span.after``."""
    content = await source.by_hash(span.upto, query)
    check_link(span.after, content.refs)
    return Scanned(content.refs, sort_transfers(await transfers(source, content, query, context)), "block")


async def scan_range(
    source: BlockSource, sizer: BatchSizer, span: Span, query: BlockQuery, context: DecodeContext
) -> Scanned:
    """Return a span of many blocks. Raises `BlockGone` if its blocks are not one branch from ``after`` to ``upto``."""
    piece = await scan_linked(source, sizer, span, query, context)
    return Scanned(piece.refs, sort_transfers(list(piece.placed)), "range")


async def scan_linked(
    source: BlockSource, sizer: BatchSizer, span: Span, query: BlockQuery, context: DecodeContext
) -> Chunk:
    """All blocks of a span, linked from ``after`` to ``upto``, and their transfers. Raises `BlockGone`."""
    refs: list[BlockRef] = []
    placed: list[OrderedTransfer] = []
    parent = span.after
    pieces = in_order(
        stretches(span, lambda: sizer.width),
        lambda heights: _piece(source, sizer, *heights, query, context),
        CONCURRENCY,
    )
    async with aclosing(pieces):
        async for piece in pieces:
            check_link(parent, piece.refs)
            parent = piece.refs[-1]
            refs += piece.refs
            placed += piece.placed
    if parent.hash != span.upto.hash:
        raise BlockGone(f"the chain leads to {parent.hash} at height {parent.height}, not to {span.upto.hash}")
    return Chunk(refs, placed)


async def _piece(
    source: BlockSource, sizer: BatchSizer, low: int, high: int, query: BlockQuery, context: DecodeContext
) -> Chunk:
    """One piece; halved on any refusal, down to one block, which is then asked for by its hash (E21).

    Raises `NotKept` where the node has pruned the blocks' history.
    """
    width = high - low + 1
    try:
        content = await source.by_range(low, high, query)
    except RpcRejected as refused:
        if refused.meaning in (Meaning.PASSING, Meaning.MISSING, Meaning.UNKNOWN):
            # Less is not what it asks for. The width has done no harm.
            raise
        if refused.meaning is Meaning.STATELESS:
            # Blocks and logs themselves are gone (EIP-4444), and not only what could be computed from them.
            raise NotKept(str(refused)) from refused
        sizer.refused(width)
        if width == 1:
            return await fetch_block(source, low, query, context)
        middle = low + width // 2
        first = await _piece(source, sizer, low, middle - 1, query, context)
        second = await _piece(source, sizer, middle, high, query, context)
        return Chunk([*first.refs, *second.refs], [*first.placed, *second.placed])
    except RailUnavailable as error:
        # A node that hangs on a large range says no as well; asking again at once would only hang again.
        sizer.refused(width)
        if width == 1 and isinstance(error, NotYet):
            # By its hash a block is also read from its receipts, if its logs are missing for long.
            return await fetch_block(source, low, query, context)
        raise
    sizer.answered(width, content.size)
    return Chunk(content.refs, await transfers(source, content, query, context))


async def fetch_block(source: BlockSource, height: int, query: BlockQuery, context: DecodeContext) -> Chunk:
    """Return a block that no range may hold: many providers limit ranges, and not single blocks."""
    ref = await ask_again(lambda: _present(source, height))
    content = await source.by_hash(ref, query)
    return Chunk(content.refs, await transfers(source, content, query, context))


async def _present(source: BlockSource, height: int) -> BlockRef:
    ref = await source.at(hex(height))
    if ref is None:
        raise BlockGone(f"no block at height {height}")
    return ref

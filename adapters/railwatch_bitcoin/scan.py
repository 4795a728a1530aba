"""Spans of blocks: fetched in pieces while earlier ones are decoded, linked by parents, canonical to the end."""

import asyncio
from contextlib import aclosing

from railwatch.rail import BlockGone, BlockRef, RailUnavailable, Scanned, Span, Transfer
from railwatch.rail.batch_sizer import FittedBatches
from railwatch.rail.prefetch import in_order, stretches
from railwatch_bitcoin.block_source import BlockSource
from railwatch_bitcoin.decode import DecodeContext, block_transfers

AHEAD = 3
"""Pieces at once: the node works on two while we decode one. More gained nothing on two cores."""

PIECE_BYTES = 1_000_000
"""What a piece should weigh: one large block, or many small ones. Its hex and its bytes are held a few times over."""

PIECE_BLOCKS = 200
HEADERS = 500
"""Blocks in one request at most: of blocks, and of headers alone."""

TURN_BYTES = 50_000
"""Bytes after which the loop gets a turn: decoding them needed about a millisecond, and the next pieces come in."""


def batch_sizer() -> FittedBatches:
    """Return what decides how many blocks a piece has."""
    return FittedBatches(PIECE_BLOCKS, PIECE_BYTES)


async def scan_block(source: BlockSource, span: Span, context: DecodeContext) -> Scanned:
    """Return a span of one block, by hash.

    Raises `BlockGone` if it is not canonical or not the child of ``span.after``.
    """
    (raw,) = await source.raw([span.upto.hash])
    ref = source.child_ref(raw, span.upto.hash, span.after)
    check_reached(ref, span)
    await source.check_canonical(ref)
    return Scanned([ref], block_transfers(await source.decode(raw, ref.hash), ref, context), "block")


async def scan_range(source: BlockSource, sizer: FittedBatches, span: Span, context: DecodeContext) -> Scanned:
    """Return a span of many blocks, all of them decoded. Raises `BlockGone` if they are not one canonical branch."""
    refs, found = list[BlockRef](), list[Transfer]()

    async def fetch(heights: tuple[int, int]) -> list[tuple[str, bytes]]:
        hashes = await source.hashes(*heights)
        try:
            raws = await source.raw(hashes, sizer.average)
        except RailUnavailable:
            sizer.refused(len(hashes))
            raise
        sizer.answered(len(raws), sum(map(len, raws)))
        return list(zip(hashes, raws, strict=True))

    parent, unturned = span.after, 0
    async with aclosing(in_order(stretches(span, lambda: sizer.width), fetch, AHEAD)) as parts:
        async for part in parts:
            for block_hash, raw in part:
                parent = source.child_ref(raw, block_hash, parent)
                refs.append(parent)
                found += block_transfers(await source.decode(raw, block_hash), parent, context)
                unturned += len(raw)
                if unturned >= TURN_BYTES:
                    unturned = 0
                    await asyncio.sleep(0)
    await check_end(source, parent, span)
    return Scanned(refs, found, "blocks")


async def scan_headers(source: BlockSource, span: Span) -> Scanned:
    """Return only the blocks of a span, for an empty watch list. Raises `BlockGone` as the others do."""
    refs, parent = list[BlockRef](), span.after
    heights = stretches(span, lambda: HEADERS)
    async with aclosing(in_order(heights, lambda pair: source.hashes(*pair), AHEAD)) as parts:
        async for hashes in parts:
            line = await source.line(parent, hashes)
            refs += line
            parent = line[-1]
    await check_end(source, parent, span)
    return Scanned(refs, [], "headers")


async def check_end(source: BlockSource, reached: BlockRef, span: Span) -> None:
    """Check that the line led to ``span.upto``, and last that this is canonical: it may change during the fetch."""
    check_reached(reached, span)
    await source.check_canonical(span.upto)


def check_reached(reached: BlockRef, span: Span) -> None:
    """Raise `BlockGone` if a line from ``span.after`` led elsewhere than to ``span.upto``."""
    if (reached.hash, reached.height) != (span.upto.hash, span.upto.height):
        raise BlockGone(
            f"the chain leads to {reached.height} {reached.hash}, not to {span.upto.height} {span.upto.hash}"
        )

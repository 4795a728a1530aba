"""Spans of blocks: fetched in pieces while earlier ones are decoded, linked by parents, canonical to the end."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from railwatch.rail import BlockGone, BlockRef, RailUnavailable, Scanned, Span, Transfer
from railwatch_bitcoin.block_source import BlockSource
from railwatch_bitcoin.decode import DecodeContext, block_transfers

Chunk = TypeVar("Chunk")

PREFETCH = 2
"""Pieces that are fetched while one is decoded: the node works meanwhile. More gained nothing on two cores."""

PIECE_BYTES = 1_000_000
"""What a piece should weigh: one large block, or many small ones. Its hex and its bytes are held a few times over."""

PIECE_BLOCKS = 200
HEADERS = 500
"""Blocks in one request at most: of blocks, and of headers alone."""

TURN_BYTES = 50_000
"""Bytes after which the loop gets a turn: decoding them took about a millisecond, and the next pieces come in."""


@dataclass(slots=True)
class BatchSizer:
    """About how many bytes a block has, from the last ones seen: a cache, on which no answer depends.

    It begins with one block at a time, and widens fourfold a piece at most: a few empty blocks prove nothing.
    """

    average: int = PIECE_BYTES

    @property
    def width(self) -> int:
        """How many blocks to ask for at once."""
        return max(1, min(PIECE_BLOCKS, PIECE_BYTES // max(1, self.average)))

    def seen(self, raws: Sequence[bytes]) -> None:
        """Learn from a piece: at once from a heavier one, by steps from lighter ones."""
        self.average = max(sum(map(len, raws)) // len(raws), self.average // 4)

    def refused(self) -> None:
        """The node did not answer in time, or not at all: ask for a quarter next time."""
        self.average = min(PIECE_BYTES, PIECE_BYTES * 4 // self.width)


async def scan_block(source: BlockSource, span: Span, context: DecodeContext) -> Scanned:
    """A span of one block, by hash. Raises `BlockGone` if it is not canonical or not the child of ``span.after``."""
    (raw,) = await source.raw([span.upto.hash])
    ref = source.child_ref(raw, span.upto.hash, span.after)
    check_reached(ref, span)
    await source.check_canonical(ref)
    return Scanned([ref], block_transfers(await source.decode(raw, ref.hash), ref, context), "block")


async def scan_range(source: BlockSource, weight: BatchSizer, span: Span, context: DecodeContext) -> Scanned:
    """A span of many blocks, all of them decoded. Raises `BlockGone` if they are not one canonical branch."""
    refs, found = list[BlockRef](), list[Transfer]()

    async def fetch(low: int, high: int) -> list[tuple[str, bytes]]:
        hashes = await source.hashes(low, high)
        try:
            raws = await source.raw(hashes, weight.average)
        except RailUnavailable:
            weight.refused()
            raise
        weight.seen(raws)
        return list(zip(hashes, raws, strict=True))

    parent, unturned = span.after, 0
    async with aclosing(pieces(span, lambda: weight.width, fetch)) as parts:
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
    """The blocks of a span alone, where nobody is watched. Raises `BlockGone` as the others do."""
    refs, parent = list[BlockRef](), span.after
    async with aclosing(pieces(span, lambda: HEADERS, source.hashes)) as parts:
        async for hashes in parts:
            line = await source.line(parent, hashes)
            refs += line
            parent = line[-1]
    await check_end(source, parent, span)
    return Scanned(refs, [], "headers")


async def check_end(source: BlockSource, reached: BlockRef, span: Span) -> None:
    """The line led to ``span.upto``, and that is canonical: asked last, since it may change while one fetches."""
    check_reached(reached, span)
    await source.check_canonical(span.upto)


def check_reached(reached: BlockRef, span: Span) -> None:
    """Raises `BlockGone` if a line from ``span.after`` led elsewhere than to ``span.upto``."""
    if (reached.hash, reached.height) != (span.upto.hash, span.upto.height):
        raise BlockGone(
            f"the chain leads to {reached.height} {reached.hash}, not to {span.upto.height} {span.upto.hash}"
        )


async def pieces(
    span: Span, width: Callable[[], int], fetch: Callable[[int, int], Awaitable[Chunk]]
) -> AsyncGenerator[Chunk, None]:
    """What ``fetch`` gives for each stretch of heights, in order, with `PREFETCH` of them on their way.

    Leaving early cancels the rest.
    """

    async def run(low: int, high: int) -> Chunk:
        return await fetch(low, high)

    waiting: deque[asyncio.Task[Chunk]] = deque()
    low = span.after.height + 1
    try:
        while low <= span.upto.height or waiting:
            while low <= span.upto.height and len(waiting) <= PREFETCH:
                high = min(span.upto.height, low + width() - 1)
                waiting.append(asyncio.create_task(run(low, high)))
                low = high + 1
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

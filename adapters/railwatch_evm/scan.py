"""Long spans: in pieces that fit the node, several at once, stitched together in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from railwatch.rail import BlockGone, BlockRef, NotKept, NotYet, RailUnavailable, Scanned, Span
from railwatch.rail.again import ask_again
from railwatch_evm.assemble import in_order, transfers
from railwatch_evm.block_query import Want
from railwatch_evm.block_source import Source
from railwatch_evm.decode import Lens, Placed
from railwatch_evm.integrity import check_link
from railwatch_evm.rpc import NodeRefused
from railwatch_evm.rpc_errors import Meaning

AT_ONCE = 4
"""Pieces asked for at once: the node works while we decode. More gained nothing on two cores."""
LARGE = 8_000_000
"""Bytes: a piece above it is halved, for it blocks the loop for some 20 ms."""


@dataclass(slots=True)
class Stride:
    """How many blocks to ask for at once: doubled while answers are small, cautious once the node has said no.

    A cache and no more: what a scan finds does not depend on how it was cut.
    """

    width: int = 32
    most: int = 128
    pushed_back: bool = field(default=False)

    def answered(self, width: int, size: int) -> None:
        """A piece of ``width`` blocks came back with ``size`` bytes. Additive increase, once the node pushed back."""
        if size > LARGE:
            self.width = max(1, min(self.width, width // 2))
        elif width >= self.width and size < LARGE // 4:
            self.width = min(self.most, self.width + (max(1, self.width // 8) if self.pushed_back else self.width))

    def refused(self, width: int) -> None:
        """The node said no to ``width`` blocks, or nothing at all: multiplicative decrease (E21)."""
        self.width, self.pushed_back = max(1, min(self.width, width // 2)), True


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive blocks and the transfers in them."""

    refs: Sequence[BlockRef]
    placed: Sequence[Placed]


async def scan_block(source: Source, span: Span, want: Want, lens: Lens) -> Scanned:
    """A span of one block. Raises `BlockGone` if it is not canonical or not the child of ``span.after``."""
    content = await source.by_hash(span.upto, want)
    check_link(span.after, content.refs)
    return Scanned(content.refs, in_order(await transfers(source, content, want, lens)), "block")


async def scan_range(source: Source, stride: Stride, span: Span, want: Want, lens: Lens) -> Scanned:
    """A span of many blocks. Raises `BlockGone` if its blocks are not one branch from ``after`` to ``upto``."""
    piece = await gather(source, stride, span, want, lens)
    return Scanned(piece.refs, in_order(list(piece.placed)), "range")


async def gather(source: Source, stride: Stride, span: Span, want: Want, lens: Lens) -> Piece:
    """All blocks of a span, linked from ``after`` to ``upto``, and their transfers. Raises `BlockGone`."""
    refs: list[BlockRef] = []
    placed: list[Placed] = []
    parent = span.after
    pieces = _in_order(
        lambda low: min(span.upto.height, low + stride.width - 1),
        lambda low, high: _piece(source, stride, low, high, want, lens),
        span,
    )
    async with aclosing(pieces):
        async for piece in pieces:
            check_link(parent, piece.refs)
            parent = piece.refs[-1]
            refs += piece.refs
            placed += piece.placed
    if parent.hash != span.upto.hash:
        raise BlockGone(f"the chain leads to {parent.hash} at height {parent.height}, not to {span.upto.hash}")
    return Piece(refs, placed)


async def _in_order(
    last_of: Callable[[int], int], ask: Callable[[int, int], Coroutine[Any, Any, Piece]], span: Span
) -> AsyncGenerator[Piece, None]:
    """The pieces of a span in order, `AT_ONCE` of them on their way. Leaving early cancels the rest."""
    waiting: deque[asyncio.Task[Piece]] = deque()
    low = span.after.height + 1
    try:
        while low <= span.upto.height or waiting:
            while low <= span.upto.height and len(waiting) < AT_ONCE:
                high = last_of(low)
                waiting.append(asyncio.create_task(ask(low, high)))
                low = high + 1
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _piece(source: Source, stride: Stride, low: int, high: int, want: Want, lens: Lens) -> Piece:
    """One piece; halved on any refusal, down to one block, which is then asked for by its hash (E21).

    Raises `NotKept` where the node has pruned the blocks' history.
    """
    width = high - low + 1
    try:
        content = await source.by_range(low, high, want)
    except NodeRefused as refused:
        if refused.meaning in (Meaning.PASSING, Meaning.MISSING, Meaning.UNKNOWN):
            # Less is not what it asks for. The width has done no harm.
            raise
        if refused.meaning is Meaning.STATELESS:
            # Blocks and logs themselves are gone (EIP-4444), and not only what could be computed from them.
            raise NotKept(str(refused)) from refused
        stride.refused(width)
        if width == 1:
            return await single(source, low, want, lens)
        middle = low + width // 2
        first = await _piece(source, stride, low, middle - 1, want, lens)
        second = await _piece(source, stride, middle, high, want, lens)
        return Piece([*first.refs, *second.refs], [*first.placed, *second.placed])
    except RailUnavailable as error:
        # A node that hangs on a large range says no as well; asking again at once would only hang again.
        stride.refused(width)
        if width == 1 and isinstance(error, NotYet):
            # By its hash a block is also read from its receipts, if its logs stay away for long.
            return await single(source, low, want, lens)
        raise
    stride.answered(width, content.size)
    return Piece(content.refs, await transfers(source, content, want, lens))


async def single(source: Source, height: int, want: Want, lens: Lens) -> Piece:
    """A block that no range may hold: many providers limit ranges, and not single blocks."""
    ref = await ask_again(lambda: _present(source, height))
    content = await source.by_hash(ref, want)
    return Piece(content.refs, await transfers(source, content, want, lens))


async def _present(source: Source, height: int) -> BlockRef:
    ref = await source.at(hex(height))
    if ref is None:
        raise BlockGone(f"no block at height {height}")
    return ref

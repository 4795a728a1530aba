"""Spans: the slots that have blocks, fetched some at once, and proven to be one line from first parent to end.

A slot between two blocks counts as skipped because the upper one names the lower one as its parent, by slot and by
hash, and never because a node lists no block there (HAZARDS S11).
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from railwatch.rail import BlockGone, BlockRef, Scanned, Span, Transfer
from railwatch.rail.again import ask_again
from railwatch.rail.prefetch import in_order
from railwatch_solana.block_source import BlockSource, NoBlock
from railwatch_solana.decode import DecodeContext

AT_ONCE = 4
"""Blocks asked for at once: the node works while we decode. Each may have some megabytes."""


@dataclass(frozen=True, slots=True)
class FetchedBlock:
    """One block, the slot of its parent, and what it brought to the watched."""

    ref: BlockRef
    parent_slot: int
    transfers: Sequence[Transfer]


async def scan(source: BlockSource, span: Span, context: DecodeContext) -> Scanned:
    """All transfers of a span. Raises `BlockGone` if it is not one line from ``after`` to a canonical ``upto``."""
    slots = await _slots(source, span)
    blocks: list[BlockRef] = []
    transfers: list[Transfer] = []
    parent = span.after
    async with aclosing(in_order(slots, lambda slot: _fetch(source, slot, context), AT_ONCE)) as line:
        async for fetched in line:
            found = await _linked(source, parent, fetched, span.upto, context)
            parent = found.ref
            transfers += found.transfers
            if not span.sparse or found.transfers or parent.height == span.upto.height:
                blocks.append(parent)
    if parent.hash != span.upto.hash:
        raise BlockGone(f"the chain leads to {parent.height} {parent.hash}, not to {span.upto.height} {span.upto.hash}")
    return Scanned(blocks, transfers, "block" if len(slots) == 1 else "blocks")


async def _slots(source: BlockSource, span: Span) -> list[int]:
    """Return the slots of the span's blocks that the node lists. One block needs no list."""
    if span.upto.parent == span.after.hash:
        return [span.upto.height]
    slots = await source.slots(span.after.height + 1, span.upto.height)
    if not slots or slots[-1] != span.upto.height:
        # It was reported as a block, so either the chain has left it or this node has lost it. A request shows which.
        slots.append(span.upto.height)
    return slots


async def _fetch(source: BlockSource, slot: int, context: DecodeContext) -> FetchedBlock:
    """Return the block of a slot that should have one. Raises `BlockGone` if the chain has left it."""
    try:
        if not len(context.watches):
            # Without watched addresses its header is enough.
            ref, header = await source.header(slot)
            return FetchedBlock(ref, header.parent_slot, ())
        ref, block = await source.block(slot)
    except NoBlock as missing:
        if await source.is_gone(slot):
            raise BlockGone(f"the chain has no block at slot {slot} any more") from missing
        raise
    return FetchedBlock(ref, block.parent_slot, await source.transfers(block, ref, context))


async def _linked(
    source: BlockSource, parent: BlockRef, found: FetchedBlock, upto: BlockRef, context: DecodeContext
) -> FetchedBlock:
    """Return the block of that slot which is the child of ``parent``. Raises as `_check_link`.

    `getBlock` cannot be asked by hash, so a block of another branch is asked for again: another node behind the
    endpoint may be on this one (HAZARDS E19).
    """
    prefetched = iter([found])

    async def question() -> FetchedBlock:
        one = next(prefetched, None) or await _fetch(source, found.ref.height, context)
        await _check_link(source, parent, one)
        if one.ref.height == upto.height and one.ref.hash != upto.hash:
            raise BlockGone(f"block {one.ref.height} is {one.ref.hash}, not {upto.hash}")
        return one

    return await ask_again(question)


async def _check_link(source: BlockSource, parent: BlockRef, found: FetchedBlock) -> None:
    """Check that the block extends ``parent``. Raises `BlockGone` for another branch, `NoBlock` for a hole."""
    if found.ref.parent == parent.hash and found.parent_slot == parent.height:
        return
    place = f"block {found.ref.height} {found.ref.hash} is built on slot {found.parent_slot} {found.ref.parent}"
    if found.parent_slot > parent.height:
        await source.check_kept(parent.height + 1)
        raise NoBlock(f"{place}, which the node does not list: it has a hole above {parent.height}")
    raise BlockGone(f"{place}, not on {parent.height} {parent.hash}")

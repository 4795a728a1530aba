"""Look-backs and rescans for a few scripts: BIP158's filters tell which blocks are worth fetching.

A filter holds the scripts that a block pays to and those that it spends from. It never says no where it should say yes,
so blocks that do not match are passed over, and the others are read as any block is.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from adapters.bitcoin.blocks import Source
from adapters.bitcoin.decode import Lens, block_transfers
from adapters.bitcoin.filters import match_any
from adapters.bitcoin.rpc import NodeRefused, Rpc
from adapters.bitcoin.scan import Weight, check_reached, pieces
from indexer.rail import BlockRef, RailUnavailable, Scanned, Span, Transfer

FEW = 200
"""Scripts up to which filters are asked: each costs some microseconds a block."""

STRETCH = 200
"""Blocks whose headers and filters are asked for in one request: some megabytes on the largest chains."""

TURN = 32
"""Filters that are read before the loop gets a turn."""


class FilterInfo(msgspec.Struct):
    """`getblockfilter`: the filter's bytes, and the header that commits to it and to all filters below."""

    filter: str
    header: str


_filter_info = msgspec.json.Decoder(FilterInfo)


@dataclass(frozen=True, slots=True)
class Filter:
    """One block's filter. ``header`` is in the order of its bytes, not as the node writes it."""

    content: bytes
    header: bytes

    def follows(self, below: bytes) -> bool:
        """Whether its header commits to its content and to the header ``below`` (BIP157)."""
        return self.header == _twice(_twice(self.content) + below)


async def look_back(
    rpc: Rpc, source: Source, weight: Weight, span: Span, lens: Lens, scripts: Sequence[bytes]
) -> Scanned | None:
    """The transfers of a sparse span to ``scripts``; of its blocks those with transfers, and ``upto``.

    None where the node has no filters, or not yet for all of the span. Raises `BlockGone`.
    """
    try:
        matched = await _matches(rpc, source, span, scripts)
    except NodeRefused:
        return None
    found = list[Transfer]()
    while matched:
        some, matched = matched[: weight.width], matched[weight.width :]
        raws = await source.raw([ref.hash for ref in some], weight.average)
        weight.seen(raws)
        for ref, raw in zip(some, raws, strict=True):
            found += block_transfers(await source.decode(raw, ref.hash), ref, lens)
            await asyncio.sleep(0)
    await source.check_canonical(span.upto)
    blocks = {each.block.hash: each.block for each in found if each.block is not None}
    blocks[span.upto.hash] = span.upto
    return Scanned(list(blocks.values()), found, "filters")


async def _matches(rpc: Rpc, source: Source, span: Span, scripts: Sequence[bytes]) -> list[BlockRef]:
    """The blocks of the span whose filters match. Raises `NodeRefused` where there are no filters."""
    (below,) = await _filters(rpc, [span.after.hash])

    async def fetch(low: int, high: int) -> tuple[list[str], list[Filter]]:
        hashes = await source.hashes(low, high)
        return hashes, await _filters(rpc, hashes)

    parent, matched = span.after, list[BlockRef]()
    async with aclosing(pieces(span, lambda: STRETCH, fetch)) as parts:
        async for hashes, filters in parts:
            for place, (ref, each) in enumerate(zip(await source.line(parent, hashes), filters, strict=True)):
                if not each.follows(below.header):
                    raise RailUnavailable(f"{rpc.name}: the filter of block {ref.hash} is not the one committed to")
                if match_any(each.content, ref.hash, scripts):
                    matched.append(ref)
                parent, below = ref, each
                if place % TURN == 0:
                    await asyncio.sleep(0)
    check_reached(parent, span)
    return matched


async def _filters(rpc: Rpc, hashes: Sequence[str]) -> list[Filter]:
    answers = await rpc.batch([("getblockfilter", (block_hash,)) for block_hash in hashes])
    try:
        read = [answer.read(_filter_info) for answer in answers]
        return [Filter(bytes.fromhex(each.filter), bytes.fromhex(each.header)[::-1]) for each in read]
    except ValueError as error:
        raise RailUnavailable(f"{rpc.name} getblockfilter: the answer is no hex") from error


def _twice(content: bytes) -> bytes:
    return sha256(sha256(content).digest()).digest()

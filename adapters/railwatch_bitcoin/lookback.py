"""Look-backs and rescans for a few scripts: BIP158's filters say which blocks are worth fetching.

A filter holds the scripts that a block pays to and those that it spends from. It never says no where it should say yes,
so blocks that do not match are passed over, and the others are read as any block is.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from railwatch.rail import BlockRef, RailUnavailable, Scanned, Span, Transfer
from railwatch.rail.batch_sizer import FittedBatches
from railwatch.rail.decoding import off_loop
from railwatch.rail.jsonrpc import Call
from railwatch.rail.prefetch import in_order, stretches
from railwatch_bitcoin.block_source import BlockSource
from railwatch_bitcoin.decode import DecodeContext, block_transfers
from railwatch_bitcoin.filters import match_any
from railwatch_bitcoin.rpc import Rpc
from railwatch_bitcoin.rpc_errors import RpcRejected
from railwatch_bitcoin.scan import AHEAD, check_reached

FEW = 200
"""Scripts up to which filters are asked: each costs some microseconds a block."""

STRETCH = 200
"""Blocks whose headers and filters are asked for in one request: some megabytes on the largest chains."""

FILTER_MOST = 4 * 1024 * 1024
"""Bytes of a filter at most: a block of 32 MB has a tenth of that."""

FILTER_FACTOR = 64
"""A filter's bytes need that many times as long as JSON's, so that one of 64 KiB is read in a thread."""

TURN = 32
"""Filters that are read before the loop gets a turn."""


class FilterInfo(msgspec.Struct):
    """`getblockfilter`: the filter's bytes, and the header that commits to it and to all filters below."""

    filter: str
    header: str


_filter_info = msgspec.json.Decoder(FilterInfo)


@dataclass(frozen=True, slots=True)
class Filtered:
    """One block's header and filter. ``header`` is the filter's own, byte for byte, not as nodes write it."""

    hash: str
    raw_header: bytes
    content: bytes
    header: bytes

    def follows(self, below: "Filtered") -> bool:
        """Whether the filter's header commits to its content and to the header ``below`` (BIP157)."""
        return self.header == _twice(_twice(self.content) + below.header)


async def look_back(
    rpc: Rpc, source: BlockSource, sizer: FittedBatches, span: Span, context: DecodeContext, scripts: Sequence[bytes]
) -> Scanned | None:
    """Return the transfers of a sparse span to ``scripts``; of its blocks those with transfers, and ``upto``.

    None where the node has no filters, or not yet for all of the span. Raises `BlockGone`.
    """
    try:
        matched = await _matches(rpc, source, span, scripts)
    except RpcRejected:
        return None
    found = list[Transfer]()
    while matched:
        some, matched = matched[: sizer.width], matched[sizer.width :]
        raws = await source.raw([ref.hash for ref in some], sizer.average)
        sizer.answered(len(raws), sum(map(len, raws)))
        for ref, raw in zip(some, raws, strict=True):
            found += block_transfers(await source.decode(raw, ref.hash), ref, context)
            await asyncio.sleep(0)
    await source.check_canonical(span.upto)
    blocks = {each.block.hash: each.block for each in found if each.block is not None}
    blocks[span.upto.hash] = span.upto
    return Scanned(list(blocks.values()), found, "filters")


async def _matches(rpc: Rpc, source: BlockSource, span: Span, scripts: Sequence[bytes]) -> list[BlockRef]:
    """Return the blocks of the span whose filters match. Raises `RpcRejected` where there are no filters."""

    async def fetch(heights: tuple[int, int]) -> list[Filtered]:
        return await _filtered(rpc, await source.hashes(*heights))

    (below,) = await _filtered(rpc, [span.after.hash])
    parent, matched = span.after, list[BlockRef]()
    async with aclosing(in_order(stretches(span, lambda: STRETCH), fetch, AHEAD)) as parts:
        async for part in parts:
            for place, each in enumerate(part):
                parent = source.child_ref(each.raw_header, each.hash, parent)
                if not each.follows(below):
                    raise RailUnavailable(f"{rpc.name}: the filter of block {each.hash} is not the one committed to")
                if await _may_hold(rpc, each, scripts):
                    matched.append(parent)
                below = each
                if place % TURN == 0:
                    await asyncio.sleep(0)
    check_reached(parent, span)
    return matched


async def _may_hold(rpc: Rpc, each: Filtered, scripts: Sequence[bytes]) -> bool:
    size = len(each.content)
    if size > FILTER_MOST:
        raise RailUnavailable(f"{rpc.name}: the filter of block {each.hash} has {size:,} bytes")
    try:
        return await off_loop(FILTER_FACTOR * size, lambda: match_any(each.content, each.hash, scripts))
    except ValueError as error:
        raise RailUnavailable(f"{rpc.name}: the filter of block {each.hash} cannot be read: {error}") from error


async def _filtered(rpc: Rpc, hashes: Sequence[str]) -> list[Filtered]:
    """Headers and filters of these blocks."""
    headers: list[Call] = [("getblockheader", (each, False)) for each in hashes]
    filters: list[Call] = [("getblockfilter", (each,)) for each in hashes]
    answers = await rpc.batch([*headers, *filters])
    found = []
    for block_hash, header, filter_info in zip(hashes, answers[: len(hashes)], answers[len(hashes) :], strict=True):
        info = filter_info.read(_filter_info)
        try:
            content, committed = bytes.fromhex(info.filter), bytes.fromhex(info.header)[::-1]
        except ValueError as error:
            raise RailUnavailable(f"{rpc.name} getblockfilter: the answer is no hex") from error
        found.append(Filtered(block_hash, header.read_hex(), content, committed))
    return found


def _twice(content: bytes) -> bytes:
    return sha256(sha256(content).digest()).digest()

"""Look-backs: a few addresses over many blocks, asked through the node's own index.

Tokens by log topics. Ether has no index, but an address that was never used has a balance that can only grow: where it
is the same at both ends of a stretch, nothing arrived in between, and where it is not, halving the stretch finds the
blocks. A registration is followed by a look-back, and then nearly always nothing has arrived at all.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from railwatch.rail import BlockGone, BlockRef, RailUnavailable, Scanned, Span
from railwatch.rail.again import ask_again
from railwatch.rail.batch_sizer import BatchSizer
from railwatch.rail.jsonrpc import Call
from railwatch_evm import wire
from railwatch_evm.assemble import sort_transfers
from railwatch_evm.balances import QUANTITY
from railwatch_evm.block_query import BlockQuery
from railwatch_evm.block_source import BlockSource
from railwatch_evm.decode import DecodeContext, OrderedTransfer
from railwatch_evm.responses import RpcResponse
from railwatch_evm.rpc_errors import Meaning, UnknownBlock
from railwatch_evm.scan import Chunk, fetch_block, scan_linked

CODE = re.compile(r"0x[0-9a-fA-F]*+")
SCATTERED_MAX = 16
"""Blocks with ether up to which they are fetched one by one; above it, the whole span is."""


async def look_back(
    source: BlockSource,
    sizer: BatchSizer,
    span: Span,
    query: BlockQuery,
    context: DecodeContext,
    keys: tuple[bytes, ...],
) -> Scanned:
    """Return the transfers of a sparse span to ``keys``; of its blocks only those with transfers, and ``upto``.

    All headers are fetched: they link the span, and their blooms show where the log index has left something out.
    """
    tokens = await scan_linked(source, sizer, span, BlockQuery(recipients=keys), context)
    placed = list(tokens.placed)
    if context.native is not None:
        placed += await _ether(source, sizer, span, replace(query, logs=False), context, keys, tokens.refs)
    found = sort_transfers(placed)
    held = {transfer.block.hash for transfer in found if transfer.block is not None} | {span.upto.hash}
    return Scanned([ref for ref in tokens.refs if ref.hash in held], found, "topics")


async def _ether(
    source: BlockSource,
    sizer: BatchSizer,
    span: Span,
    query: BlockQuery,
    context: DecodeContext,
    keys: Sequence[bytes],
    refs: Sequence[BlockRef],
) -> list[OrderedTransfer]:
    """Ether's transfers: from the blocks where a balance grew, and from all of those where balances prove nothing."""
    line = [span.after, *refs]
    low, blocks = await blocks_with_growth(source, line, keys)
    older: list[OrderedTransfer] = []
    if low > 0:
        older = list((await scan_linked(source, sizer, replace(span, upto=line[low]), query, context)).placed)
    pieces = [await _fetch_exact(source, block, query, context) for block in blocks]
    return older + [placed for piece in pieces for placed in piece.placed]


async def _fetch_exact(source: BlockSource, block: BlockRef, query: BlockQuery, context: DecodeContext) -> Chunk:
    """One block that must still be the one that the span was linked through. Raises `BlockGone`."""
    piece = await fetch_block(source, block.height, query, context)
    if piece.refs[-1].hash != block.hash:
        raise BlockGone(f"block {block.height} {block.hash} was replaced by {piece.refs[-1].hash}")
    return piece


async def blocks_with_growth(
    source: BlockSource, line: Sequence[BlockRef], keys: Sequence[bytes]
) -> tuple[int, list[BlockRef]]:
    """How far up ``line`` balances prove nothing, and the blocks above that in which the balance of a key grew.

    ``line`` starts with the block before the first, so 0 means that balances prove all of it, and its last index that
    they prove nothing: a key that has sent (it may have spent what it got) or has code, a node without any state, or so
    many blocks that fetching all of them is less. A full node has the states of some 128 blocks (E26): there the search
    ends early, unless nothing had arrived before its oldest state either.
    """
    last = len(line) - 1
    newest = await _balances(source, [line[last]], keys) if await _never_spent(source, line[last], keys) else None
    if newest is None:
        return last, []
    if all(int(balance, 16) == 0 for balance in newest[0]):
        # Never sent, and nothing there: nothing ever arrived.
        return 0, []
    oldest = await _balances(source, [line[0]], keys)
    low = 0 if oldest is not None else await _oldest_state(source, line, keys)
    if oldest is None and low < last:
        oldest = await _balances(source, [line[low]], keys)
    if oldest is None:
        return last, []
    blocks = await _halved(source, line, {low: oldest[0], last: newest[0]}, keys)
    if blocks is None:
        return last, []
    nothing_before = all(int(balance, 16) == 0 for balance in oldest[0])
    return (0 if nothing_before else low), blocks


async def _oldest_state(source: BlockSource, line: Sequence[BlockRef], keys: Sequence[bytes]) -> int:
    """Return the lowest index of ``line`` whose state the node has, by halving; the node has the last one's."""
    without, having = 0, len(line) - 1
    while having - without > 1:
        middle = (without + having) // 2
        if await _balances(source, [line[middle]], keys[:1]) is None:
            without = middle
        else:
            having = middle
    return having


async def _halved(
    source: BlockSource, line: Sequence[BlockRef], known: dict[int, tuple[str, ...]], keys: Sequence[bytes]
) -> list[BlockRef] | None:
    """Return the blocks between two ``known`` indexes in which a balance grew; None if they are too many."""
    open_ends = [(min(known), max(known))]
    while any(high - low > 1 for low, high in open_ends):
        open_ends = [(low, high) for low, high in open_ends if known[low] != known[high]]
        if len(open_ends) > SCATTERED_MAX:
            return None
        middles = [(low + high) // 2 for low, high in open_ends if high - low > 1]
        balances = await _balances(source, [line[middle] for middle in middles], keys)
        if balances is None:
            return None
        known.update(zip(middles, balances, strict=True))
        open_ends = [half for low, high in open_ends for half in _halves(low, high)]
    return [line[high] for low, high in open_ends if known[low] != known[high]]


def _halves(low: int, high: int) -> list[tuple[int, int]]:
    middle = (low + high) // 2
    return [(low, high)] if high - low == 1 else [(low, middle), (middle, high)]


async def _never_spent(source: BlockSource, block: BlockRef, keys: Sequence[bytes]) -> bool:
    """Whether no key has ever sent anything or has code at ``block``: then their balances have only ever grown."""
    nonces = await _states(source, "eth_getTransactionCount", [block], keys)
    codes = await _states(source, "eth_getCode", [block], keys)
    if nonces is None or codes is None:
        return False
    return all(int(nonce, 16) == 0 for nonce in nonces[0]) and all(code in ("0x", "0x0") for code in codes[0])


async def _balances(
    source: BlockSource, blocks: Sequence[BlockRef], keys: Sequence[bytes]
) -> list[tuple[str, ...]] | None:
    """For each block the balances of all keys, as the node's text; None if it cannot say."""
    return await _states(source, "eth_getBalance", blocks, keys)


async def _states(
    source: BlockSource, method: str, blocks: Sequence[BlockRef], keys: Sequence[bytes]
) -> list[tuple[str, ...]] | None:
    """One value a key at each block, asked by the block's hash (EIP-1898), so that no other branch can answer.

    None where the node does not say it, whatever its words. Raises `RpcRejected` for a refusal that passes.
    """
    calls: list[Call] = [(method, ("0x" + key.hex(), {"blockHash": block.hash})) for block in blocks for key in keys]
    try:
        answers = await ask_again(lambda: _known(source, calls))
    except UnknownBlock:
        return None
    for answer in answers:
        if (refusal := answer.error) is not None:
            if refusal.meaning is Meaning.PASSING:
                raise refusal
            return None
    shape = CODE if method == "eth_getCode" else QUANTITY
    return [_texts(answers[at : at + len(keys)], shape) for at in range(0, len(answers), len(keys))]


async def _known(source: BlockSource, calls: Sequence[Call]) -> list[RpcResponse]:
    """Return the answers of a node that knows the block. Raises `UnknownBlock` (E19)."""
    answers = await source.batches(calls)
    for answer in answers:
        if isinstance(refusal := answer.error, UnknownBlock):
            raise refusal
    return answers


def _texts(answers: Sequence[RpcResponse], shape: re.Pattern[str]) -> tuple[str, ...]:
    """Hex of that shape, as the node wrote it. Raises `RailUnavailable` for anything else."""
    texts = tuple(answer.read(wire.text_decoder) for answer in answers)
    if not all(shape.fullmatch(text) for text in texts):
        raise RailUnavailable("a balance, a nonce or a code is no hex")
    return texts

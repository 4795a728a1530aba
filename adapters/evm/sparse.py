"""Look-backs: a few addresses over many blocks, asked through the node's own index.

Tokens by log topics. Ether has no index, but an address that was never used has a balance that can only grow: where it
is the same at both ends of a stretch, nothing arrived in between, and where it is not, halving the stretch finds the
blocks. A registration is followed by a look-back, and then nearly always nothing has arrived at all.
"""

from collections.abc import Sequence
from dataclasses import replace

from adapters.evm import wire
from adapters.evm.credit import in_order
from adapters.evm.decode import Lens, Placed
from adapters.evm.rpc import Answer, Call
from adapters.evm.scan import Piece, Stride, gather, single
from adapters.evm.source import Source
from adapters.evm.want import Want
from indexer.rail import BlockGone, BlockRef, Scanned, Span

SCATTERED = 16
"""Blocks with ether up to which they are fetched one by one; above it, the whole span is."""


async def look_back(
    source: Source, stride: Stride, span: Span, want: Want, lens: Lens, keys: tuple[bytes, ...]
) -> Scanned:
    """The transfers of a sparse span to ``keys``; of its blocks only those with transfers, and ``upto``.

    All headers are fetched: they link the span, and their blooms tell where the log index has left something out.
    """
    tokens = await gather(source, stride, span, Want(recipients=keys), lens)
    placed = list(tokens.placed)
    if lens.native is not None:
        placed += await _ether(source, stride, span, replace(want, logs=False), lens, keys, tokens.refs)
    found = in_order(placed)
    held = {transfer.block.hash for transfer in found if transfer.block is not None} | {span.upto.hash}
    return Scanned([ref for ref in tokens.refs if ref.hash in held], found, "topics")


async def _ether(
    source: Source, stride: Stride, span: Span, want: Want, lens: Lens, keys: Sequence[bytes], refs: Sequence[BlockRef]
) -> list[Placed]:
    """Ether's transfers: from the blocks where a balance grew, or from all of them where balances cannot tell."""
    blocks = await grown(source, [span.after, *refs], keys)
    if blocks is None:
        return list((await gather(source, stride, span, want, lens)).placed)
    pieces = [await _exactly(source, block, want, lens) for block in blocks]
    return [placed for piece in pieces for placed in piece.placed]


async def _exactly(source: Source, block: BlockRef, want: Want, lens: Lens) -> Piece:
    """One block that must still be the one that the span was linked through. Raises `BlockGone`."""
    piece = await single(source, block.height, want, lens)
    if piece.refs[-1].hash != block.hash:
        raise BlockGone(f"block {block.height} {block.hash} was replaced by {piece.refs[-1].hash}")
    return piece


async def grown(source: Source, line: Sequence[BlockRef], keys: Sequence[bytes]) -> list[BlockRef] | None:
    """The blocks of ``line`` in which the balance of a key grew; ``line`` starts with the block before the first.

    None where balances prove nothing: a key that has sent (it may have spent what it got) or has code, a node without
    these states (most keep 128 blocks of them), or so many blocks that fetching all of them is less.
    """
    if not await _fresh(source, line[-1], keys):
        return None
    ends = await _balances(source, [line[0], line[-1]], keys)
    if ends is None:
        return None
    known = {0: ends[0], len(line) - 1: ends[1]}
    open_ends = [(0, len(line) - 1)]
    while any(high - low > 1 for low, high in open_ends):
        open_ends = [(low, high) for low, high in open_ends if known[low] != known[high]]
        if len(open_ends) > SCATTERED:
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


async def _fresh(source: Source, block: BlockRef, keys: Sequence[bytes]) -> bool:
    """Whether no key has ever sent anything or has code at ``block``: then their balances have only ever grown."""
    nonces = await _states(source, "eth_getTransactionCount", [block], keys)
    codes = await _states(source, "eth_getCode", [block], keys)
    if nonces is None or codes is None:
        return False
    return all(int(nonce, 16) == 0 for nonce in nonces[0]) and all(code in ("0x", "") for code in codes[0])


async def _balances(source: Source, blocks: Sequence[BlockRef], keys: Sequence[bytes]) -> list[tuple[str, ...]] | None:
    """For each block the balances of all keys, as the node's text; None if it cannot say."""
    return await _states(source, "eth_getBalance", blocks, keys)


async def _states(
    source: Source, method: str, blocks: Sequence[BlockRef], keys: Sequence[bytes]
) -> list[tuple[str, ...]] | None:
    """One value a key at each block, asked by the block's hash (EIP-1898), so that no other branch can answer."""
    calls: list[Call] = [(method, ("0x" + key.hex(), {"blockHash": block.hash})) for block in blocks for key in keys]
    answers = await source.batches(calls)
    if any(answer.refused for answer in answers):
        return None
    return [_texts(answers[at : at + len(keys)]) for at in range(0, len(answers), len(keys))]


def _texts(answers: Sequence[Answer]) -> tuple[str, ...]:
    return tuple(answer.read(wire.text_decoder) for answer in answers)

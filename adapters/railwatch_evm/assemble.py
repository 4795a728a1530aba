"""From whole content to transfers in chain order, whichever way it was asked for."""

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from railwatch.rail import AssetId, BlockRef, RailUnavailable, Transfer
from railwatch.rail.decoding import off_loop, read_quantity
from railwatch_evm.block_query import BlockQuery
from railwatch_evm.block_source import LOG_BYTES, BlockSource, Content
from railwatch_evm.decode import (
    DecodeContext,
    OrderedTransfer,
    match_logs,
    place_log,
    place_logs,
    shape_logs,
    watched_logs,
)
from railwatch_evm.integrity import tx_ids
from railwatch_evm.native import match_transactions, place_transaction, rival_transfers, traced_transfers
from railwatch_evm.wire import FullBlock, Log

PLACED_BYTES = 4_096
"""What a payment's log weighs in `off_loop`: a thousand need the time of four mebibytes of JSON."""


async def transfers(
    source: BlockSource, content: Content, query: BlockQuery, context: DecodeContext
) -> list[OrderedTransfer]:
    """Every transfer of ``content`` to a watched address, with its place in the chain. Raises as `BlockSource` does."""
    refs = {ref.hash: ref for ref in content.refs}
    if query.recipients is None:
        placed = await _tokens(content.logs, refs, context)
    else:
        placed = await _received(source, content.logs, refs, context)
    if context.native is not None:
        traced = await _traced(content, context.native, context)
        seen = {transfer.tx_id for _, transfer in traced}
        placed += traced + await _plain(source, content, context.native, seen, context)
    return placed


async def _tokens(logs: Sequence[Log], refs: dict[str, BlockRef], context: DecodeContext) -> list[OrderedTransfer]:
    """As `token_transfers`; in a thread if there are many, because a stranger can make thousands."""
    shaped = await off_loop(len(logs) * LOG_BYTES, lambda: shape_logs(logs, context.silent))
    found = watched_logs(shaped, context)
    return await off_loop(len(found) * PLACED_BYTES, lambda: place_logs(found, logs, refs, context))


def sort_transfers(placed: list[OrderedTransfer]) -> list[Transfer]:
    """Return the transfers in chain order, each movement once: a log that repeats a call is dropped (E27)."""
    ordered = [transfer for _, transfer in sorted(placed, key=itemgetter(0))]
    called = Counter(_movement(each) for each in ordered if not each.tx_index.startswith("log:"))
    return [each for each in ordered if not (each.tx_index.startswith("log:") and _is_told(each, called))]


def _is_told(transfer: Transfer, called: Counter[tuple[str, bytes, AssetId, int]]) -> bool:
    """Whether a call is left that moved the same; it counts for this one then."""
    movement = _movement(transfer)
    if not called[movement]:
        return False
    called[movement] -= 1
    return True


def _movement(transfer: Transfer) -> tuple[str, bytes, AssetId, int]:
    return transfer.tx_id, transfer.to, transfer.asset, transfer.amount


async def _received(
    source: BlockSource, logs: Sequence[Log], refs: dict[str, BlockRef], context: DecodeContext
) -> list[OrderedTransfer]:
    """Token transfers from logs with gaps between them: their positions come from the receipts."""
    found = match_logs(logs, context)
    wanted = list({(log.transaction_hash, log.block_hash): None for _, log, _ in found})
    receipts = {receipt.transaction_hash: receipt for receipt in await source.receipts(wanted)}
    placed = []
    for _, log, key in found:
        indices = [each.log_index for each in receipts[log.transaction_hash].logs or ()]
        if log.log_index not in indices:
            raise RailUnavailable(f"block {log.block_hash}: the receipt of {log.transaction_hash} lacks a log")
        placed.append(place_log(log, indices.index(log.log_index), key, refs[log.block_hash], context))
    return [each for each in placed if each is not None]


async def _traced(content: Content, native: AssetId, context: DecodeContext) -> list[OrderedTransfer]:
    """Ether by the blocks' traces, as far as there are any."""
    return [
        placed
        for block, ref, traced in zip(content.blocks, content.refs, content.traces, strict=False)
        if traced.frames
        for placed in await traced_transfers(traced.frames, tx_ids(block), ref, native, context)
    ]


async def _plain(
    source: BlockSource, content: Content, native: AssetId, seen: set[str], context: DecodeContext
) -> list[OrderedTransfer]:
    """Ether by the transactions' own values, of those that have no frames; ``seen`` have some.

    Whether a transaction succeeded is in its receipt (E1), which is asked for only if it pays a watched address.
    """
    bodies = [
        (block, ref, traced.untraced)
        for block, ref, traced in zip(content.blocks, content.refs, content.traces, strict=False)
        if isinstance(block, FullBlock) and traced.untraced
    ]
    found = [
        (at, tx, key, ref)
        for block, ref, untraced in bodies
        for at, tx, key in match_transactions(block, context)
        if tx.hash in untraced
    ]
    receipts = await source.receipts([(tx.hash, ref.hash) for _, tx, _, ref in found])
    placed: list[OrderedTransfer] = []
    for (at, tx, key, ref), receipt in zip(found, receipts, strict=True):
        if receipt.status is None:
            # Before Byzantium (EIP-658). One payment must not halt a rail: balances show what came.
            source.tracer.gap.add(
                ref.height, ref.height, f"the receipt of {tx.hash} has no status, so it may have failed"
            )
            continue
        stood = read_quantity(receipt.status, f"block {ref.hash}: status of {tx.hash}") == 1
        one = place_transaction(at, tx, key, ref, native, context) if stood else None
        placed += [] if one is None else [one]
    seen = seen | {transfer.tx_id for _, transfer in placed}
    return placed + [rival for block, ref, _ in bodies for rival in rival_transfers(block, ref, native, seen, context)]

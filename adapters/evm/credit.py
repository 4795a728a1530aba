"""From whole content to transfers in chain order, whichever way it was asked for."""

from collections.abc import Sequence
from operator import itemgetter

from adapters.evm.decode import Lens, Placed, match_logs, place_log, token_transfers
from adapters.evm.ether import match_transactions, place_transaction, rival_transfers, traced_transfers
from adapters.evm.source import Content, Source
from adapters.evm.want import Want
from adapters.evm.whole import tx_ids
from adapters.evm.wire import FullBlock, Log
from indexer.rail import AssetId, BlockRef, RailFault, RailUnavailable, Transfer


async def transfers(source: Source, content: Content, want: Want, lens: Lens) -> list[Placed]:
    """Every transfer of ``content`` to a watched address, with its place in the chain. Raises as `Source` does."""
    refs = {ref.hash: ref for ref in content.refs}
    if want.recipients is None:
        placed = token_transfers(content.logs, refs, lens)
    else:
        placed = await _received(source, content.logs, refs, lens)
    if lens.native is not None:
        placed += _traced(content, lens.native, lens)
        placed += await _plain(source, content, lens.native, lens)
    return placed


def in_order(placed: list[Placed]) -> list[Transfer]:
    """The transfers in chain order."""
    return [transfer for _, transfer in sorted(placed, key=itemgetter(0))]


async def _received(source: Source, logs: Sequence[Log], refs: dict[str, BlockRef], lens: Lens) -> list[Placed]:
    """Token transfers from logs with gaps between them: their positions come from the receipts."""
    found = match_logs(logs, lens)
    wanted = list({(log.transaction_hash, log.block_hash): None for _, log, _ in found})
    receipts = {receipt.transaction_hash: receipt for receipt in await source.receipts(wanted)}
    placed = []
    for _, log, key in found:
        indices = [each.log_index for each in receipts[log.transaction_hash].logs]
        if log.log_index not in indices:
            raise RailUnavailable(f"block {log.block_hash}: the receipt of {log.transaction_hash} lacks a log")
        placed.append(place_log(log, indices.index(log.log_index), key, refs[log.block_hash], lens))
    return [each for each in placed if each is not None]


def _traced(content: Content, native: AssetId, lens: Lens) -> list[Placed]:
    """Ether by the blocks' traces, if there are any."""
    return [
        placed
        for block, ref, frames in zip(content.blocks, content.refs, content.traces, strict=False)
        for placed in traced_transfers(frames, tx_ids(block), ref, native, lens)
    ]


async def _plain(source: Source, content: Content, native: AssetId, lens: Lens) -> list[Placed]:
    """Ether by the transactions themselves, where the node gave them because it cannot trace.

    Whether a transaction succeeded is in its receipt (E1), which is asked for only if it pays somebody watched.
    """
    bodies = [
        (block, ref) for block, ref in zip(content.blocks, content.refs, strict=True) if isinstance(block, FullBlock)
    ]
    found = [(at, tx, key, ref) for block, ref in bodies for at, tx, key in match_transactions(block, lens)]
    receipts = await source.receipts([(tx.hash, ref.hash) for _, tx, _, ref in found])
    placed: list[Placed] = []
    for (at, tx, key, ref), receipt in zip(found, receipts, strict=True):
        if receipt.status is None:
            raise RailFault(f"block {ref.hash}: the receipt of {tx.hash} has no status, so it may have failed")
        one = place_transaction(at, tx, key, ref, native, lens) if int(receipt.status, 16) == 1 else None
        placed += [] if one is None else [one]
    told = {transfer.tx_id for _, transfer in placed}
    return placed + [each for block, ref in bodies for each in rival_transfers(block, ref, native, told, lens)]

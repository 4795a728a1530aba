"""From transactions and traces to ether's transfers: match first, decode after. Pure.

A block's ether has one source, its traces or its transactions, never both (HAZARDS E5).
"""

from collections.abc import Sequence

import msgspec

from adapters.evm.decode import Lens, Placed
from adapters.evm.traces import Trace, credits
from adapters.evm.wire import FullBlock, Transaction
from indexer.rail import NOBODY, AssetId, BlockRef, RailFault, Transfer


def traced_transfers(
    traces: Sequence[Trace], tx_ids: Sequence[str], block: BlockRef, native: AssetId, lens: Lens
) -> list[Placed]:
    """Ether's transfers of one block from its traces, which hold the transactions' own values too (E5).

    ``tx_ids`` are the block's transactions in order. Raises `RailFault` with the hash for a frame beyond reading.
    """
    try:
        found = list(credits(traces, lens.watches.hits))
    except ValueError as error:
        raise RailFault(f"block {block.hash} cannot be decoded: {error} in a trace") from error
    if not found:
        return []
    positions = {tx_id: position for position, tx_id in enumerate(tx_ids)}
    placed = []
    for ordinal, credit in enumerate(found):
        index = "call:" + ".".join(map(str, credit.path)) if credit.path else "tx"
        evidence = {"from": credit.sender, "node": lens.node, "source": "trace"}
        transfer = Transfer(credit.tx_id, index, credit.to, native, credit.amount, block, evidence=evidence)
        placed.append(((block.height, positions[credit.tx_id], 0, ordinal), transfer))
    return placed


def match_transactions(block: FullBlock, lens: Lens) -> list[tuple[int, Transaction, bytes]]:
    """Transactions that carry ether to a watched address: position, transaction, key. Whether they failed is unknown.

    The type plays no part: what an L2's system deposits deliver is a value like any other (E15).
    """
    shaped = [(at, tx) for at, tx in enumerate(block.transactions) if tx.to is not None and tx.value != "0x0"]
    try:
        keys = [bytes.fromhex((tx.to or "")[2:]) for _, tx in shaped]
    except ValueError as error:
        raise RailFault(f"block {block.hash} cannot be decoded: a recipient is not hex") from error
    watched = lens.watches.hits(keys)
    return [(at, tx, key) for (at, tx), key in zip(shaped, keys, strict=True) if key in watched]


def place_transaction(
    at: int, tx: Transaction, key: bytes, block: BlockRef, native: AssetId, lens: Lens
) -> Placed | None:
    """A transaction's own value, None if it has none. Its sender's nonce is what it spends: a replacement has the same.

    Raises `RailFault` with the block's hash for numbers that are none.
    """
    try:
        amount, spends = int(tx.value, 16), (spend(tx),)
    except ValueError as error:
        raise RailFault(f"block {block.hash} cannot be decoded: {error} in transaction {tx.hash}") from error
    if amount == 0:
        return None
    evidence = {"from": tx.sender, "node": lens.node, "source": "tx"}
    rivals = tuple(displaced(tx, lens))
    raw = msgspec.to_builtins(tx)
    transfer = Transfer(tx.hash, "tx", key, native, amount, block, None, spends, rivals, evidence=evidence, raw=raw)
    return (block.height, at, 0, 0), transfer


def spend(tx: Transaction) -> str:
    """What a transaction consumes: its sender's nonce, in decimal."""
    return f"{tx.sender}:{int(tx.nonce, 16)}"


def displaced(tx: Transaction, lens: Lens) -> list[str]:
    """The live detections' transactions that ``tx`` has taken the nonce of."""
    return sorted(old for old in lens.watches.spends.get(spend(tx), ()) if old != tx.hash)


def rival_transfers(block: FullBlock, ref: BlockRef, native: AssetId, told: set[str], lens: Lens) -> list[Placed]:
    """Transactions that displace a live detection's and pay nobody who is watched; ``told`` are spoken for already."""
    if not lens.watches.spends:
        return []
    return [
        (
            (ref.height, at, 0, 0),
            Transfer(tx.hash, "tx", NOBODY, native, 0, ref, spends=(spend(tx),), rivals=tuple(rivals)),
        )
        for at, tx in enumerate(block.transactions)
        if tx.hash not in told and (rivals := displaced(tx, lens))
    ]

"""From transactions and traces to ether's transfers: match first, decode after. Pure.

A block's ether has one source, its traces or its transactions, never both (HAZARDS E5).
"""

from collections.abc import Sequence

import msgspec

from railwatch.rail import NO_RECIPIENT, AssetId, BlockRef, RailUnavailable, Transfer
from railwatch.rail.decoding import off_loop, printable, read_hex, read_quantity
from railwatch_evm.decode import DecodeContext, OrderedTransfer
from railwatch_evm.traces import Trace, credits_of, moves
from railwatch_evm.wire import ZERO, FullBlock, Transaction

FRAME_BYTES = 200
"""What one frame weighs, to know when there are many."""
SENDERS_NONCE = frozenset({0x0, 0x1, 0x2, 0x3, 0x4, 0x71, 0x7A, 0x7B, 0x7C})
"""Types whose nonce is the sender's account's: Ethereum's, zkSync's (0x71) and Celo's. In all others it is
something else: Arbitrum's deposits, retryables (the ticket's tries) and internal transactions, the deposits of the OP
stack and of ZK chains (0xff: a number of the bridge's queue), bor's state-sync, and types that are not known yet."""


async def traced_transfers(
    traces: Sequence[Trace], tx_ids: Sequence[str], block: BlockRef, native: AssetId, context: DecodeContext
) -> list[OrderedTransfer]:
    """Ether's transfers of one block from its traces, which hold the transactions' own values too (E5).

    ``tx_ids`` are the block's transactions in order. Many frames are read in a thread; who is watched is
    asked on it. Raises `RailUnavailable` with the hash for a frame beyond reading.
    """
    size = len(traces) * FRAME_BYTES
    try:
        found = await off_loop(size, lambda: moves(traces))
        watched = context.watches.hits([key for _, key, _ in found])
        credits = await off_loop(size, lambda: credits_of(traces, found, watched)) if watched else []
    except RailUnavailable as error:
        raise RailUnavailable(f"block {block.hash} cannot be decoded: {error}") from error
    positions = {tx_id: position for position, tx_id in enumerate(tx_ids)} if credits else {}
    placed = []
    for ordinal, credit in enumerate(credits):
        if credit.tx_id not in positions:
            raise RailUnavailable(f"block {block.hash}: a trace of {printable(credit.tx_id, 80)}, which is not in it")
        tx_id = read_hex(credit.tx_id, 32, f"block {block.hash} cannot be decoded")
        index = "call:" + ".".join(map(str, credit.path)) if credit.path else "tx"
        evidence = {"from": printable(credit.sender, 80), "node": context.node, "source": "trace"}
        transfer = Transfer(tx_id, index, credit.to, native, credit.amount, block, evidence=evidence)
        placed.append(((block.height, positions[credit.tx_id], 0, ordinal), transfer))
    return placed


def match_transactions(block: FullBlock, context: DecodeContext) -> list[tuple[int, Transaction, bytes]]:
    """Transactions that carry ether to a watched address: position, transaction, key. Whether they failed is unknown.

    The type plays no part: what an L2's system deposits deliver is a value like any other (E15).
    """
    shaped = [(at, tx) for at, tx in enumerate(block.transactions) if _pays(tx)]
    try:
        keys = [bytes.fromhex((tx.to or "")[2:]) for _, tx in shaped]
    except ValueError as error:
        raise RailUnavailable(f"block {block.hash} cannot be decoded: a recipient is no hex") from error
    watched = context.watches.hits(keys)
    return [(at, tx, key) for (at, tx), key in zip(shaped, keys, strict=True) if key in watched]


def place_transaction(
    at: int, tx: Transaction, key: bytes, block: BlockRef, native: AssetId, context: DecodeContext
) -> OrderedTransfer | None:
    """Return a transaction's own value, or None. It spends its sender's nonce: a replacement has the same nonce.

    Raises `RailUnavailable` with the block's hash for numbers that are none.
    """
    what = f"block {block.hash} cannot be decoded: transaction {printable(tx.hash, 80)}"
    tx_id, amount = read_hex(tx.hash, 32, what), read_quantity(tx.value or "0x0", what)
    if amount == 0:
        return None
    evidence = {"from": printable(tx.sender or "", 80), "node": context.node, "source": "tx"}
    rivals = tuple(displaced(tx, context))
    raw = {name: printable(value) for name, value in msgspec.to_builtins(tx).items() if value is not None}
    transfer = Transfer(tx_id, "tx", key, native, amount, block, None, spends(tx), rivals, evidence=evidence, raw=raw)
    return (block.height, at, 0, 0), transfer


def _pays(tx: Transaction) -> bool:
    """Whether a transaction carries value to another account: what an account sends to itself arrives nowhere."""
    return tx.to is not None and tx.value not in ZERO and tx.to.lower() != (tx.sender or "").lower()


def spends(tx: Transaction) -> tuple[str, ...]:
    """Return what a transaction consumes: its sender's nonce in decimal, or nothing where there is no nonce."""
    if tx.nonce is None or tx.sender is None:
        return ()
    if tx.type is not None and read_quantity(tx.type, "a transaction's type") not in SENDERS_NONCE:
        return ()
    return (f"{read_hex(tx.sender, 20, 'a sender')}:{read_quantity(tx.nonce, 'a nonce')}",)


def displaced(tx: Transaction, context: DecodeContext) -> list[str]:
    """Return the transactions of live detections whose nonce ``tx`` has used."""
    return sorted(old for spent in spends(tx) for old in context.watches.spends.get(spent, ()) if old != tx.hash)


def rival_transfers(
    block: FullBlock, ref: BlockRef, native: AssetId, seen: set[str], context: DecodeContext
) -> list[OrderedTransfer]:
    """Return rivals of live detections that pay no watched address, without those already in ``seen``."""
    if not context.watches.spends:
        return []
    return [
        (
            (ref.height, at, 0, 0),
            Transfer(tx.hash, "tx", NO_RECIPIENT, native, 0, ref, spends=spends(tx), rivals=tuple(rivals)),
        )
        for at, tx in enumerate(block.transactions)
        if tx.hash not in seen and (rivals := displaced(tx, context))
    ]

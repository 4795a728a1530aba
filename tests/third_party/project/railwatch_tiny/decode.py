"""From the node's answers to the seam's values: pure, so that odd blocks are tested without a node."""

from datetime import UTC, datetime

import msgspec

from railwatch.rail import AssetId, BlockRef, RailFault, Transfer, Watches


class Tx(msgspec.Struct):
    """One transaction. ``amount`` in base units; a failed one pays nothing."""

    id: str
    to: str
    amount: int
    failed: bool = False


class Block(msgspec.Struct):
    """One block. ``time`` in seconds since 1970; ``count`` says how many transactions it has."""

    height: int
    hash: str
    parent: str
    time: int
    count: int
    txs: list[Tx]

    @property
    def ref(self) -> BlockRef:
        """The block's name and place."""
        return BlockRef(self.height, self.hash, self.parent, datetime.fromtimestamp(self.time, UTC))


def transfers(block: Block, asset: AssetId, watches: Watches) -> list[Transfer]:
    """Return what the block pays to watched addresses. Raises `RailFault` for a recipient that is no address."""
    try:
        keys = {tx.id: bytes.fromhex(tx.to.removeprefix("tiny:")) for tx in block.txs}
    except ValueError as error:
        raise RailFault(f"block {block.hash} cannot be decoded: {error}") from error
    watched = watches.hits(set(keys.values()))
    return [
        Transfer(tx.id, "out:0", keys[tx.id], asset, tx.amount, block.ref, evidence={"to": tx.to}, raw={"tx": tx.id})
        for tx in block.txs
        if keys[tx.id] in watched and tx.amount and not tx.failed
    ]

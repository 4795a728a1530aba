"""Chooses the blocks that become checkpoints: those to which a reorg may return."""

from collections.abc import Iterable, Sequence

from railwatch.core.step import BlockBatch, Position
from railwatch.rail.types import BlockRef, Transfer
from railwatch.store.errors import BranchChanged

CHECKPOINT_SPACING = 16
"""Each block at a multiple of this height becomes a checkpoint, although nothing was found in it."""


def checkpoints(batch: BlockBatch, position: Position) -> list[BlockRef]:
    """Return the checkpoints of a batch: blocks with transfers, and a sparse row of others."""
    if batch.span.finalized:
        # Reported finality is an anchor by itself. Without it the end of a final span is one.
        return [] if position.finalized else list(batch.blocks[-1:])
    with_transfers = {transfer.block.height for transfer in batch.transfers if transfer.block}
    return [
        block
        for block in batch.blocks
        if (block.height in with_transfers or is_regular(block)) and is_reorgable(block, position)
    ]


def is_regular(block: BlockRef) -> bool:
    """Return True if the block belongs to the sparse row."""
    return block.height % CHECKPOINT_SPACING == 0


def is_reorgable(block: BlockRef, position: Position) -> bool:
    """Return True if a reorg can still orphan the block."""
    return position.finalized is None or block.height > position.finalized.height


def affected_blocks(
    transfers: Sequence[Transfer], position: Position, canonical: Iterable[BlockRef] = ()
) -> list[BlockRef]:
    """Return the reorgable blocks among ``canonical`` and those that hold transfers, one a height, ascending."""
    blocks = {block.height: block for block in canonical}
    blocks |= {transfer.block.height: transfer.block for transfer in transfers if transfer.block}
    return [blocks[height] for height in sorted(blocks) if is_reorgable(blocks[height], position)]


def require_below(cursor: BlockRef, transfers: Sequence[Transfer]) -> None:
    """Raise `BranchChanged` if one of the transfers can be neither in ``cursor`` nor in an ancestor of it."""
    for transfer in transfers:
        block = transfer.block
        is_above = block is None or block.height > cursor.height
        if is_above or (block is not None and block.height == cursor.height and block.hash != cursor.hash):
            raise BranchChanged(
                f"transaction {transfer.tx_id} is not in a block of the branch that ends in {cursor.hash}"
            )

"""What a rail's follower remembers of its chain: the cursor, finality, and the blocks that a reorg may lead back to.

The state changes only after a commit, and equals what a restart reads from the database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from railwatch.rail.types import BlockRef, Heads


@dataclass(frozen=True, slots=True)
class SyncState:
    """The synchronization state of one rail after its last committed step.

    ``cursor`` is the last committed block, None before the first step. ``finalized`` is the highest final block at or
    below it, None where none is known. ``checkpoints`` are stored blocks that a reorg may return to, in ascending
    order. ``rewinds`` counts the reorgs, and so names the branch that the cursor is on.
    """

    cursor: BlockRef | None = None
    finalized: BlockRef | None = None
    checkpoints: tuple[BlockRef, ...] = ()
    rewinds: int = 0

    @property
    def head(self) -> BlockRef:
        """Return the cursor. Raises `RuntimeError` before the first step."""
        if self.cursor is None:
            raise RuntimeError("the rail has not begun")
        return self.cursor

    @property
    def reorg_points(self) -> tuple[BlockRef, ...]:
        """Return the blocks below the cursor that a reorg may return to, in ascending order, the anchor first."""
        below = tuple(point for point in self.checkpoints if point.height < self.head.height)
        if self.finalized is None or self.finalized.height >= self.head.height:
            return below
        return (self.finalized, *(point for point in below if point.height > self.finalized.height))

    @property
    def anchor(self) -> BlockRef:
        """Return the highest block that no reorg may pass: the final one, else the oldest checkpoint."""
        return next(iter(self.reorg_points), self.head)

    @property
    def anchor_height(self) -> int | None:
        """Return the height below which no checkpoint is of use; None while there is none below the cursor."""
        return next((point.height for point in self.reorg_points), None)

    def finality(self, cursor: BlockRef, heads: Heads) -> BlockRef | None:
        """Return the highest final block at or below ``cursor``. Finality never decreases, whatever a node reports."""
        reported = heads.finalized
        if reported is None:
            return self.finalized
        reached = min(reported, cursor, key=lambda block: block.height)
        if self.finalized is not None and self.finalized.height >= reached.height:
            return self.finalized
        return reached

    def without_finality(self) -> "SyncState":
        """Return the state without its finality, before a person's decision rewinds below it."""
        return replace(self, finalized=None)

    def orphaned_by(self, fork: BlockRef) -> tuple[BlockRef, ...]:
        """Return the known blocks that a rewind to ``fork`` orphans, in ascending order."""
        return tuple(block for block in (*self.checkpoints, self.head) if block.height > fork.height)

    def rewind(self, fork: BlockRef) -> "SyncState":
        """Return the state at ``fork``, without the checkpoints above it."""
        kept = tuple(point for point in self.checkpoints if point.height <= fork.height)
        return replace(self, cursor=fork, checkpoints=kept, rewinds=self.rewinds + 1)

    def advance(
        self, cursor: BlockRef, finalized: BlockRef | None, kept: Sequence[BlockRef], horizon: int
    ) -> "SyncState":
        """Return the state after a step to ``cursor`` that stored ``kept`` as checkpoints."""
        checkpoints = _merge(self.checkpoints, kept)
        return replace(self, cursor=cursor, finalized=finalized, checkpoints=checkpoints).prune(horizon)

    def admit(self, points: Sequence[BlockRef], above: int | None = None) -> "SyncState":
        """Return the state with ``points``, which a look-back, a rescan or an inclusion check stored.

        ``above``: the points replace all checkpoints from this height on, inclusive. Points above the cursor are
        discarded.
        """
        left = (point for point in self.checkpoints if above is None or point.height < above)
        merged = _merge(left, points)
        return replace(self, checkpoints=tuple(point for point in merged if point.height <= self.head.height))

    def prune(self, horizon: int) -> "SyncState":
        """Return the state without the checkpoints that no reorg may return to.

        Finality bounds them. Without finality the highest checkpoint that is ``horizon`` deep does, and stays. Every
        final transfer lies at or below that anchor, so the chain that holds the anchor holds all of them.
        """
        if self.finalized is not None:
            kept = tuple(point for point in self.checkpoints if point.height > self.finalized.height)
            return replace(self, checkpoints=kept)
        deepest = self.head.height - horizon + 1
        beyond = sum(1 for point in self.checkpoints if point.height <= deepest)
        return replace(self, checkpoints=self.checkpoints[max(0, beyond - 1) :])


def _merge(known: Iterable[BlockRef], added: Sequence[BlockRef]) -> tuple[BlockRef, ...]:
    """Return both in ascending order. Of two blocks at one height the added one stays, as in the database."""
    if not added:
        return tuple(known)
    by_height = {block.height: block for block in (*known, *added)}
    return tuple(by_height[height] for height in sorted(by_height))

"""Compares the stored inclusions that can still be undone with the node's chain, once whenever a rail is resumed.

The fork search compares checkpoints, and trusts that each inclusion lies between two of them. That holds for what this
version writes. It need not hold for rows of an older version, of a backup, of a person's hand, or of a defect that has
been fixed since. So each block that holds such an inclusion is asked for by its height before anything is promoted;
an inclusion whose block is not on the chain that leads to the cursor is removed as a reorg removes it, and what
its transaction pays by now is searched for and recorded in the same commit.

The cost is one question for each block with an inclusion that is not final, and none where there is none.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.follow.steadiness import NodeLagging
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.daemon.watch.search import search
from railwatch.daemon.watch.watchlist import ExplicitWatches
from railwatch.rail import BlockGone, BlockRef, NotKept, Transfer
from railwatch.store.steps import InclusionBlock

CONCURRENCY = 8
"""Blocks that are asked for at the same time."""

NO_WATCHES = ExplicitWatches(frozenset(), {})


@dataclass(frozen=True, slots=True)
class Compared:
    """Stored blocks that hold inclusions: those on the node's chain, and those that are not."""

    canonical: Sequence[BlockRef]
    gone: Sequence[InclusionBlock]


@dataclass(slots=True)
class InclusionCheck:
    """The check of one rail, under one lease. The follower runs it before it commits, until it has succeeded once."""

    node: NodeSet
    follower: ChainFollower
    _put_off: bool = False
    """Steps may have been committed meanwhile, and promoted nothing."""
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.follower.committer.rail)

    async def run(self, fork: BlockRef | None) -> bool:
        """Compare and record. Return False while the node's chain does not hold the cursor: follow it there first.

        ``fork``: what the next step rewinds to. That step removes all above it; what is below must be canonical.
        Raises what the node and the store raise, and `NodeLagging` where another node holds a block that the one which
        answers does not.
        """
        follower = self.follower
        end, anchor = fork or follower.sync.head, follower.sync.anchor
        stored = await follower.committer.steps.inclusion_blocks(anchor.height)
        if not stored and not self._put_off:
            return True
        self._put_off = True
        try:
            compared = await self._compare(stored, end)
            if (await self.node.block_at(end.height)).hash != end.hash:
                return False
            if fork is not None:
                self._put_off = any(block.height <= fork.height for block in compared.gone)
                return not self._put_off
            await self._record(compared, anchor, end)
        except BlockGone as moved:
            self._log.info("chain.replanned", step="inclusion_check", reason=str(moved))
            return False
        self._put_off = False
        return True

    async def _record(self, compared: Compared, anchor: BlockRef, cursor: BlockRef) -> None:
        follower = self.follower
        rewinds, transfers = follower.sync.rewinds, await self._search(compared.gone, anchor, cursor)
        found_again = {(each.block.height, each.block.hash) for each in transfers if each.block}
        gone = [block for block in compared.gone if (block.height, block.hash) not in found_again]
        kept = await follower.committer.commit_inclusion_check(rewinds, compared.canonical, gone, transfers)
        follower.merge(transfers, kept, above=min((block.height for block in gone), default=None))
        for block in gone:
            self._log.critical("inclusion.not_on_chain", height=block.height, hash=block.hash)

    async def _compare(self, stored: Sequence[InclusionBlock], end: BlockRef) -> Compared:
        """Ask the node for its block at each height. A block that no node keeps any more is not judged."""
        canonical, gone = list[BlockRef](), [block for block in stored if block.height > end.height]
        below = [block for block in stored if block.height <= end.height]
        for first in range(0, len(below), CONCURRENCY):
            batch = below[first : first + CONCURRENCY]
            for block, held in zip(batch, await asyncio.gather(*map(self._held, batch)), strict=True):
                if held is None:
                    continue
                if (held.height, held.hash) == (block.height, block.hash):
                    canonical.append(held)
                else:
                    await self._confirm(block)
                    gone.append(block)
        return Compared(canonical, gone)

    async def _held(self, block: InclusionBlock) -> BlockRef | None:
        try:
            return await self.node.block_at(block.height)
        except NotKept:
            return None

    async def _confirm(self, block: InclusionBlock) -> None:
        """Ask another node too, where one answers: one node alone orphans nothing."""
        answering = self.node.answering
        reread = await self.node.reread((block.height, block.hash), NO_WATCHES, answering)
        if reread.block_hash == block.hash:
            raise NodeLagging(f"{answering} does not hold block {block.hash} at {block.height}, and {reread.node} does")

    async def _search(self, gone: Sequence[InclusionBlock], anchor: BlockRef, cursor: BlockRef) -> Sequence[Transfer]:
        """Find what the chain pays from the lowest of those blocks on; as far back as a look-back goes, at most."""
        heights = [block.height for block in gone if block.height <= cursor.height]
        if not heights:
            return ()
        follower = self.follower
        lowest = min(anchor.height, cursor.height - follower.committer.traits.lookback)
        start = max(0, lowest, min(heights) - 1)
        transfers, _ = await search(self.node, follower.committer.traits, start, cursor, follower.watches)
        return transfers

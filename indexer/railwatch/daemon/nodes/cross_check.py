"""The comparison of a rail's nodes: what more than half of them have on one chain.

Two clients followed different chains in ETC's first attack of 2020, and each of them seemed healthy (HAZARDS,
"Nodes"). A node may also invent blocks, or finality, ahead of all others. So a height, a hash, a safe or a finalized
block counts only as far as more than half of the voting nodes have it on their own chain. Of two voters both must have
it: no rule can know which of two is right. A third node decides.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from railwatch.daemon.nodes.node import Node
from railwatch.rail import BlockGone, BlockRef, Heads, RailFault, RailUnavailable

TIP_RACE_DEPTH = 1
"""Heights at the tip at which honest nodes may differ for a while: two blocks race, and the next block decides."""

LAG_MAX_SECONDS = 30.0
"""Seconds within which the active node must reach the height of a majority, and a majority that of the active node."""

COMPARE_SECONDS = 2.0
"""Seconds to wait for a node's block at one height, to compare it with another node's."""

MEMO_MAX = 256
"""Compared blocks to remember, by node, head and height."""


class Disagreement(RailUnavailable):
    """Voting nodes report different chains. Ends by itself once they agree."""


@dataclass(frozen=True, slots=True)
class NodeHead:
    """One node and its heads. ``present`` False: the node is briefly unavailable, and these are its last heads."""

    node: Node
    heads: Heads
    present: bool = True

    @property
    def name(self) -> str:
        """The node's name in the configuration."""
        return self.node.name

    @property
    def height(self) -> int:
        """The height of the node's newest block."""
        return self.heads.latest.height


@dataclass(frozen=True, slots=True)
class HeadConflict:
    """Two nodes' blocks at one height, below the tip of both."""

    ours: NodeHead
    theirs: NodeHead
    our_block: BlockRef
    their_block: BlockRef

    def __str__(self) -> str:
        return (
            f"at height {self.our_block.height} {self.ours.name} has {self.our_block.hash}, "
            f"and {self.theirs.name} has {self.their_block.hash}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The part of the active node's chain that the daemon may follow.

    ``heads``: as far as a majority has it; None where there is no such block. ``reached``: the height that a majority
    has reached, on any chain. ``outvoted``: the active node is ahead of a majority that has not followed it.
    """

    heads: Heads | None
    reached: int
    outvoted: bool
    agreeing: int
    conflicts: Sequence[HeadConflict]


def majority(voters: int) -> int:
    """Return the least number that is more than half of ``voters``: 1 of 1, 2 of 2, 2 of 3, 3 of 4."""
    return voters // 2 + 1


class CrossCheck:
    """The comparison of one rail's nodes. It queries a node only if heads are neither equal nor parent and child."""

    def __init__(self) -> None:
        self._memo: dict[tuple[int, str, int], BlockRef] = {}

    async def check_majority(self, ours: NodeHead, others: Sequence[NodeHead]) -> Verdict:
        """Compare the active node with the other voters. A node that cannot return a block does not confirm it.

        While no head moves this sends no query. When a head has moved it sends each node at most two queries for the
        newest block and one for the finalized block. It reuses a node's answers until that node's head moves.
        """
        if not others:
            return Verdict(ours.heads, ours.height, outvoted=False, agreeing=1, conflicts=())
        needed = majority(1 + len(others))
        heights = sorted((each.height for each in (ours, *others)), reverse=True)
        latest = await self._latest(ours, others, heights, needed)
        conflicts = await self._conflicts(ours, others, latest)
        # A block at this height may be valid: the nodes that have not reached it are fewer than a majority. So nothing
        # above our own block is known to be complete.
        open_height = max(heights[-needed], ours.height)
        heads = None
        if latest is not None:
            heads = Heads(
                latest,
                safe=await self._mark(ours, others, needed, latest, lambda heads: heads.safe),
                finalized=await self._mark(ours, others, needed, latest, lambda heads: heads.finalized),
                claimed_height=open_height if open_height > latest.height else None,
            )
        return Verdict(
            heads,
            heights[needed - 1],
            outvoted=ours.height > heights[-needed],
            agreeing=1 + len(others) - len(conflicts),
            conflicts=conflicts,
        )

    async def conflicts(self, ours: NodeHead, theirs: NodeHead) -> bool:
        """Return True if the two are known to report different chains."""
        return await self._conflict(ours, theirs, None) is not None

    async def _latest(
        self, ours: NodeHead, others: Sequence[NodeHead], heights: Sequence[int], needed: int
    ) -> BlockRef | None:
        """Return our chain's highest block that ``needed`` nodes have, at the nodes' heads or just below them."""
        for height in _candidates(min(heights[needed - 1], ours.height), heights):
            block = await self._our_block(ours, others, height)
            if block is not None and await self._has_majority(block, others, needed):
                return block
        return None

    async def _our_block(self, ours: NodeHead, others: Sequence[NodeHead], height: int) -> BlockRef | None:
        for each in others:
            if each.height == height and each.heads.latest.hash == ours.heads.latest.parent:
                return each.heads.latest
        return await self._block_of(ours, height)

    async def _has_majority(self, block: BlockRef, others: Sequence[NodeHead], needed: int) -> bool:
        held = await asyncio.gather(*(self._holds(each, block) for each in others))
        return 1 + sum(held) >= needed

    async def _holds(self, theirs: NodeHead, block: BlockRef) -> bool:
        """Return True if the node is known to have that block on its chain."""
        latest = theirs.heads.latest
        if latest.height < block.height:
            return False
        if block.hash in (latest.hash, latest.parent):
            return True
        same_height = await self._block_of(theirs, block.height)
        return same_height is not None and same_height.hash == block.hash

    async def _block_of(self, of: NodeHead, height: int) -> BlockRef | None:
        """Return the node's canonical block at ``height`` (or the nearest below); None if it cannot return it now."""
        latest, finalized = of.heads.latest, of.heads.finalized
        if height >= latest.height:
            return latest if height == latest.height else None
        if finalized is not None and finalized.height == height:
            return finalized
        key = (id(of.node), latest.hash, height)  # two nodes may have one name
        if key not in self._memo:
            block = await _ask_block(of, height) if of.present else None
            if block is None:
                return None
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[key] = block
        return self._memo[key]

    async def _conflicts(
        self, ours: NodeHead, others: Sequence[NodeHead], latest: BlockRef | None
    ) -> Sequence[HeadConflict]:
        found = await asyncio.gather(*(self._conflict(ours, each, latest) for each in others))
        return [conflict for conflict in found if conflict is not None]

    async def _conflict(self, ours: NodeHead, theirs: NodeHead, latest: BlockRef | None) -> HeadConflict | None:
        """Return where the two report different chains, races at the tip aside; None if they cannot be compared."""
        if _follow_one_another(ours.heads.latest, theirs.heads.latest):
            return None
        height = min(ours.height, theirs.height) - TIP_RACE_DEPTH
        if height < 0 or (latest is not None and height <= latest.height and await self._holds(theirs, latest)):
            return None
        our_block, their_block = await asyncio.gather(self._block_of(ours, height), self._block_of(theirs, height))
        if our_block is None or their_block is None or our_block.hash == their_block.hash:
            return None
        return HeadConflict(ours, theirs, our_block, their_block)

    async def _mark(
        self,
        ours: NodeHead,
        others: Sequence[NodeHead],
        needed: int,
        latest: BlockRef,
        mark_of: Callable[[Heads], BlockRef | None],
    ) -> BlockRef | None:
        """Return our chain's highest block that ``needed`` nodes call safe (or finalized), at or below ``latest``."""
        mine = mark_of(ours.heads)
        if mine is None:
            return None
        marks = [(each, mark) for each in others if (mark := mark_of(each.heads)) is not None]
        heights = sorted((mine.height, *(mark.height for _, mark in marks)), reverse=True)
        if len(heights) < needed:
            return None
        start = min(heights[needed - 1], mine.height, latest.height)
        for height in sorted({start, *(each for each in heights if each < start)}, reverse=True):
            known = next((each for each in (mine, latest) if each.height == height), None)
            block = known or await self._block_of(ours, height)
            voters = [each for each, mark in marks if mark.height >= height]
            if block is not None and await self._has_majority(block, voters, needed):
                return block
        return None


async def _ask_block(of: NodeHead, height: int) -> BlockRef | None:
    try:
        async with asyncio.timeout(COMPARE_SECONDS):
            return await of.node.ask(lambda adapter: adapter.block_at(height))
    except (RailUnavailable, BlockGone, RailFault, TimeoutError):
        return None


def _candidates(start: int, heights: Sequence[int]) -> Iterator[int]:
    """Return ``start``, the heads below it, and each of these less the heights of a race; descending."""
    tops = {start, *(height for height in heights if height < start)}
    yield from sorted({top - back for top in tops for back in (0, TIP_RACE_DEPTH) if top >= back}, reverse=True)


def _follow_one_another(one: BlockRef, other: BlockRef) -> bool:
    return one.hash == other.hash or one.parent == other.hash or other.parent == one.hash


def disagreement(verdict: Verdict) -> RailUnavailable:
    """Return the error that says why a rail has no agreed block."""
    if not verdict.conflicts:
        return RailUnavailable(
            "the nodes cannot be compared: no block is known to be on more than half of them; the rail is paused until "
            "a majority answers. Query each node with: railwatch check"
        )
    return Disagreement(
        f"nodes disagree ({verdict.agreeing} vs {len(verdict.conflicts)}): {verdict.conflicts[0]}; the rail is paused "
        "until a majority report the same chain. Find the wrong one by docs/runbooks/rail-stalled.md"
    )


@dataclass(slots=True)
class LagDetector:
    """Detection of a height that is not reached in time, on fast and on slow chains."""

    _marked: tuple[float, int] | None = field(default=None)

    def lags(self, reached: int, wanted: int) -> int:
        """Return how many heights ``reached`` is below the height wanted `LAG_MAX_SECONDS` ago; 0 if it keeps up."""
        now = time.monotonic()
        if self._marked is None or self._marked[1] <= reached:
            self._marked = None if wanted <= reached else (now, wanted)
        if self._marked is None:
            return 0
        since, height = self._marked
        return height - reached if now - since > LAG_MAX_SECONDS else 0

    def forget(self) -> None:
        """Forget the marked height, because another node is active now."""
        self._marked = None

"""What more than half of a rail's nodes have reached on one ancestry, and what to do when there is no such thing.

Two clients stayed on different chains in ETC's first attack of 2020, and each of them looked healthy (HAZARDS,
"Nodes"); a node may also make up blocks, or finality, ahead of everybody else. So a height, a hash, a safe or a
finalized block counts only as far as more than half of the voting nodes have it on their own chain. With two voters
that is both of them; nobody can know which of two is right, and a third node decides it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from railwatch.daemon.nodes.node import Node
from railwatch.rail import BlockGone, BlockRef, Heads, RailFault, RailUnavailable

TIP_RACE_DEPTH = 1
"""Heights at the tip on which honest nodes may differ for a while: two blocks race, and the next one decides."""

LAG_MAX_SECONDS = 30.0
"""Seconds after which the answering node must have reached what a majority told, and a majority what it told."""

COMPARE_SECONDS = 2.0
"""How long a node's block at one height is waited for, to compare it with another's."""

MEMO_MAX = 256
"""Blocks remembered of nodes whose head has not moved since."""


class Disagreement(RailUnavailable):
    """The nodes that answer tell different chains. Heals by itself as soon as they agree."""


@dataclass(frozen=True, slots=True)
class NodeHead:
    """One node and its heads. ``present`` False: it is away for a moment, and this is what it told last."""

    node: Node
    heads: Heads
    present: bool = True

    @property
    def name(self) -> str:
        """The node's name in the configuration."""
        return self.node.name

    @property
    def height(self) -> int:
        """The height of its newest block."""
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
    """What may be believed of the answering node's chain.

    ``heads``: as far as a majority has it; None where there is no such block. ``reached``: the height that a majority
    has reached, on whatever chain. ``outvoted``: the answering node is ahead of a majority that has not followed it.
    """

    heads: Heads | None
    reached: int
    outvoted: bool
    agreeing: int
    conflicts: Sequence[HeadConflict]


def majority(voters: int) -> int:
    """How many of ``voters`` are more than half: 1 of 1, 2 of 2, 2 of 3, 3 of 4."""
    return voters // 2 + 1


class CrossCheck:
    """Compares the nodes of one rail. Asks only where heads neither are equal nor follow one another."""

    def __init__(self) -> None:
        self._memo: dict[tuple[int, str, int], BlockRef] = {}

    async def check_majority(self, ours: NodeHead, others: Sequence[NodeHead]) -> Verdict:
        """Compare the answering node with the other voters. A node that cannot tell a block agrees to nothing.

        A quiet round asks nothing. A round in which a head has moved asks at most two questions of each node for its
        newest block, and one for its finalized block; what was told while a head stood still is not asked again.
        """
        if not others:
            return Verdict(ours.heads, ours.height, outvoted=False, agreeing=1, conflicts=())
        needed = majority(1 + len(others))
        heights = sorted((each.height for each in (ours, *others)), reverse=True)
        latest = await self._latest(ours, others, heights, needed)
        conflicts = await self._conflicts(ours, others, latest)
        # The highest height that fewer than a majority have not reached: it may be true, so nothing above our own
        # block is known to be all there is.
        open_height = max(heights[-needed], ours.height)
        heads = None
        if latest is not None:
            heads = Heads(
                latest,
                safe=await self._mark(ours, others, needed, latest, lambda told: told.safe),
                finalized=await self._mark(ours, others, needed, latest, lambda told: told.finalized),
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
        """Whether the two are known to tell different chains."""
        return await self._conflict(ours, theirs, None) is not None

    async def _latest(
        self, ours: NodeHead, others: Sequence[NodeHead], heights: Sequence[int], needed: int
    ) -> BlockRef | None:
        """The highest block of our chain that ``needed`` nodes have; looked for at the nodes' heads and just below."""
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

    async def _holds(self, witness: NodeHead, block: BlockRef) -> bool:
        """Whether the witness is known to have that block on its chain."""
        latest = witness.heads.latest
        if latest.height < block.height:
            return False
        if block.hash in (latest.hash, latest.parent):
            return True
        told = await self._block_of(witness, block.height)
        return told is not None and told.hash == block.hash

    async def _block_of(self, of: NodeHead, height: int) -> BlockRef | None:
        """The node's canonical block at ``height`` (or the nearest below); None where it cannot tell it now."""
        latest, finalized = of.heads.latest, of.heads.finalized
        if height >= latest.height:
            return latest if height == latest.height else None
        if finalized is not None and finalized.height == height:
            return finalized
        key = (id(of.node), latest.hash, height)  # two nodes may have one name
        if key not in self._memo:
            told = await _ask_block(of, height) if of.present else None
            if told is None:
                return None
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[key] = told
        return self._memo[key]

    async def _conflicts(
        self, ours: NodeHead, others: Sequence[NodeHead], latest: BlockRef | None
    ) -> Sequence[HeadConflict]:
        found = await asyncio.gather(*(self._conflict(ours, each, latest) for each in others))
        return [conflict for conflict in found if conflict is not None]

    async def _conflict(self, ours: NodeHead, theirs: NodeHead, latest: BlockRef | None) -> HeadConflict | None:
        """Where the two tell different chains, but for a race at the tip. What cannot be compared is no dispute."""
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
        """The highest block of our chain that ``needed`` nodes call safe (or finalized), at or below ``latest``."""
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
    """``start``, the heads below it, and each of these less the heights that a race may contest; descending."""
    tops = {start, *(height for height in heights if height < start)}
    yield from sorted({top - back for top in tops for back in (0, TIP_RACE_DEPTH) if top >= back}, reverse=True)


def _follow_one_another(one: BlockRef, other: BlockRef) -> bool:
    return one.hash == other.hash or one.parent == other.hash or other.parent == one.hash


def disagreement(verdict: Verdict) -> RailUnavailable:
    """Why nothing can be believed."""
    if not verdict.conflicts:
        return RailUnavailable("the nodes could not be compared: no block is known to be on more than half of them")
    return Disagreement(
        f"the nodes disagree, {verdict.agreeing} against {len(verdict.conflicts)}: {verdict.conflicts[0]}; "
        "nothing is believed until more than half of them tell one chain"
    )


@dataclass(slots=True)
class LagDetector:
    """Notices that a height is not reached, however seldom the chain has blocks."""

    _marked: tuple[float, int] | None = field(default=None)

    def lags(self, reached: int, wanted: int) -> int:
        """How many heights ``reached`` is below what was wanted `LAG_MAX_SECONDS` seconds ago; 0: it keeps up."""
        now = time.monotonic()
        if self._marked is None or self._marked[1] <= reached:
            self._marked = None if wanted <= reached else (now, wanted)
        if self._marked is None:
            return 0
        since, height = self._marked
        return height - reached if now - since > LAG_MAX_SECONDS else 0

    def forget(self) -> None:
        """Another node answers now."""
        self._marked = None

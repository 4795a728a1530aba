"""Whether the nodes of one rail tell the same chain, and what to do when they do not.

Two clients stayed on different chains in ETC's first attack of 2020, and each of them looked healthy (HAZARDS,
"Nodes"). Nobody here can know which chain will live, so while a rail's nodes disagree nothing of it is believed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from indexer.rail import BlockRef, RailAdapter, RailUnavailable

CONTESTED = 1
"""Heights at the tip on which honest nodes may differ for a while: two blocks race, and the next one decides."""

BEHIND_ALLOWED = 30.0
"""Seconds after which a node must have reached what another node of its rail told: else it hears no blocks."""


class Disagreement(RailUnavailable):
    """The nodes that answer tell different chains. Heals by itself as soon as they agree."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """One node, and the newest block that it tells."""

    name: str
    adapter: RailAdapter
    latest: BlockRef


@dataclass(frozen=True, slots=True)
class Dispute:
    """Two nodes' blocks at one height, below the tip of both."""

    ours: Testimony
    theirs: Testimony
    our_block: BlockRef
    their_block: BlockRef

    def __str__(self) -> str:
        return (
            f"at height {self.our_block.height} {self.ours.name} has {self.our_block.hash}, "
            f"and {self.theirs.name} has {self.their_block.hash}"
        )


async def compare(ours: Testimony, theirs: Testimony) -> Dispute | None:
    """Where the two tell different chains; None if they agree, but for a race at the tip and for lag.

    Asks nothing where one head follows the other. Raises what the adapters raise.
    """
    if _follow_one_another(ours.latest, theirs.latest):
        return None
    height = min(ours.latest.height, theirs.latest.height) - CONTESTED
    if height < 0:
        return None
    their_block = await theirs.adapter.block_at(height)
    our_block = await ours.adapter.block_at(height)
    return None if our_block.hash == their_block.hash else Dispute(ours, theirs, our_block, their_block)


def _follow_one_another(one: BlockRef, other: BlockRef) -> bool:
    return one.hash == other.hash or one.parent == other.hash or other.parent == one.hash


def verdict(agreeing: int, disputes: Sequence[Dispute]) -> Disagreement | None:
    """What the nodes' testimony amounts to: ours stands only with more than half of those that answer.

    ``agreeing``: nodes that tell our chain, our own among them.
    """
    if agreeing > len(disputes):
        return None
    return Disagreement(
        f"the nodes disagree, {agreeing} against {len(disputes)}: {disputes[0]}; "
        "nothing is believed until more than half of them tell one chain"
    )


@dataclass(slots=True)
class Laggard:
    """Notices a node that no longer keeps up with others of its chain, however seldom the chain has blocks."""

    _marked: tuple[float, int] | None = field(default=None)

    def lags(self, ours: BlockRef, others: Sequence[BlockRef]) -> int:
        """How many heights ``ours`` is behind what others told `BEHIND_ALLOWED` seconds ago; 0: it keeps up."""
        now = time.monotonic()
        if self._marked is None:
            self._marked = (now, max((each.height for each in others), default=0))
        since, height = self._marked
        if height <= ours.height:
            self._marked = None
            return 0
        return height - ours.height if now - since > BEHIND_ALLOWED else 0

    def forget(self) -> None:
        """Another node answers now."""
        self._marked = None

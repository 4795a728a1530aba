"""What to do next on a chain: one pure question, asked again after every answer.

The follower has a cursor (the last block that is committed) and checkpoints below it (stored blocks, oldest first).
The node has heads. Between the two there are only four things to do: nothing, ask for one block, go back to the fork
point and read the new branch from there, or go on.

BlockRefs may be sparse. Every block in which something was found is one, so a block between two checkpoints holds
nothing that could be orphaned, and the highest checkpoint that is still canonical is as good as the true fork point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from railwatch.rail.types import BlockRef, Heads, Span


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the node has said in this round: its heads, and its block at each height that was probed.

    A probed height that the rail skips is answered by the nearest block below. ``verify_cursor``: an earlier answer of
    the round contradicted the cursor, so that it must be probed before anything is built on it.
    """

    heads: Heads
    probed: Mapping[int, BlockRef] = field(default_factory=dict)
    verify_cursor: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``span_max``: the most heights in one step. ``horizon``: the depth that is final if the node reports no finality.

    ``branch_max``: the most heights of a new branch in one step; 0: as ``span_max``. One step emits the whole branch.
    """

    span_max: int
    horizon: int
    branch_max: int = 0


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do. ``lagging``: the node is behind us on our own chain, which is no reorg (HAZARDS E19)."""

    lagging: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask for the canonical block at ``height``, then decide again."""

    height: int


@dataclass(frozen=True, slots=True)
class Scan:
    """Read the blocks of ``span``, which begins at the cursor."""

    span: Span


@dataclass(frozen=True, slots=True)
class Rewind:
    """Orphan everything above ``fork``, and read ``branch``, which begins there, in the same step."""

    fork: BlockRef
    branch: Span


Step = Idle | Probe | Scan | Rewind


class DeepReorg(Exception):
    """The node's chain leaves ours below the oldest checkpoint, or below finality. An operator must decide."""

    def __init__(self, oldest: BlockRef, latest: BlockRef) -> None:
        super().__init__(
            f"DeepReorg: the node's chain (head {latest.height} {latest.hash}) does not hold block {oldest.height} "
            f"{oldest.hash}, the oldest that can still be undone; nothing was changed"
        )
        self.oldest = oldest
        self.latest = latest


def next_step(cursor: BlockRef, checkpoints: Sequence[BlockRef], view: NodeView, limits: Limits) -> Step:
    """Decide the next step of a rail.

    ``checkpoints`` are ascending and below ``cursor``; the first is the anchor, which no reorg may pass. Raises
    `DeepReorg` when even the anchor is not on the node's chain.
    """
    latest = view.heads.latest
    if latest.height <= cursor.height:
        return _at_or_below(cursor, checkpoints, view, limits)
    if latest.parent == cursor.hash:
        return Scan(Span(cursor, latest))
    if not view.verify_cursor:
        # A scan proves by parent hashes that it starts at the cursor, so nothing is asked in advance.
        return _advance(cursor, view, limits)
    is_canonical = _is_canonical(cursor, view)
    if is_canonical is None:
        return Probe(cursor.height)
    return _advance(cursor, view, limits) if is_canonical else _find_fork([*checkpoints, cursor], view, limits)


def _at_or_below(cursor: BlockRef, checkpoints: Sequence[BlockRef], view: NodeView, limits: Limits) -> Step:
    """Decide where the head is no higher than the cursor: the same block, behind it, or on another branch."""
    latest = view.heads.latest
    if latest.hash == cursor.hash:
        return Idle()
    known = [*checkpoints, cursor]
    comparable = [point for point in known if point.height <= latest.height]
    if not comparable:
        return Idle(lagging=True)
    is_canonical = _is_canonical(comparable[-1], view)
    if is_canonical is None:
        return Probe(comparable[-1].height)
    return Idle(lagging=True) if is_canonical else _find_fork(comparable, view, limits)


def _find_fork(known: Sequence[BlockRef], view: NodeView, limits: Limits) -> Step:
    """Go back 1, 2, 4 ... checkpoints until one is canonical, then halve the gap to the lowest orphaned one."""
    verdicts = [_is_canonical(point, view) for point in known]
    fallen = verdicts.index(False)  # the last of ``known`` has fallen: that is why we are here
    canonical = max((place for place in range(fallen) if verdicts[place]), default=-1)
    if fallen == 0:
        raise DeepReorg(known[0], view.heads.latest)
    if canonical == fallen - 1:
        return _adopt_branch(known[canonical], view, limits)
    if canonical >= 0:
        return Probe(known[(canonical + fallen) // 2].height)
    stride = len(known) - fallen
    return Probe(known[max(0, fallen - stride)].height)


def _adopt_branch(fork: BlockRef, view: NodeView, limits: Limits) -> Step:
    upto = _end_of_step(fork, -1, view, replace(limits, span_max=limits.branch_max or limits.span_max))
    return upto if isinstance(upto, Probe) else Rewind(fork, Span(fork, upto))


def _advance(cursor: BlockRef, view: NodeView, limits: Limits) -> Step:
    """Return the next span: up to finality as fast as the node can go, from there on up to the head."""
    settled_to = final_height(view.heads, limits.horizon)
    upto = _end_of_step(cursor, settled_to, view, limits)
    return upto if isinstance(upto, Probe) else Scan(Span(cursor, upto, finalized=upto.height <= settled_to))


def _end_of_step(start: BlockRef, final_height: int, view: NodeView, limits: Limits) -> BlockRef | Probe:
    """Return the last block of a step from ``start``, or the probe for it. Finality and the head end a step early."""
    target, upto = start.height, start
    while upto.height <= start.height:
        # Where the rail skipped every height so far, search further, so that a gap longer than a span is passed.
        end = final_height if final_height > target else view.heads.latest.height
        target = min(end, target + limits.span_max)
        known = _known_block(target, view)
        if known is None:
            return Probe(target)
        upto = known
    return upto


def final_height(heads: Heads, horizon: int) -> int:
    """Return the height up to which blocks are final: the reported one, else ``horizon`` deep, inclusive (-1: none)."""
    if heads.finalized is not None:
        return heads.finalized.height
    return max(-1, heads.latest.height - horizon + 1)


def _known_block(target: int, view: NodeView) -> BlockRef | None:
    """Return the node's block at ``target`` if it was reported in this round."""
    heads = (view.heads.latest, view.heads.finalized, view.heads.safe)
    head_at = next((head for head in heads if head is not None and head.height == target), None)
    return head_at or view.probed.get(target)


def _is_canonical(point: BlockRef, view: NodeView) -> bool | None:
    """Whether the node's chain holds ``point``; None while it has not been asked."""
    known = _known_block(point.height, view)
    return None if known is None else known.hash == point.hash

"""Chains that grow and fork, and the plan of the core against one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from railwatch.core.chain_sync import Limits, NodeView, Probe, Step, next_step
from railwatch.rail.types import BlockRef, Heads
from tests.core.builders import minute


class Chain:
    """One branch: blocks by height, possibly with skipped heights. Its hashes are its name and the height."""

    def __init__(self, blocks: Iterable[BlockRef] = (), name: str = "a") -> None:
        self.blocks = {block.height: block for block in blocks}
        self.name = name

    def grow(self, *heights: int) -> "Chain":
        """Add blocks at those heights, each on top of the one before."""
        for height in heights:
            parent = self.head.hash if self.blocks else ""
            self.blocks[height] = BlockRef(height, f"{self.name}{height}", parent, minute(height))
        return self

    def fork(self, above: int, *heights: int, name: str = "b") -> "Chain":
        """Another branch, which shares the blocks up to ``above`` and has its own at ``heights``."""
        shared = [block for height, block in self.blocks.items() if height <= above]
        return Chain(shared, name).grow(*heights)

    def at(self, height: int) -> BlockRef:
        """The block at ``height``, or the nearest below, as the seam says it."""
        return self.blocks[max(each for each in self.blocks if each <= height)]

    def these(self, *heights: int) -> list[BlockRef]:
        return [self.blocks[height] for height in heights]

    @property
    def head(self) -> BlockRef:
        return self.blocks[max(self.blocks)]

    def heads(self, finalized: int | None = None) -> Heads:
        return Heads(self.head, finalized=None if finalized is None else self.at(finalized))


def chain(upto: int) -> Chain:
    """A chain without gaps from block 0."""
    return Chain().grow(*range(upto + 1))


def plan(
    cursor: BlockRef,
    checkpoints: Sequence[BlockRef],
    node: Chain,
    *,
    span_max: int = 100,
    horizon: int = 1_000,
    doubt: bool = False,
    finalized: int | None = None,
) -> tuple[Step, list[int]]:
    """Ask for the next step, and answer its probes from ``node``: the step, and the heights that were probed."""
    view = NodeView(node.heads(finalized), verify_cursor=doubt)
    probes: list[int] = []
    while True:
        step = next_step(cursor, checkpoints, view, Limits(span_max, horizon))
        if not isinstance(step, Probe):
            return step, probes
        assert step.height not in probes, "the same question twice in one round"
        probes.append(step.height)
        view = replace(view, probed={**view.probed, step.height: node.at(step.height)})

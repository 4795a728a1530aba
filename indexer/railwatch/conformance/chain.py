"""Heads and blocks: the frame that all else hangs in."""

from datetime import timedelta
from itertools import pairwise

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness
from railwatch.rail import BlockGone, BlockRef


class ChainChecks(Conformance):
    """Heads and blocks."""

    async def test_a_mined_block_moves_the_head(self, story: ChainHarness) -> None:
        await story.sim.mine(3)
        line = await story.line()
        assert len(line) == 4
        assert line[-1] == await story.head()

    async def test_nothing_is_mined_unasked(self, story: ChainHarness) -> None:
        """A simulator that mines by itself makes every other check a matter of luck."""
        await story.pay(await story.address())
        assert await story.head() == story.start

    async def test_heads_are_in_order(self, story: ChainHarness) -> None:
        await story.sim.mine(3)
        heads = await story.rail.heads()
        known = [head for head in (heads.finalized, heads.safe, heads.latest) if head is not None]
        assert [head.height for head in known] == sorted(head.height for head in known)

    async def test_heads_are_canonical_blocks(self, story: ChainHarness) -> None:
        await story.sim.mine(3)
        heads = await story.rail.heads()
        for head in (heads.finalized, heads.safe, heads.latest):
            assert head is None or await story.rail.block_at(head.height) == head

    async def test_a_rail_without_finality_calls_nothing_finalized(self, story: ChainHarness) -> None:
        if story.rail.traits.has_finalized:
            pytest.skip("this rail has finality")
        await story.sim.mine(3)
        assert (await story.rail.heads()).finalized is None

    async def test_finality_never_goes_back(self, story: ChainHarness) -> None:
        if not story.rail.traits.has_finalized:
            pytest.skip("this rail has no finality")
        await story.sim.mine(3)
        before = (await story.rail.heads()).finalized
        await story.reorg(1)
        after = (await story.rail.heads()).finalized
        assert before is None or (after is not None and after.height >= before.height)

    async def test_blocks_are_linked_and_rise(self, story: ChainHarness) -> None:
        await story.sim.mine(4)
        for lower, upper in pairwise(await story.line()):
            assert upper.parent == lower.hash
            assert upper.height > lower.height

    async def test_every_height_has_a_block_or_the_nearest_below(self, story: ChainHarness) -> None:
        await story.sim.mine(4)
        for height in range((await story.head()).height + 1)[-8:]:
            assert (await story.rail.block_at(height)).height <= height

    async def test_above_the_head_there_is_no_block(self, story: ChainHarness) -> None:
        with pytest.raises(BlockGone):
            await story.rail.block_at((await story.head()).height + 1)

    async def test_a_reorg_gives_other_blocks_above_the_fork(self, story: ChainHarness) -> None:
        await story.sim.mine(3)
        before = await story.line()
        await story.reorg(2)
        after = await story.line()
        assert before[:2] == after[:2]
        assert {ref.hash for ref in before[2:]}.isdisjoint(ref.hash for ref in after[2:])
        assert len(after) == len(before) + 1

    async def test_times_are_utc(self, story: ChainHarness) -> None:
        await story.sim.mine(2)
        scanned = await story.scan()
        for ref in (*await story.line(), *scanned.blocks):
            assert is_utc(ref), f"the time of block {ref.height} is {ref.time!r}"


def is_utc(ref: BlockRef) -> bool:
    """Whether the block's time carries a zone, and the zone is UTC."""
    return ref.time.utcoffset() == timedelta(0)

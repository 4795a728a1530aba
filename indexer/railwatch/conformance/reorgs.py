"""After a reorg: the same payments under the same names, and never an answer about a branch that is gone."""

from dataclasses import replace

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness, amounts, facts, ids, single
from railwatch.rail import BlockGone, Span


class ReorgChecks(Conformance):
    """Identity over reorgs, and `BlockGone`."""

    async def test_identity_does_not_depend_on_the_block(self, story: ChainHarness) -> None:
        """Two blocks of payments come back as one, so that every place within a block has moved."""
        address = await story.address()
        for units in (1, 2):
            for asset in story.sim.assets:
                await story.pay(address, units, asset)
            await story.sim.mine()
        before = (await story.scan(address)).transfers
        await story.reorg(2)
        after = (await story.scan(address)).transfers
        assert sorted(ids(after)) == sorted(ids(before))
        assert amounts(after, address) == amounts(before, address)

    async def test_inclusion_follows_the_reorg(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address)
        before = single((await story.scan(address)).transfers)
        await story.reorg(1)
        after = single((await story.scan(address)).transfers)
        assert after.block in await story.line()
        assert after.block != before.block

    async def test_a_payment_that_the_reorg_lost_is_not_told(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address, 1)
        kept = await story.head()
        await story.paid(address, 2)
        await story.reorg(1, keep=False)
        assert amounts((await story.scan(address)).transfers, address) == [story.unit]
        assert list((await story.scan(address, after=kept)).transfers) == []

    @pytest.mark.parametrize("depth", [1, 2, 3])
    async def test_a_start_that_is_no_ancestor_is_gone(self, story: ChainHarness, depth: int) -> None:
        address = await story.address()
        await story.sim.mine(2)
        await story.paid(address)
        orphaned = await story.line()
        await story.reorg(depth)
        for after in orphaned[-depth:]:
            await self._is_gone(story, Span(after, await story.head()))
            await self._is_gone(story, Span(after, await story.head(), sparse=True))

    @pytest.mark.parametrize("depth", [1, 2, 3])
    async def test_an_orphaned_end_is_gone(self, story: ChainHarness, depth: int) -> None:
        """Also where the node still knows the block, and also where the reorg kept its transactions."""
        address = await story.address()
        await story.sim.mine(2)
        await story.paid(address)
        orphaned = await story.line()
        await story.reorg(depth)
        for after in orphaned[:-depth]:
            await self._is_gone(story, Span(after, orphaned[-1]))
            await self._is_gone(story, Span(after, orphaned[-1], sparse=True))

    async def test_a_block_that_never_was_is_gone(self, story: ChainHarness) -> None:
        await story.sim.mine()
        head = await story.head()
        # A hash in the node's own form, whatever that is: the real one with its tail turned round.
        invented = replace(head, hash=head.hash[:-8] + head.hash[:-9:-1])
        await self._is_gone(story, Span(story.start, invented))
        await story.sim.mine()
        await self._is_gone(story, Span(invented, await story.head()))

    async def test_scans_agree_before_and_after_a_reorg_above_them(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address)
        settled = Span(story.start, await story.head())
        await story.paid(address, 2)
        await story.paid(address, 3)
        before = await story.rail.scan(settled, story.watch(address))
        await story.reorg(2)
        after = await story.rail.scan(settled, story.watch(address))
        assert facts(after.transfers) == facts(before.transfers)
        assert list(after.blocks) == list(before.blocks)

    async def _is_gone(self, story: ChainHarness, span: Span) -> None:
        """Assert that the span is refused whole, with many watches as with few."""
        address = await story.address()
        for watches in (story.watch(), story.watch(address)):
            with pytest.raises(BlockGone):
                await story.rail.scan(span, watches)

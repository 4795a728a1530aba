"""A scan is complete, exactly once, in order: whatever the span, however it is cut, and however many are watched."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness, amounts, facts
from railwatch.conformance.watches import decoys
from railwatch.rail import BlockRef, Span

DECOY_COUNT = 10_000


class ScanningChecks(Conformance):
    """Spans, and how they add up."""

    async def test_no_watches_no_transfers_but_all_blocks(self, story: ChainHarness) -> None:
        await story.paid(await story.address())
        await story.sim.mine(2)
        scanned = await story.scan()
        assert list(scanned.transfers) == []
        assert list(scanned.blocks) == (await story.line())[1:]

    async def test_one_block_brings_its_parent(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.sim.mine()
        parent = await story.head()
        await story.paid(address)
        scanned = await story.scan(address, after=parent)
        assert [ref.parent for ref in scanned.blocks] == [parent.hash]
        assert scanned.blocks[0] == await story.head()
        assert len(scanned.transfers) == 1

    async def test_the_first_block_is_excluded_and_the_last_included(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address, 1)
        first = await story.head()
        await story.paid(address, 2)
        assert amounts((await story.scan(address, after=first)).transfers, address) == [2 * story.unit]

    async def test_transfers_follow_the_order_of_their_blocks(self, story: ChainHarness) -> None:
        address = await story.address()
        for units in (3, 1, 2):
            await story.paid(address, units)
        scanned = await story.scan(address)
        assert [transfer.amount for transfer in scanned.transfers] == [3 * story.unit, story.unit, 2 * story.unit]
        assert [transfer.block for transfer in scanned.transfers] == list(scanned.blocks)

    async def test_every_split_of_a_span_gives_the_same(self, story: ChainHarness) -> None:
        """Exactly once: neither lost nor doubled where two spans meet."""
        address = await story.address()
        for units in (1, 2, 3, 4):
            await story.pay(address, units)
            await story.paid(address, units)
        watches, line = story.watch(address), await story.line()
        whole = facts(await story.scan_pieces(line, watches))
        assert len(whole) == 8
        for borders in splits(line):
            if all(len(Span(after, upto)) <= story.rail.traits.span_max for after, upto in pairwise(borders)):
                cuts = [ref.height for ref in borders]
                assert facts(await story.scan_pieces(borders, watches)) == whole, f"cut at {cuts}"

    async def test_asking_twice_gives_the_same(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address)
        assert facts((await story.scan(address)).transfers) == facts((await story.scan(address)).transfers)

    async def test_a_sparse_span_says_the_same_in_fewer_blocks(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.sim.mine()
        await story.paid(address)
        await story.sim.mine(2)
        watches = story.watch(address)
        full, sparse = await story.scan_for(watches), await story.scan_for(watches, sparse=True)
        assert facts(sparse.transfers) == facts(full.transfers)
        assert {transfer.block for transfer in full.transfers} <= set(sparse.blocks)
        assert [ref for ref in full.blocks if ref in sparse.blocks] == list(sparse.blocks)
        assert sparse.blocks[-1] == full.blocks[-1]

    @pytest.mark.parametrize("sparse", [False, True])
    async def test_ten_thousand_watches_find_what_a_few_find(self, story: ChainHarness, sparse: bool) -> None:
        """With a few the node's own index may be asked, with many not: one truth by two ways."""
        address = await story.address()
        for asset in story.sim.assets:
            await story.pay(address, 2, asset)
        await story.sim.mine(2)
        few = story.watch(address)
        many = replace(few, keys=few.keys | decoys(address.key, DECOY_COUNT))
        found = facts((await story.scan_for(few, sparse=sparse)).transfers)
        assert len(found) == len(story.sim.assets)
        assert facts((await story.scan_for(many, sparse=sparse)).transfers) == found


def splits(line: list[BlockRef]) -> Iterator[list[BlockRef]]:
    """Every way to cut the line into pieces: its ends with any choice of the blocks between."""
    inner = line[1:-1]
    for count in range(len(inner) + 1):
        for chosen in combinations(inner, count):
            yield [line[0], *chosen, line[-1]]

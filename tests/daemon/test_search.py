"""What a search through old blocks proves: all that it finds lies on the branch of the block that it ends in."""

import pytest

from railwatch.daemon.watch.search import search
from railwatch.daemon.watch.watchlist import ExplicitWatches
from railwatch.rail import BlockGone
from railwatch_fake import address
from railwatch_fake.dev.simulator import FakeSimulator


@pytest.mark.parametrize("keep", [True, False])
async def test_a_node_on_another_branch_finds_nothing_for_a_block_that_it_has_left(keep: bool) -> None:
    """The reorg is one that the follower has not seen: its cursor is a block of the branch that the node left."""
    async with FakeSimulator() as simulator:
        paid = await simulator.new_address()
        await simulator.mine(3)
        await simulator.pay(paid, 100)
        await simulator.mine(2)
        watches = ExplicitWatches(frozenset({address.parse(paid).key}), {"": simulator.native})
        async with simulator.open_adapter() as node:
            cursor = (await node.heads()).latest
            found, _ = await search(node, node.traits, 1, cursor, watches)
            assert [each.amount for each in found] == [100]
            simulator.chain.reorg(3, keep=keep)
            with pytest.raises(BlockGone):
                await search(node, node.traits, 1, cursor, watches)

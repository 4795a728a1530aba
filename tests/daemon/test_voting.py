"""The vote of several nodes: how far a majority goes, who has a vote, and which node is deselected."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from railwatch.conformance import WatchSet
from railwatch.daemon.nodes import cross_check, voting
from railwatch.daemon.nodes import node as node_module
from railwatch.daemon.nodes.cross_check import Disagreement
from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import RailUnavailable, Span
from railwatch_fake import FakeAdapter, FakeChain, FakeNode, Rules
from tests.daemon.node_sets import some_nodes, two_nodes, until_believed


async def test_two_nodes_on_different_chains_are_not_believed_until_they_agree() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        nodes[0].pin(chain.tip.hash)
        before = (await rail.heads()).latest
        chain.reorg(2)
        with pytest.raises(Disagreement, match="1 vs 1"):
            await rail.heads()
        # Nor is anything else of them: what a look-back finds now could be on the chain that dies.
        with pytest.raises(Disagreement):
            await rail.scan(Span(before, before), WatchSet())
        assert rail.answering == "node-0", "it is unknown which of the two is right"
        nodes[0].pin(None)
        assert (await rail.heads()).latest.hash == chain.tip.hash
        assert (await rail.block_at(before.height)).height == before.height


async def test_a_race_between_two_blocks_at_the_tip_is_no_disagreement() -> None:
    chain, nodes, rail = two_nodes()
    nodes[0].pin(chain.tip.hash)
    chain.reorg(1)
    async with rail:
        assert (await rail.heads()).latest.hash != chain.tip.hash


@pytest.mark.parametrize("slow", [0, 1])
async def test_with_two_nodes_what_both_have_reached_counts_and_the_rest_is_only_claimed(slow: int) -> None:
    chain, nodes, rail = two_nodes()
    chain.mine(20)
    nodes[slow].lag = 15
    async with rail:
        heads = await rail.heads()
        assert heads.latest.hash == chain.at(chain.tip.height - 15).hash
        assert heads.claimed_height == chain.tip.height
        nodes[slow].lag = 0
        heads = await rail.heads()
        assert (heads.latest.hash, heads.claimed_height) == (chain.tip.hash, None)


async def test_of_three_nodes_the_one_that_is_alone_is_left() -> None:
    chain, nodes, rail = some_nodes(3)
    nodes[0].pin(chain.tip.hash)
    chain.reorg(3)
    async with rail:
        with pytest.raises(Disagreement, match="1 vs 2"):
            await rail.heads()
        assert (await until_believed(rail)).latest.hash == chain.tip.hash
        assert rail.answering != "node-0"


async def test_of_three_nodes_a_lone_dissenter_holds_nothing_up() -> None:
    chain, nodes, rail = some_nodes(3)
    nodes[2].pin(chain.tip.hash)
    chain.reorg(3)
    async with rail:
        assert (await rail.heads()).latest.hash == chain.tip.hash
        assert rail.answering == "node-0"


@pytest.mark.parametrize("wrong", [0, 1])
async def test_stopping_the_node_that_is_wrong_ends_a_disagreement(wrong: int) -> None:
    chain, nodes, rail = two_nodes()
    nodes[0].pin(chain.tip.hash)
    chain.reorg(2)
    async with rail:
        with pytest.raises(Disagreement):
            await rail.heads()
        nodes[wrong].down = True
        right = await nodes[1 - wrong].heads()
        assert (await until_believed(rail)).latest.hash == right["latest"]["hash"]


async def test_an_unreachable_secondary_node_delays_nothing() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        nodes[1].hangs = True
        assert (await rail.heads()).latest.hash == chain.tip.hash
        nodes[1].down, nodes[1].hangs = True, False
        assert (await rail.heads()).latest.hash == chain.tip.hash
        nodes[1].down = False
        assert (await rail.heads()).latest.hash == chain.tip.hash


async def test_a_witness_that_hangs_is_not_waited_for_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voting, "SECONDARY_TIMEOUT_SECONDS", 0.05)
    chain = FakeChain("patient")
    nodes = [FakeNode(chain), FakeNode(chain)]
    rail = NodeSet([Node(str(node), partial(FakeAdapter, node, chain.chain_id, timeout=60)) for node in nodes])
    async with rail:
        await rail.heads()
        nodes[1].hangs = True
        async with asyncio.timeout(10):
            assert (await rail.heads()).latest.hash == chain.tip.hash


async def test_a_node_that_hears_no_more_blocks_is_left_for_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_check, "LAG_MAX_SECONDS", 0.1)
    chain, nodes, rail = some_nodes(3)
    nodes[0].pin(chain.tip.hash)
    async with rail:
        chain.mine()
        await until_believed(rail)
        async with asyncio.timeout(10):
            while rail.answering in ("node-0", None):
                with suppress(RailUnavailable):
                    await rail.heads()
                await asyncio.sleep(0.02)
        assert (await until_believed(rail)).latest.hash == chain.tip.hash


@pytest.mark.parametrize("count", [2, 3])
async def test_one_secondary_node_that_claims_to_be_ahead_changes_nothing(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_check, "LAG_MAX_SECONDS", 0.1)
    chain, nodes, rail = some_nodes(count)
    nodes[-1].ahead = 10
    async with rail:
        for _ in range(20):
            heads = await rail.heads()
            assert heads.latest.hash == chain.tip.hash
            # Two nodes cannot know which of them is right, so that what one claims keeps time from being covered.
            assert heads.claimed_height == (chain.tip.height + 10 if count == 2 else None)
            await asyncio.sleep(0.02)
        assert rail.answering == "node-0"


async def test_a_node_that_lags_for_a_moment_is_kept() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        nodes[0].lag = 1
        for _ in range(5):
            chain.mine()
            await rail.heads()
        assert rail.answering == "node-0"


def test_a_height_that_is_reached_in_time_is_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_check, "LAG_MAX_SECONDS", 0.0)
    laggard = cross_check.LagDetector()
    assert [laggard.lags(5, 0) for _ in range(2)] == [0, 0]
    assert [laggard.lags(0, 5) for _ in range(2)][-1] == 5
    assert laggard.lags(5, 7) == 0, "a new height, and so a new time"
    laggard.forget()
    assert laggard.lags(5, 5) == 0


async def test_a_node_that_is_ahead_alone_is_believed_as_far_as_others_are_and_then_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross_check, "LAG_MAX_SECONDS", 0.1)
    chain, nodes, rail = some_nodes(3)
    nodes[0].make_up(10)
    async with rail:
        assert (await rail.heads()).latest.hash == chain.tip.hash
        async with asyncio.timeout(10):
            while rail.answering in ("node-0", None):
                with suppress(RailUnavailable):
                    assert (await rail.heads()).latest.hash == chain.tip.hash
                await asyncio.sleep(0.02)


async def test_finality_and_safety_count_as_far_as_a_majority_claims_them() -> None:
    chain = FakeChain("final", Rules(finality=8, safe=4))
    chain.mine(20)
    nodes = [FakeNode(chain) for _ in range(3)]
    rail = NodeSet([Node(str(at), partial(FakeAdapter, node, chain.chain_id)) for at, node in enumerate(nodes)])
    async with rail:
        for liar in nodes:
            liar.finality = 0
            heads = await rail.heads()
            assert heads.finalized is not None
            assert heads.safe is not None
            assert (heads.finalized.height, heads.safe.height) == (12, 16)
            assert heads.finalized.hash == chain.at(12).hash
            liar.finality = None
        nodes[0].finality_at = 3
        heads = await rail.heads()
        assert heads.finalized is not None
        assert heads.finalized.height == 3, "the node that answers reports its own, and no more"


async def test_an_unreachable_node_keeps_its_vote_for_a_moment_and_then_loses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_module, "AWAY_AFTER", 600.0)
    _, nodes, rail = two_nodes()
    async with rail:
        before = (await rail.heads()).latest
        nodes[1].down = True
        nodes[0].make_up(5)
        heads = await rail.heads()
        assert (heads.latest, heads.claimed_height) == (before, 8), "nothing new is believed of one of two"
        monkeypatch.setattr(node_module, "AWAY_AFTER", 0.0)
        async with asyncio.timeout(10):
            heads = await rail.heads()
            while heads.latest == before:
                await asyncio.sleep(0.02)
                heads = await rail.heads()
        assert (heads.latest.height, heads.claimed_height) == (8, None), "failover: the one that is left decides"


async def test_a_node_that_comes_back_and_catches_up_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "AWAY_AFTER", 0.0)
    chain, nodes, rail = two_nodes()
    async with rail:
        await rail.heads()
        nodes[1].down = True
        await rail.heads()
        chain.mine(20)
        assert (await rail.heads()).latest.hash == chain.tip.hash
        nodes[1].down, nodes[1].lag = False, 15
        for _ in range(20):
            heads = await rail.heads()
            assert (heads.latest.hash, heads.claimed_height) == (chain.tip.hash, None)
            await asyncio.sleep(0.02)
        nodes[1].lag = 0
        await rail.heads()
        monkeypatch.setattr(node_module, "AWAY_AFTER", 60.0)
        nodes[1].lag = 2
        assert (await rail.heads()).latest.hash == chain.at(chain.tip.height - 2).hash, "it votes again"


async def test_half_against_half_is_a_disagreement_and_all_at_different_heights_is_none() -> None:
    chain, nodes, rail = some_nodes(4)
    chain.mine(10)
    for lag, node in enumerate(nodes):
        node.lag = lag
    async with rail:
        assert (await rail.heads()).latest.hash == chain.at(chain.tip.height - 2).hash
        old = chain.tip.hash
        for node in nodes:
            node.lag = 0
        nodes[0].pin(old)
        nodes[1].pin(old)
        chain.reorg(3)
        with pytest.raises(Disagreement, match="2 vs 2"):
            await rail.heads()


@pytest.mark.parametrize(("count", "quiet", "moved"), [(1, 1, 1), (2, 2, 2), (3, 3, 3)])
async def test_a_round_asks_each_node_for_its_heads_and_no_more(count: int, quiet: int, moved: int) -> None:
    """Where one head follows the other nothing else is asked, and an unchanged quarrel is asked about once."""
    chain, nodes, rail = some_nodes(count)

    async def cost() -> int:
        before = sum(node.asked for node in nodes)
        await rail.heads()
        return sum(node.asked for node in nodes) - before

    async with rail:
        await cost()
        assert await cost() == quiet
        chain.mine()
        assert await cost() == moved
        nodes[-1].lag = 1
        assert await cost() == quiet
        nodes[-1].lag = 3
        assert await cost() <= count + 2 * (count - 1)
        assert await cost() == quiet, "nothing has moved since"

"""Several nodes behind one seam: one answers, a failing one rests, and none is asked without its identity."""

import asyncio
from contextlib import suppress

import pytest

from adapters.fake import FakeAdapter, FakeChain, FakeNode, Output, address, decode
from indexer.conformance import WatchSet
from indexer.daemon import agreement, nodeset
from indexer.daemon.agreement import Disagreement
from indexer.daemon.node import Node
from indexer.daemon.nodeset import NodeSet
from indexer.rail import Address, AssetId, Heads, RailUnavailable, Span


def some_nodes(count: int) -> tuple[FakeChain, list[FakeNode], NodeSet]:
    chain = FakeChain("several")
    chain.mine(3)
    nodes = [FakeNode(chain) for _ in range(count)]
    rail = NodeSet(
        [
            Node(f"node-{place}", lambda node=node: FakeAdapter(node, chain.chain_id, timeout=0.2))
            for place, node in enumerate(nodes)
        ]
    )
    return chain, nodes, rail


def two_nodes() -> tuple[FakeChain, list[FakeNode], NodeSet]:
    return some_nodes(2)


async def until_believed(rail: NodeSet) -> Heads:
    """Ask again and again, as a rail does."""
    async with asyncio.timeout(10):
        while True:
            with suppress(RailUnavailable):
                return await rail.heads()
            await asyncio.sleep(0.02)


async def test_the_first_answers_and_the_next_takes_over_when_it_fails() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        assert rail.answering == "node-0"
        nodes[0].down = True
        with pytest.raises(RailUnavailable):
            await rail.heads()
        assert (await rail.heads()).latest.hash == chain.tip.hash
        assert rail.answering == "node-1"


async def test_a_node_on_another_chain_is_never_asked() -> None:
    _, nodes, rail = two_nodes()
    nodes[0].impersonate("fake:elsewhere")
    async with rail:
        assert rail.answering == "node-1"


async def test_with_every_node_away_the_reasons_of_all_are_told() -> None:
    _, nodes, rail = two_nodes()
    for node in nodes:
        node.down = True
    with pytest.raises(RailUnavailable) as away:
        await rail.__aenter__()
    assert "node-0" in str(away.value)
    assert "node-1" in str(away.value)


async def test_addresses_are_read_while_every_node_is_away() -> None:
    chain, nodes, rail = two_nodes()
    for node in nodes:
        node.down = True
    text = address.render(chain.new_key())
    assert rail.parse_address(text).text == text


async def test_it_comes_back_when_a_node_does() -> None:
    _, nodes, rail = two_nodes()
    async with rail:
        for node in nodes:
            node.down = True
        for _ in range(3):
            with pytest.raises(RailUnavailable):
                await rail.heads()
        nodes[1].down = False
        # Both rest for a while, and one is tried at a time: who asks comes again, as a rail does.
        async with asyncio.timeout(10):
            while rail.answering is None:
                with suppress(RailUnavailable):
                    await rail.heads()
                await asyncio.sleep(0.02)
        assert rail.answering == "node-1"


def test_a_rail_without_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one node"):
        NodeSet([])


async def test_two_nodes_on_different_chains_are_not_believed_until_they_agree() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        nodes[0].pin(chain.tip.hash)
        before = (await rail.heads()).latest
        chain.reorg(2)
        with pytest.raises(Disagreement, match="1 against 1"):
            await rail.heads()
        # Nor is anything else of them: what a look-back finds now could be on the chain that dies.
        with pytest.raises(Disagreement):
            await rail.scan(Span(before, before), WatchSet())
        assert rail.answering == "node-0", "nobody knows which of the two is right"
        nodes[0].pin(None)
        assert (await rail.heads()).latest.hash == chain.tip.hash
        assert (await rail.block_at(before.height)).height == before.height


async def test_a_race_between_two_blocks_at_the_tip_is_no_disagreement() -> None:
    chain, nodes, rail = two_nodes()
    nodes[0].pin(chain.tip.hash)
    chain.reorg(1)
    async with rail:
        assert (await rail.heads()).latest.hash != chain.tip.hash


async def test_a_witness_that_is_behind_on_the_same_chain_agrees() -> None:
    chain, nodes, rail = two_nodes()
    chain.mine(20)
    nodes[1].lag = 15
    async with rail:
        assert (await rail.heads()).latest.hash == chain.tip.hash


async def test_of_three_nodes_the_one_that_is_alone_is_left() -> None:
    chain, nodes, rail = some_nodes(3)
    nodes[0].pin(chain.tip.hash)
    chain.reorg(3)
    async with rail:
        with pytest.raises(Disagreement, match="1 against 2"):
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


async def test_a_witness_that_is_away_holds_nothing_up() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        nodes[1].hangs = True
        assert (await rail.heads()).latest.hash == chain.tip.hash
        nodes[1].down, nodes[1].hangs = True, False
        assert (await rail.heads()).latest.hash == chain.tip.hash
        nodes[1].down = False
        assert (await rail.heads()).latest.hash == chain.tip.hash


async def test_a_witness_that_hangs_is_not_waited_for_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodeset, "WITNESS_SECONDS", 0.05)
    chain = FakeChain("patient")
    nodes = [FakeNode(chain), FakeNode(chain)]
    rail = NodeSet([Node(str(node), lambda node=node: FakeAdapter(node, chain.chain_id, timeout=60)) for node in nodes])
    async with rail:
        await rail.heads()
        nodes[1].hangs = True
        async with asyncio.timeout(10):
            assert (await rail.heads()).latest.hash == chain.tip.hash


async def test_a_node_that_hears_no_more_blocks_is_left_for_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "BEHIND_ALLOWED", 0.1)
    chain, nodes, rail = two_nodes()
    nodes[0].pin(chain.tip.hash)
    async with rail:
        chain.mine()
        async with asyncio.timeout(10):
            while rail.answering != "node-1":
                with suppress(RailUnavailable):
                    await rail.heads()
                await asyncio.sleep(0.02)


async def test_a_node_that_lags_for_a_moment_is_kept() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        nodes[0].lag = 1
        for _ in range(5):
            chain.mine()
            await rail.heads()
        assert rail.answering == "node-0"


def test_a_node_that_is_ahead_of_the_others_never_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "BEHIND_ALLOWED", 0.0)
    chain = FakeChain("ahead")
    older = decode.header(asyncio.run(FakeNode(chain).heads())["latest"])
    chain.mine(5)
    newer = decode.header(asyncio.run(FakeNode(chain).heads())["latest"])
    laggard = agreement.Laggard()
    assert [laggard.lags(newer, [older]) for _ in range(2)] == [0, 0]
    assert [laggard.lags(older, [newer]) for _ in range(2)][-1] == 5


async def test_an_adapter_that_knows_no_refusals_refuses_nothing() -> None:
    """And no node is asked, so that a registration does not wait for one."""
    _, nodes, rail = two_nodes()
    for node in nodes:
        node.down = True
    assert await rail.refusal(Address(b"key", "text"), AssetId("fake:pair/slip44:1"), 1, None) is None


async def test_a_refusal_is_the_answering_nodes() -> None:
    class Refusing(FakeAdapter):
        async def refusal(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
            return f"{amount} is too little" if amount < 10 else None

    chain = FakeChain("pair")
    chain.mine()
    async with NodeSet([Node("only", lambda: Refusing(FakeNode(chain), chain.chain_id))]) as rail:
        for amount, why in ((9, "9 is too little"), (10, None)):
            assert await rail.refusal(Address(b"key", "text"), AssetId("fake:pair/slip44:1"), amount, None) == why


async def test_a_balance_names_its_node_and_a_node_that_cannot_tell_one_is_not_left_for_it() -> None:
    chain, nodes, rail = two_nodes()
    key = chain.new_key()
    chain.send(Output(key, 7))
    chain.mine()
    native = decode.asset_id(chain.chain_id, "")
    async with rail:
        latest = (await rail.heads()).latest
        assert await rail.balances([key], native, latest) == ("node-0", {key: 7})
        nodes[0].down = True
        with pytest.raises(RailUnavailable):
            await rail.balances([key], native, latest)
        assert rail.answering == "node-0"


async def test_contradicted_nodes_tell_no_balance() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        latest = (await rail.heads()).latest
        nodes[1].pin(chain.tip.hash)
        chain.reorg(3)
        with pytest.raises(RailUnavailable):
            await rail.heads()
        with pytest.raises(RailUnavailable):
            await rail.balances([chain.new_key()], decode.asset_id(chain.chain_id, ""), latest)

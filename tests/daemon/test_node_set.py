"""Several nodes behind one seam: one is active, a failing one backs off, and each proves its identity first."""

import asyncio
from contextlib import suppress

import pytest

from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import Address, AssetId, RailUnavailable
from railwatch_fake import FakeAdapter, FakeChain, FakeNode, Output, address, decode
from tests.daemon.node_sets import two_nodes


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


async def test_with_every_node_unreachable_the_reasons_of_all_are_reported() -> None:
    _, nodes, rail = two_nodes()
    for node in nodes:
        node.down = True
    with pytest.raises(RailUnavailable) as away:
        await rail.__aenter__()
    assert "node-0" in str(away.value)
    assert "node-1" in str(away.value)


async def test_addresses_are_read_while_every_node_is_unreachable() -> None:
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


async def test_an_adapter_that_knows_no_refusals_refuses_nothing() -> None:
    """And no node is asked, so that a registration does not wait for one."""
    _, nodes, rail = two_nodes()
    for node in nodes:
        node.down = True
    assert await rail.check_payment(Address(b"key", "text"), AssetId("fake:pair/slip44:1"), 1, None) is None


async def test_a_refusal_is_the_answering_nodes() -> None:
    class Refusing(FakeAdapter):
        async def check_payment(
            self, address: Address, asset: AssetId, amount: int, reference: str | None
        ) -> str | None:
            return f"{amount} is too little" if amount < 10 else None

    chain = FakeChain("pair")
    chain.mine()
    async with NodeSet([Node("only", lambda: Refusing(FakeNode(chain), chain.chain_id))]) as rail:
        for amount, why in ((9, "9 is too little"), (10, None)):
            assert await rail.check_payment(Address(b"key", "text"), AssetId("fake:pair/slip44:1"), amount, None) == why


async def test_a_balance_names_its_node_and_a_node_without_balances_is_not_left_for_it() -> None:
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


async def test_contradicted_nodes_give_no_balance() -> None:
    chain, nodes, rail = two_nodes()
    async with rail:
        latest = (await rail.heads()).latest
        nodes[1].pin(chain.tip.hash)
        chain.reorg(3)
        with pytest.raises(RailUnavailable):
            await rail.heads()
        with pytest.raises(RailUnavailable):
            await rail.balances([chain.new_key()], decode.asset_id(chain.chain_id, ""), latest)

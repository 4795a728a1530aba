"""Each adapter at an endpoint whose two nodes answer in turn, or at random: what one of them has is read (HAZARDS E19).

The endpoint itself reported the blocks that are requested. Its other node is stuck below them.
"""

from collections.abc import Callable
from functools import partial

import pytest

import railwatch_bitcoin as bitcoin
import railwatch_evm as evm
import railwatch_solana as solana
from railwatch.conformance import WatchSet
from railwatch.daemon.nodes.node import HEADS_ASKED_TWICE_BELOW, Node
from railwatch.rail import AssetId, AssetSpec, ChainId, RailAdapter, RailSettings, Scanned, Span
from railwatch.rail.again import OTHERS, ask_again
from railwatch.rail.errors import BlockGone, NotYet, RailUnavailable
from tests.nodes.turns import Choice, at_random, in_turn
from tests.scenarios.balancer import AMOUNT, FAMILIES, Balancer

OPEN = {"bitcoin": bitcoin.create_adapter, "evm": evm.create_adapter, "solana": solana.create_adapter}
STRANGER = 3
NEW = 5
"""Blocks that only one of the nodes has."""
CHOICES: dict[str, Callable[[], Choice]] = {
    "in turn": lambda: in_turn(0),
    "in turn, the other one first": lambda: in_turn(1),
    "at random": lambda: at_random(7),
}


def opened(family: str, balancer: Balancer) -> RailAdapter:
    """Return the adapter at that endpoint, not entered."""
    rail = balancer.rail
    asset = AssetSpec(rail["asset"][0]["symbol"], None, 8)
    return OPEN[family](
        RailSettings("rail", ChainId(rail["chain_id"]), (asset,), rail.get("options", {})), balancer.table
    )


def watches(balancer: Balancer, adapter: RailAdapter, number: int) -> WatchSet:
    """Return one watched address, and the chain's own asset."""
    asset = AssetId(f"{balancer.rail['chain_id']}/{adapter.traits.native_asset}")
    return WatchSet(frozenset([adapter.parse_address(balancer.address(number)).key]), {"": asset}, {})


def paid(scanned: Scanned) -> list[int]:
    """Return what was paid to the watched."""
    return [transfer.amount for transfer in scanned.transfers]


def only_the_first() -> Choice:
    """Let the other node answer one request."""
    first = iter([True])
    return lambda _method, _peer: next(first, False)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("family", FAMILIES)
async def test_what_one_node_behind_an_endpoint_has_is_read(family: str, choice: str) -> None:
    balancer = FAMILIES[family]()
    async with balancer.server, opened(family, balancer) as adapter:
        balancer.begin("stands still", lambda _method, _peer: False, STRANGER)
        balancer.pay(1)
        for _ in range(NEW):
            balancer.mine()
        head = (await adapter.heads()).latest
        assert (head.height, head.hash) == balancer.head
        balancer.choice = CHOICES[choice]()
        watched = watches(balancer, adapter, 1)
        first = head.height - NEW + 1
        for low, high in ((first, first), (head.height, head.height), (first - 1, head.height)):
            span = Span(await adapter.block_at(low - 1), await adapter.block_at(high))
            expected = [AMOUNT] if low <= first <= high else []
            assert paid(await adapter.scan(span, watched)) == expected
            sparse = Span(span.after, span.upto, sparse=True)
            assert paid(await adapter.scan(sparse, watched)) == expected


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_head_is_found_though_the_stuck_node_answers_each_question_for_heads(family: str) -> None:
    """Each round of the daemon asks an even number of questions, in step with two nodes that take turns."""
    balancer = FAMILIES[family]()
    async with balancer.server:
        node = Node("node", lambda: opened(family, balancer))
        await node.connect()
        balancer.begin("stands still", lambda _method, _peer: False, STRANGER)
        height = (await node.heads()).latest.height
        balancer.mine()
        assert balancer.head[0] == height + 1
        for _ in range(HEADS_ASKED_TWICE_BELOW):
            balancer.choice = only_the_first()
            heads = await node.heads()
        assert (heads.latest.height, heads.latest.hash) == balancer.head
        await node.disconnect()


async def test_a_question_is_asked_again_only_where_its_answer_contradicts() -> None:
    asked = []

    async def question(error: Exception) -> None:
        asked.append(error)
        raise error

    for error, times in ((BlockGone("gone"), 1 + OTHERS), (NotYet("not yet"), 1 + OTHERS), (RailUnavailable("no"), 1)):
        asked.clear()
        with pytest.raises(type(error)):
            await ask_again(partial(question, error))
        assert len(asked) == times

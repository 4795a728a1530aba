"""Nodes that are ill, behind, on another chain, or that answer nonsense (HAZARDS E19, E22, E23 and "Nodes")."""

import asyncio

import pytest

from railwatch.rail import BlockGone, RailFault, RailUnavailable, Span, SupportsPaymentCheck
from tests.faulty_proxy import Liar, answer, change, refuse
from tests.solana.conftest import Chain

pytestmark = pytest.mark.solana


async def test_another_chain_is_refused_whenever_it_shows(lied_to: Chain, liar: Liar) -> None:
    """E23: with each heads, which is also how a connection begins."""
    liar.lies["getGenesisHash"] = answer("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d")
    with pytest.raises(RailUnavailable, match="is chain solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp, expected solana:"):
        await lied_to.rail.heads()
    await lied_to.rail.__aexit__(None, None, None)
    with pytest.raises(RailUnavailable, match="expected"):
        await lied_to.rail.__aenter__()


async def test_a_node_that_is_behind_says_so_and_is_believed(lied_to: Chain, liar: Liar) -> None:
    for lie in (refuse(-32005, "Node is behind by 42 slots"), answer("unknown")):
        liar.lies["getHealth"] = lie
        with pytest.raises(RailUnavailable, match=r"behind by 42|calls itself .unknown"):
            await lied_to.rail.heads()


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"[]", b"[{}]", b"null", b'{"jsonrpc":"2.0","result":1,"id":7}']
)
async def test_what_is_no_answer_is_no_answer(lied_to: Chain, liar: Liar, body: bytes) -> None:
    liar.body = body
    for question in (lied_to.rail.heads, lambda: lied_to.rail.block_at(1)):
        with pytest.raises(RailUnavailable):
            await question()


async def test_a_gateway_that_refuses_is_unavailable(lied_to: Chain, liar: Liar) -> None:
    liar.body, liar.status = b"slow down", 429
    with pytest.raises(RailUnavailable, match="HTTP 429"):
        await lied_to.rail.heads()


async def test_a_node_that_hangs_is_unavailable(lied_to: Chain, liar: Liar) -> None:
    """Every call is bounded by the node's timeout."""
    liar.hang = True
    async with asyncio.timeout(20):
        with pytest.raises(RailUnavailable, match="no answer within 2 s"):
            await lied_to.rail.heads()


async def test_a_block_of_another_branch_is_noticed_by_its_parent(lied_to: Chain, liar: Liar) -> None:
    """E19: a load-balanced endpoint may answer from two branches."""
    await lied_to.sim.mine(3)
    span, watches = await lied_to.span(), lied_to.watch(await lied_to.sim.new_address())
    liar.lies["getBlock"] = change(lambda block: {**block, "previousBlockhash": "other"})
    with pytest.raises(BlockGone, match="is built on"):
        await lied_to.rail.scan(span, watches)
    liar.lies["getBlock"] = change(lambda block: {**block, "blockhash": "other"})
    with pytest.raises(BlockGone):
        await lied_to.rail.scan(Span(span.after, span.upto), watches)


async def test_a_list_that_leaves_slots_out_is_noticed(lied_to: Chain, liar: Liar) -> None:
    """S11: in the middle, at the beginning, at the end, and all of them."""
    await lied_to.sim.mine(5)
    span, watches = await lied_to.span(), lied_to.watch(await lied_to.sim.new_address())
    for tamper in (
        lambda slots: [*slots[:2], *slots[3:]],
        lambda slots: slots[1:],
        lambda slots: slots[:-2],
        lambda _: [],
    ):
        liar.lies["getBlocks"] = change(tamper)
        with pytest.raises(RailUnavailable, match="a hole above"):
            await lied_to.rail.scan(span, watches)


async def test_a_block_without_a_time_is_asked_for_again(lied_to: Chain, liar: Liar) -> None:
    await lied_to.sim.mine()
    span = await lied_to.span()
    liar.lies["getBlock"] = change(lambda block: {**block, "blockTime": None})
    with pytest.raises(RailUnavailable, match="knows no time"):
        await lied_to.rail.scan(span, lied_to.watch(await lied_to.sim.new_address()))


async def test_a_block_whose_time_is_lost_has_that_of_the_block_below(lied_to: Chain, liar: Liar) -> None:
    """One that a node has lost for good must not hold up the rail for ever."""
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    await sim.mine(2)
    await sim.pay(address, 10**9)
    await sim.mine(2)
    span = await lied_to.span()
    lost = {span.after.height + 2, span.after.height + 3}
    liar.lies["getBlock"] = lambda params, reply: (
        {**reply, "result": {**reply["result"], "blockTime": None}} if params[0] in lost else reply
    )
    scanned = await lied_to.rail.scan(span, lied_to.watch(address))
    assert [each.amount for each in scanned.transfers] == [10**9]
    assert {ref.time for ref in scanned.blocks[:3]} == {scanned.blocks[0].time}


async def test_an_unknown_error_is_no_reason_to_halt(lied_to: Chain, liar: Liar) -> None:
    await lied_to.sim.mine()
    span = await lied_to.span()
    liar.lies["getBlock"] = refuse(-32011, "Transaction history is not available from this node")
    with pytest.raises(RailUnavailable, match="history is not available") as refused:
        await lied_to.rail.scan(span, lied_to.watch(await lied_to.sim.new_address()))
    assert not isinstance(refused.value, RailFault)


async def test_what_is_asked_for_a_quiet_block_is_two_small_calls_and_the_block(lied_to: Chain, liar: Liar) -> None:
    """Heads of what is known cost one request, and nothing of a block but its header without a watched address."""
    await lied_to.sim.mine()
    heads = await lied_to.rail.heads()
    liar.calls.clear()
    assert await lied_to.rail.heads() == heads
    assert "getBlock" not in [name for name, _ in liar.calls]
    liar.calls.clear()
    await lied_to.rail.scan(Span(lied_to.start, heads.latest), lied_to.watch())
    assert [(name, params[1]["transactionDetails"]) for name, params in liar.calls] == [("getBlock", "none")]
    liar.calls.clear()
    await lied_to.rail.scan(Span(lied_to.start, heads.latest), lied_to.watch(await lied_to.sim.new_address()))
    assert [(name, params[1]["transactionDetails"]) for name, params in liar.calls] == [("getBlock", "accounts")]


async def test_a_refusal_needs_the_node(lied_to: Chain, liar: Liar) -> None:
    """An unreachable node refuses no address: the registration waits."""
    rail, sim = lied_to.rail, lied_to.sim
    assert isinstance(rail, SupportsPaymentCheck)
    address = rail.parse_address(await sim.new_address())
    assert "rent" in (await rail.check_payment(address, sim.native, 1, None) or "")
    liar.status = 503
    with pytest.raises(RailUnavailable):
        await rail.check_payment(address, sim.native, 1, None)

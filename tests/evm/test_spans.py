"""How a span is asked for: linked, in few round trips, and for no more than the watches need."""

import asyncio
from dataclasses import replace

import pytest

from railwatch.rail import BlockGone, Span
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar, refuse_all

pytestmark = pytest.mark.anvil


@pytest.mark.parametrize("keep", [True, False])
async def test_a_span_across_a_reorg_is_gone(chain: Chain, keep: bool) -> None:
    """Neither a replaced end nor a replaced beginning passes, in any way of asking."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.mine()
    await sim.pay(address, 5)
    await sim.mine(3)
    old = [await chain.rail.block_at(chain.start.height + step) for step in range(5)]
    await sim.reorg(3, keep=keep)
    new = (await chain.rail.heads()).latest
    middle = await chain.rail.block_at(old[3].height)
    watches = chain.watch(address)
    pairs = [(old[0], old[4]), (old[2], new), (old[3], old[4]), (old[1], old[2]), (old[2], old[4]), (old[2], middle)]
    for after, upto in pairs:
        for sparse in (False, True):
            with pytest.raises(BlockGone):
                await chain.rail.scan(Span(after, upto, sparse=sparse), watches)
    assert len(await chain.found(address)) == (1 if keep else 0)


async def test_one_block_is_one_round_trip(lied_to: Chain, liar: Liar) -> None:
    """From push to transfers: header, canonical header, logs and traces in one request."""
    address = await lied_to.sim.new_address()
    await lied_to.sim.pay(address, 5)
    await lied_to.sim.pay(address, 7, lied_to.sim.assets[1])
    await lied_to.sim.mine()
    span = await lied_to.span()
    liar.requests.clear()
    assert len((await lied_to.rail.scan(span, lied_to.watch(address))).transfers) == 2
    assert liar.requests == [["eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs", "trace_block"]]


async def test_no_watched_address_costs_headers_only(lied_to: Chain, liar: Liar) -> None:
    """The cursor still moves over proven links."""
    await lied_to.sim.mine(3)
    span = await lied_to.span()
    liar.requests.clear()
    scanned = await lied_to.rail.scan(span, lied_to.watch())
    assert [ref.height for ref in scanned.blocks] == [lied_to.start.height + step for step in (1, 2, 3)]
    assert liar.requests == [["eth_getBlockByNumber"] * 3]


async def test_a_long_span_is_cut_and_stitched(chain: Chain) -> None:
    """More blocks than any piece, payments at every cut, in order and once."""
    sim, address = chain.sim, await chain.sim.new_address()
    for amount in range(1, 13):
        await sim.pay(address, amount, sim.assets[amount % 2])
        await sim.mine(30)
    scanned = await chain.rail.scan(await chain.span(finalized=True), chain.watch(address))
    assert [transfer.amount for transfer in scanned.transfers] == list(range(1, 13))
    assert len(scanned.blocks) == 360
    assert scanned.blocks[0].parent == chain.start.hash


async def test_a_look_back_over_quiet_blocks_fetches_no_bodies(lied_to: Chain, liar: Liar) -> None:
    """A fresh address whose balance is the same at both ends: no block is traced."""
    address = await lied_to.sim.new_address()
    await lied_to.sim.pay(await lied_to.sim.new_address(), 5)
    await lied_to.sim.mine(50)
    span = await lied_to.span(sparse=True)
    liar.requests.clear()
    scanned = await lied_to.rail.scan(span, lied_to.watch(address))
    assert (list(scanned.blocks), list(scanned.transfers)) == ([span.upto], [])
    assert not any("trace_block" in request for request in liar.requests)


async def test_a_look_back_finds_ether_by_halving(lied_to: Chain, liar: Liar) -> None:
    """Only the blocks in which the balance grew are traced; two in one stretch and one at its very end."""
    sim, one, two = lied_to.sim, await lied_to.sim.new_address(), await lied_to.sim.new_address()
    await sim.mine(10)
    await sim.pay(one, 1)
    await sim.pay(two, 2)
    await sim.mine()
    await sim.pay_internal(one, 3)
    await sim.mine(20)
    await sim.pay(two, 4)
    await sim.mine()
    liar.requests.clear()
    span, watches = await lied_to.span(sparse=True), lied_to.watch(one, two)
    scanned = await lied_to.rail.scan(span, watches)
    assert [transfer.amount for transfer in scanned.transfers] == [1, 2, 3, 4]
    assert sum(request.count("trace_block") for request in liar.requests) == 3
    assert [ref.height - lied_to.start.height for ref in scanned.blocks] == [11, 12, 32]
    whole = await lied_to.rail.scan(replace(span, sparse=False), watches)
    assert list(whole.transfers) == list(scanned.transfers)


@pytest.mark.parametrize("obstacle", ["no state", "has sent", "has code", "many"])
async def test_a_look_back_that_balances_cannot_settle_scans_the_blocks(
    lied_to: Chain, liar: Liar, obstacle: str
) -> None:
    """What came in may have gone out again: only an address that never acted is judged by its balance."""
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    blocks = 20 if obstacle == "many" else 3
    for _ in range(blocks):
        await sim.pay(address, 10**18)
        await sim.mine()
    if obstacle == "no state":
        liar.lies["eth_getBalance"] = refuse_all
    if obstacle == "has code":
        await sim.rpc("anvil_setCode", address, "0x00")
    if obstacle == "has sent":
        await sim.rpc("anvil_impersonateAccount", address)
        await sim.rpc("anvil_setBalance", address, hex(10**18))
        await sim.rpc("eth_sendTransaction", {"from": address, "to": sim.payer, "value": "0x1", "gas": "0x5208"})
        await sim.mine()
    if obstacle in ("has sent", "has code"):
        # Now the balance is at the end what it was at the beginning.
        await sim.rpc("anvil_setBalance", address, "0x0")
    await sim.mine()
    assert len(await lied_to.found(address, sparse=True)) == blocks


async def test_scans_side_by_side_do_not_mix(chain: Chain) -> None:
    """Concurrent calls, each with its own answer."""
    sim = chain.sim
    addresses = [await sim.new_address() for _ in range(20)]
    for amount, address in enumerate(addresses, 1):
        await sim.pay(address, amount, sim.assets[amount % 2])
        await sim.mine()
    found = await asyncio.gather(*[chain.found(address) for address in addresses])
    assert [[transfer.amount for transfer in each] for each in found] == [[amount] for amount in range(1, 21)]

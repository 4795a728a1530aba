"""Slots that are skipped, lost, pruned or not there yet, and unknown versions (HAZARDS S2, S10, S11, S13)."""

from typing import Any

import pytest

from railwatch.rail import BlockGone, NotKept, RailFault, RailUnavailable, Span
from railwatch_solana.dev.simulator import SOL, SolanaSimulator
from tests.faulty_proxy import Liar, answer, change, refuse
from tests.solana.conftest import Chain

pytestmark = pytest.mark.solana

LOST = [-32004, -32007, -32009, -32014, 0]
"""Not yet there, skipped, skipped in long-term storage, status not yet there, null: what is said of a missing block."""


async def test_skipped_slots_are_passed_and_proven_by_the_next_parent(chain: Chain) -> None:
    """S11, S13: heights with holes of any length, at any time."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.skip(70)
    await sim.pay(address, SOL)
    await sim.mine()
    await sim.skip(5_000)
    await sim.mine()
    span = await chain.span()
    scanned = await chain.rail.scan(span, chain.watch(address))
    assert [ref.height for ref in scanned.blocks] == [chain.start.height + 71, chain.start.height + 5_072]
    assert [each.amount for each in scanned.transfers] == [SOL]
    assert await chain.rail.block_at(span.upto.height - 1) == scanned.blocks[0]
    with pytest.raises(BlockGone):
        await chain.rail.block_at(span.upto.height + 1)


@pytest.mark.parametrize("code", LOST)
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("watched", [True, False])
async def test_a_missing_block_is_waited_for_and_never_skipped(
    chain: Chain, code: int, listed: bool, watched: bool
) -> None:
    """S11: whatever the node calls it, and whether or not it lists the slot; it heals when the block is there."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.mine()
    await sim.pay(address, SOL)
    await sim.mine()
    lost = await sim.slot()
    await sim.mine(2)
    span, watches = await chain.span(), chain.watch(*[address] * watched)
    await sim.rpc("devWithhold", lost, {"code": code, "listed": listed})
    with pytest.raises(RailUnavailable):
        await chain.rail.scan(span, watches)
    await sim.rpc("devRestore")
    scanned = await chain.rail.scan(span, watches)
    assert lost in [ref.height for ref in scanned.blocks]
    assert len(scanned.transfers) == watched


@pytest.mark.parametrize("code", LOST)
async def test_a_head_that_cannot_be_had_yet_is_a_head_that_lags(chain: Chain, code: int) -> None:
    """A node may call a block confirmed before it can serve it."""
    before = (await chain.rail.heads()).latest
    await chain.sim.mine()
    newest = await chain.sim.slot()
    await chain.sim.rpc("devWithhold", newest, {"code": code, "listed": False})
    assert (await chain.rail.heads()).latest == before
    await chain.sim.rpc("devRestore")
    assert (await chain.rail.heads()).latest.height == newest


async def test_an_end_that_is_lost_is_not_gone_and_one_that_the_chain_left_is(chain: Chain) -> None:
    """S11: between the two only the next block's parent decides."""
    sim, watches = chain.sim, chain.watch(await chain.sim.new_address())
    await sim.mine(2)
    span = await chain.span()
    await sim.mine()
    await sim.rpc("devWithhold", span.upto.height, {"code": -32007, "listed": False})
    with pytest.raises(RailUnavailable, match="-32007"):
        await chain.rail.scan(span, watches)
    await sim.rpc("devRestore")
    await sim.rpc("devFork", 2, {"resubmit": False})
    # A chain that ends below resembles a node that is behind: the next block decides (S15).
    with pytest.raises(RailUnavailable):
        await chain.rail.scan(span, watches)
    await sim.mine()
    with pytest.raises(BlockGone):
        await chain.rail.scan(span, watches)


async def test_a_pruned_range_is_never_skipped(chain: Chain) -> None:
    """As does a look-back that reaches below what the node keeps."""
    sim, watches = chain.sim, chain.watch(await chain.sim.new_address())
    await sim.mine(20)
    span = await chain.span()
    await sim.rpc("devPrune", chain.start.height + 5)
    with pytest.raises(NotKept, match=f"has pruned the block of slot {chain.start.height + 1} "):
        await chain.rail.scan(span, watches)
    with pytest.raises(NotKept, match=f"has pruned the block of slot {chain.start.height} ") as refused:
        await chain.rail.scan(Span(span.after, span.upto, sparse=True), watches)
    assert refused.value.first == chain.start.height + 5
    with pytest.raises(NotKept, match="has pruned"):
        await chain.rail.block_at(chain.start.height + 1)
    kept = Span(await chain.rail.block_at(chain.start.height + 5), span.upto)
    assert len((await chain.rail.scan(kept, watches)).blocks) == 15


async def test_an_unknown_version_halts_the_rail_and_says_what_to_do(lied_to: Chain, liar: Liar) -> None:
    """S2: never skipped. The highest that is decoded is asked for, and it is 1."""
    await lied_to.sim.mine(2)
    span, watches = await lied_to.span(), lied_to.watch(await lied_to.sim.new_address())
    await lied_to.rail.scan(span, watches)
    assert {params[1]["maxSupportedTransactionVersion"] for name, params in liar.calls if name == "getBlock"} == {1}
    liar.lies["getBlock"] = refuse(-32015, "Transaction version (2) is not supported by the requesting client.")
    with pytest.raises(RailFault, match=rf"slot {lied_to.start.height + 1} .* upgrade"):
        await lied_to.rail.scan(span, watches)


async def test_a_block_of_another_shape_halts_the_rail_and_what_is_no_block_does_not(
    lied_to: Chain, liar: Liar
) -> None:
    """An owner that is missing could be ours; an answer that is no block at all is the node's trouble."""
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    await sim.pay(address, 5, sim.asset(sim.token))
    await sim.mine()
    span = await lied_to.span()

    def forget_owners(block: dict[str, Any]) -> dict[str, Any]:
        for tx in block.get("transactions", ()):
            for entry in tx["meta"]["postTokenBalances"]:
                del entry["owner"]
        return block

    liar.lies["getBlock"] = change(forget_owners)
    # The account still says whose it is.
    assert [each.amount for each in (await lied_to.rail.scan(span, lied_to.watch(address))).transfers] == [5]
    liar.lies["getMultipleAccounts"] = change(lambda answer: {**answer, "value": [None for _ in answer["value"]]})
    with pytest.raises(RailFault, match=f"block {span.upto.height} {span.upto.hash} cannot be decoded"):
        await lied_to.rail.scan(span, lied_to.watch(address))
    for nothing in (None, 7, {}, {"blockhash": 7}):
        liar.lies["getBlock"] = answer(nothing)
        with pytest.raises(RailUnavailable):
            await lied_to.rail.scan(span, lied_to.watch(address))


async def test_processed_is_never_asked_for(lied_to: Chain, liar: Liar) -> None:
    """S10: what is only processed gates nothing, and is no head."""
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    await sim.rpc("devCommitments", {"confirmLag": 2})
    await sim.mine(3)
    before = (await lied_to.rail.heads()).latest
    await sim.pay(address, SOL)
    await sim.mine()
    span = Span(before, (await lied_to.rail.heads()).latest)
    assert list((await lied_to.rail.scan(span, lied_to.watch(address))).transfers) == []
    await sim.mine(2)
    assert len(await lied_to.found(address)) == 1
    assert "processed" not in str(liar.calls)
    assert all(
        "commitment" in str(params) for name, params in liar.calls if name in ("getSlot", "getBlock", "getBlocks")
    )


async def test_confirmed_and_finalized_may_be_one() -> None:
    """Alpenglow."""
    async with SolanaSimulator(root_lag=0) as sim, sim.open_adapter() as rail:
        await sim.mine(3)
        heads = await rail.heads()
        assert heads.latest == heads.finalized
        assert heads.latest.height == await sim.slot()


async def test_the_first_block_has_no_parent(chain: Chain) -> None:
    assert (await chain.rail.block_at(0)).parent == ""

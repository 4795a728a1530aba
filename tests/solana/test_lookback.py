"""Looking back by the node's index, and by its blocks where it has none: one truth by two ways (HAZARDS B17, S6)."""

from dataclasses import replace

import pytest
from spl.token import instructions as token
from spl.token.models import BurnParams

from railwatch.conformance.harness import facts
from railwatch.conformance.watches import decoys
from railwatch.rail import NotKept, RailUnavailable
from railwatch_solana import create_adapter
from railwatch_solana.dev.simulator import SOL, SolanaSimulator
from railwatch_solana.dev.wallet import Wallet
from tests.faulty_proxy import Liar, refuse
from tests.solana.conftest import Chain

pytestmark = pytest.mark.solana


async def both_ways(chain: Chain, *addresses: str) -> list[tuple[object, ...]]:
    """Check that the index finds what the blocks hold."""
    span, few = await chain.span(sparse=True), chain.watch(*addresses)
    many = replace(few, keys=few.keys | decoys(next(iter(few.keys)), 1_000))
    index, blocks = await chain.rail.scan(span, few), await chain.rail.scan(span, many)
    assert (index.method, blocks.method) == ("index", "blocks")
    assert facts(index.transfers) == facts(blocks.transfers)
    assert [each.references for each in index.transfers] == [each.references for each in blocks.transfers]
    assert list(index.blocks) == list(blocks.blocks)
    return facts(index.transfers)


async def closes_its_account(sim: SolanaSimulator, owner: Wallet) -> None:
    """Let the owner burn its tokens and close the account, with another fee payer."""
    mint = sim.token
    burn = token.burn(
        BurnParams(
            program_id=mint.program,
            account=mint.account_of(owner.address),
            mint=mint.key,
            owner=owner.address,
            amount=25,
        )
    )
    close = owner.close(mint, mint.account_of(owner.address), sim.wallet.address)
    await sim.send([burn, close], owner.key)


async def test_every_kind_of_payment_is_found_by_either_way(chain: Chain) -> None:
    """Several in one block too, in the order of the block."""
    sim, address, other = chain.sim, await chain.sim.new_address(), await chain.sim.new_address()
    token_id = sim.asset(sim.token)
    for _ in range(2):
        await sim.pay(other, SOL)
        await sim.pay(address, 7, token_id)
        await sim.pay(address, SOL)
        await sim.pay_auxiliary(address, 9)
        await sim.pay(address, 1_000, sim.asset(sim.taxed))
        await sim.fail_next(address, SOL)
        await sim.mine(2)
    await sim.skip(40)
    await sim.pay_versioned(address, SOL, 0)
    await sim.pay_versioned(other, SOL, 1)
    await sim.pay_by_closing(address, SOL)
    await sim.pay_many([(other, 3, token_id), (address, 4, token_id)])
    await sim.mine(3)
    assert len(await both_ways(chain, address, other)) == 15


async def test_an_account_that_the_owner_has_closed_since_is_found(chain: Chain) -> None:
    """It is not among the accounts that there are, and the second payment to it does not name the owner."""
    sim, owner = chain.sim, Wallet()
    await sim.pay(str(owner.address), 10, sim.asset(sim.token))
    await sim.mine()
    await sim.send([sim.wallet.tokens_into(sim.token, sim.token.account_of(owner.address), 15)])
    await sim.mine()
    await closes_its_account(sim, owner)
    await sim.mine()
    assert len(await both_ways(chain, str(owner.address))) == 2


async def test_what_came_after_the_end_is_not_reported(chain: Chain) -> None:
    """The index says what is now; the span ends before."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.pay(address, SOL)
    await sim.mine(3)
    span = await chain.span(sparse=True)
    await sim.pay(address, 2 * SOL)
    await sim.mine()
    assert [each.amount for each in (await chain.rail.scan(span, chain.watch(address))).transfers] == [SOL]


@pytest.mark.parametrize("method", ["getTokenAccountsByOwner", "getSignaturesForAddress", "getTransaction"])
async def test_a_node_without_an_index_is_asked_for_its_blocks(lied_to: Chain, liar: Liar, method: str) -> None:
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    await sim.pay(address, 25, sim.asset(sim.token))
    await sim.mine(3)
    liar.lies[method] = refuse(-32010, "excluded from account secondary indexes; this RPC method is unavailable")
    scanned = await lied_to.rail.scan(await lied_to.span(sparse=True), lied_to.watch(address))
    assert scanned.method == "blocks"
    assert [each.amount for each in scanned.transfers] == [25]


async def test_a_refusal_of_another_kind_is_no_reason_to_ask_for_more(lied_to: Chain, liar: Liar) -> None:
    """A node that is asked too much is not asked for forty gigabytes instead."""
    await lied_to.sim.mine(3)
    liar.lies["getSignaturesForAddress"] = refuse(429, "Too many requests")
    with pytest.raises(RailUnavailable, match="Too many requests"):
        await lied_to.rail.scan(await lied_to.span(sparse=True), lied_to.watch(await lied_to.sim.new_address()))


async def test_an_operator_may_say_that_there_is_no_index(sim: SolanaSimulator, liar: Liar) -> None:
    address = await sim.new_address()
    settings = replace(sim.settings, options={"index": False})
    async with create_adapter(settings, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        await sim.pay(address, SOL)
        await sim.mine(3)
        assert [each.amount for each in await chain.found(address, sparse=True)] == [SOL]
    assert {name for name, _ in liar.calls}.isdisjoint({"getTokenAccountsByOwner", "getSignaturesForAddress"})


async def test_many_pages_are_one_answer(lied_to: Chain, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """And more than there may be are left to the blocks."""
    monkeypatch.setattr("railwatch_solana.account_index.PAGE", 2)
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    for amount in range(1, 6):
        await sim.pay(address, amount * SOL)
    await sim.mine(3)
    span = await lied_to.span(sparse=True)
    for pages, route in ((20, "index"), (2, "blocks")):
        monkeypatch.setattr("railwatch_solana.account_index.PAGES", pages)
        scanned = await lied_to.rail.scan(span, lied_to.watch(address))
        assert scanned.method == route
        assert [each.amount for each in scanned.transfers] == [amount * SOL for amount in range(1, 6)]


async def test_a_busy_address_is_searched_in_stretches_and_what_is_left_out_is_said(
    lied_to: Chain, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More transactions than are held at once: by the index still, newest first, up to a bound that has a name."""
    monkeypatch.setattr("railwatch_solana.account_index.PAGE", 2)
    monkeypatch.setattr("railwatch_solana.account_index.PAGES", 1)
    monkeypatch.setattr("railwatch_solana.lookback.BY_BLOCKS", 1)
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    for amount in range(1, 7):
        await sim.pay(address, amount * SOL, *([sim.asset(sim.token)] if amount % 3 == 0 else []))
        if amount % 2:
            await sim.pay(await sim.new_address(), SOL)
        await sim.mine(2)
    span, watches = await lied_to.span(sparse=True), lied_to.watch(address)
    every = [each.amount for each in (await lied_to.rail.scan(replace(span, sparse=False), watches)).transfers]
    liar.calls.clear()
    scanned = await lied_to.rail.scan(span, watches)
    assert (scanned.method, [each.amount for each in scanned.transfers]) == ("index", every)
    assert all(params[1]["transactionDetails"] != "accounts" for name, params in liar.calls if name == "getBlock")
    monkeypatch.setattr("railwatch_solana.lookback.TRANSACTIONS_MOST", 4)
    with pytest.raises(NotKept, match="transactions were read, back to slot") as refused:
        await lied_to.rail.scan(span, watches)
    first = refused.value.first
    assert first is not None
    assert span.after.height + 1 < first < span.upto.height
    newer = replace(span, after=await lied_to.rail.block_at(first - 1))
    assert [each.amount for each in (await lied_to.rail.scan(newer, watches)).transfers] == every[-4:]


async def test_a_quiet_address_costs_a_few_small_questions(lied_to: Chain, liar: Liar) -> None:
    """However long the span."""
    await lied_to.sim.skip(10_000)
    await lied_to.sim.mine(30)
    span, watches = await lied_to.span(sparse=True), lied_to.watch(await lied_to.sim.new_address())
    liar.calls.clear()
    assert list((await lied_to.rail.scan(span, watches)).transfers) == []
    assert sorted(name for name, _ in liar.calls) == [
        *["getBlock"] * 3,
        "getSignaturesForAddress",
        *["getTokenAccountsByOwner"] * 2,
    ]
    assert {params[1]["transactionDetails"] for name, params in liar.calls if name == "getBlock"} == {"none"}

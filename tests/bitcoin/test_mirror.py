"""Between two lists the pushes keep the mempool's mirror, and any uncertainty brings the list back (HAZARDS B15)."""

import asyncio

import pytest

from railwatch_bitcoin import mempool
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.bitcoin.conftest import Chain
from tests.bitcoin.faulty_proxy import Liar
from tests.bitcoin.push_fixtures import AMOUNT, LATE, PATIENCE, Node, entered, first_rings, followed, wake_counter

pytestmark = pytest.mark.bitcoind


async def test_between_lists_the_pushes_keep_the_mirror(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pushes show what comes, and which strangers go, without the list; at any uncertainty it is requested again.

    That one of ours goes is such a case: another message names its replacement, and both have to be known together.
    """
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 600.0)
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        liar.requests.clear()
        tx_id, stranger = await sim.pay(address, AMOUNT), await sim.pay(await sim.new_address(), AMOUNT)
        await spoken.say(b"sequence", bytes.fromhex(stranger) + b"A" + LATE)
        await spoken.say(b"sequence", bytes.fromhex(stranger) + b"R" + LATE)
        ringing = asyncio.create_task(heard.rings())
        await asyncio.sleep(0)
        await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"A" + LATE)
        await ringing
        assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]
        assert not any("getrawmempool" in request for request in liar.requests)
        for label, count in ((b"R", None), (b"A", 77)):  # ours goes, as it is said; a gap
            liar.requests.clear()
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await spoken.say(b"sequence", bytes.fromhex(tx_id) + label + LATE, count)
            await ringing
            assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]
            assert any("getrawmempool" in request for request in liar.requests)


async def test_pushes_without_end_bring_the_list_back(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that counts its changes as it likes could have its pushes kept with every list."""
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 600.0)
    monkeypatch.setattr(mempool, "PUSHED_MOST", 2)
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        liar.requests.clear()
        paid = [await sim.pay(address, AMOUNT) for _ in range(3)]
        for tx_id in paid:
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"A" + LATE)
            await ringing
        assert {each.tx_id for each in await rail.pending(watches)} == set(paid)
        assert any("getrawmempool" in request for request in liar.requests)


async def test_what_comes_during_a_poll_is_not_lost(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll applies what was announced, while the next body is still on its way."""
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 600.0)
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        for _ in range(5):
            tx_id = await sim.pay(address, AMOUNT)
            liar.requests.clear()
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"A" + LATE)
            while not ringing.done():
                await rail.pending(watches)
                await asyncio.sleep(0)  # reading what is known already gives no other task a turn
            assert tx_id in {each.tx_id for each in await rail.pending(watches)}
            assert not any("getrawmempool" in request for request in liar.requests)


async def test_pushes_from_before_the_list_change_nothing(sim: BitcoinSimulator, spoken: Node) -> None:
    """They were on their way while the list was read, and the list is right."""
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        tx_id = await sim.pay(address, AMOUNT)
        await followed(sim, spoken, heard)
        assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]
        await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"R" + (1).to_bytes(8, "little"))
        other = await sim.pay(address, AMOUNT)
        ringing = asyncio.create_task(heard.rings())
        await asyncio.sleep(0)
        await spoken.say(b"sequence", bytes.fromhex(other) + b"A" + LATE)
        await ringing
        assert {each.tx_id for each in await rail.pending(watches)} == {tx_id, other}


async def test_before_the_first_change_was_counted_no_push_is_trusted(sim: BitcoinSimulator, spoken: Node) -> None:
    """What is lost before a subscription begins leaves no gap."""
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await spoken.subscribed()
        await first_rings(heard)
        await spoken.say(b"hashblock", bytes(32))
        await heard.rung.wait()
        assert await rail.pending(watches) == []
        tx_id = await sim.pay(address, AMOUNT)
        assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]


async def test_trust_in_pushes_is_for_a_while_only(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher that has fallen silent shows no gap."""
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 0.2)
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        await sim.pay(address, AMOUNT)
        async with asyncio.timeout(PATIENCE):
            while not await rail.pending(watches):  # noqa: ASYNC110 (nothing is pushed: that is the story)
                await asyncio.sleep(0.02)

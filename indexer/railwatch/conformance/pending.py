"""Mempool checks: a full snapshot, in which an absent transfer is gone and a rival names what it displaces."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness, amounts, ids, single
from railwatch.conformance.watches import WatchSet, spends_of
from railwatch.rail import NO_RECIPIENT, Transfer


class PendingChecks(Conformance):
    """Unconfirmed transfers, and rivals wherever they appear."""

    async def test_without_a_mempool_nothing_is_pending(self, story: ChainHarness) -> None:
        if story.rail.traits.has_pending:
            pytest.skip("this rail has a mempool")
        address = await story.address()
        await story.pay(address)
        assert list(await story.rail.pending(story.watch(address))) == []

    async def test_a_waiting_payment_is_pending(self, story: ChainHarness) -> None:
        needs_pending(story)
        address = await story.address()
        tx_id = await story.pay(address, 3)
        transfer = single(await story.rail.pending(story.watch(address)))
        assert (transfer.tx_id, transfer.to, transfer.amount) == (tx_id, address.key, 3 * story.unit)
        assert transfer.asset == story.sim.native
        assert transfer.block is None

    async def test_pending_is_a_snapshot_each_time(self, story: ChainHarness) -> None:
        """A second call repeats the first: absence means dropped, so no transfer may be returned only once."""
        needs_pending(story)
        address = await story.address()
        for units in (1, 2):
            await story.pay(address, units)
        watches = story.watch(address)
        for _ in range(2):
            assert amounts(await story.rail.pending(watches), address) == [story.unit, 2 * story.unit]

    async def test_pending_tells_what_is_watched_and_nothing_else(self, story: ChainHarness) -> None:
        needs_pending(story)
        watched, noise = await story.address(), await story.address()
        await story.pay(noise)
        await story.pay(watched)
        assert {transfer.to for transfer in await story.rail.pending(story.watch(watched))} == {watched.key}
        assert list(await story.rail.pending(story.watch())) == []

    async def test_a_mined_payment_is_no_longer_pending_and_keeps_its_identity(self, story: ChainHarness) -> None:
        needs_pending(story)
        address = await story.address()
        await story.pay(address)
        watches = story.watch(address)
        waiting = await story.rail.pending(watches)
        await story.sim.mine()
        assert list(await story.rail.pending(watches)) == []
        assert ids((await story.scan(address)).transfers) == ids(waiting)

    async def test_what_waits_is_in_no_scan(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.sim.mine()
        await story.pay(address)
        assert list((await story.scan(address)).transfers) == []

    async def test_a_waiting_payment_says_what_it_consumes(self, story: ChainHarness) -> None:
        """Without ``spends`` no rival can ever be found."""
        needs_pending(story)
        address = await story.address()
        await story.pay(address)
        transfer = single(await story.rail.pending(story.watch(address)))
        assert transfer.spends

    async def test_a_transaction_is_not_its_own_rival(self, story: ChainHarness) -> None:
        needs_pending(story)
        address = await story.address()
        await story.pay(address)
        watches = await _watching_the_coins_of(story, story.watch(address))
        waiting = single(await story.rail.pending(watches))
        await story.sim.mine()
        mined = single((await story.scan_for(watches)).transfers)
        assert waiting.rivals == mined.rivals == ()

    async def test_a_replaced_payment_is_absent(self, story: ChainHarness) -> None:
        needs_pending(story)
        address = await story.address()
        old = await story.pay(address)
        await story.replace(old)
        assert list(await story.rail.pending(story.watch(address))) == []

    async def test_a_rival_that_pays_a_stranger_is_told_while_it_waits(self, story: ChainHarness) -> None:
        needs_pending(story)
        address = await story.address()
        old = await story.pay(address)
        watches = await _watching_the_coins_of(story, story.watch(address))
        rival = await story.replace(old)
        _names_the_rival(await story.rail.pending(watches), old, rival)

    async def test_a_rival_that_pays_a_stranger_is_told_when_it_is_mined(self, story: ChainHarness) -> None:
        """Also the first that is seen of it can be its block (HAZARDS B5)."""
        needs_pending(story)
        address = await story.address()
        old = await story.pay(address)
        watches = await _watching_the_coins_of(story, story.watch(address))
        rival = await story.replace(old)
        await story.sim.mine()
        scanned = (await story.scan_for(watches)).transfers
        _names_the_rival(scanned, old, rival)
        assert scanned[0].block is not None

    async def test_a_rival_of_nothing_that_is_watched_is_not_told(self, story: ChainHarness) -> None:
        needs_pending(story)
        address = await story.address()
        await story.replace(await story.pay(address))
        await story.sim.mine()
        assert list((await story.scan(address)).transfers) == []


def needs_pending(story: ChainHarness) -> None:
    """Skip where the rail has no mempool."""
    if not story.rail.traits.has_pending:
        pytest.skip("this rail has no mempool")


async def _watching_the_coins_of(story: ChainHarness, watches: WatchSet) -> WatchSet:
    """``watches`` with the coins of all that is pending now, as the daemon would give them back."""
    return replace(watches, spends=spends_of(await story.rail.pending(watches)))


def _names_the_rival(transfers: Sequence[Transfer], old: str, rival: str) -> None:
    """Assert that the only transfer is the rival's: amount 0 to `NO_RECIPIENT`, in place of the old one."""
    transfer = single(transfers)
    assert (transfer.tx_id, transfer.to, transfer.amount) == (rival, NO_RECIPIENT, 0)
    assert transfer.rivals == (old,)

"""Balance checks, on rails that serve balances: after exactly the requested block, and of each asset alone."""

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness
from railwatch.rail import Address, AssetId, BlockGone, BlockRef, SupportsBalances


class BalanceChecks(Conformance):
    """Balances. Skipped by ``traits.can_balance``."""

    async def test_the_balance_at_a_block_is_what_was_paid_up_to_it(self, story: ChainHarness) -> None:
        rail, address = balance_adapter(story), await story.address()
        blocks = [await story.head()]
        for units in (1, 2):
            await story.paid(address, units)
            blocks.append(await story.head())
        # Asked in another order than that of the chain: what is given is the block's, and not the newest.
        held = [await held_at(rail, story.sim.native, block, address) for block in (blocks[1], blocks[0], blocks[2])]
        assert held == [[story.unit], [0], [3 * story.unit]]

    async def test_each_asset_has_a_balance_of_its_own(self, story: ChainHarness) -> None:
        rail, address = balance_adapter(story), await story.address()
        for units, asset in enumerate(story.sim.assets, start=1):
            await story.pay(address, units, asset)
        await story.sim.mine()
        head = await story.head()
        for units, asset in enumerate(story.sim.assets, start=1):
            assert await held_at(rail, asset, head, address) == [units * story.unit]

    async def test_many_addresses_are_told_at_once_each_its_own(self, story: ChainHarness) -> None:
        rail = balance_adapter(story)
        addresses = [await story.address() for _ in range(100)]
        for units, address in enumerate(addresses[:3], start=1):
            await story.pay(address, units)
        await story.sim.mine()
        expected = [story.unit, 2 * story.unit, 3 * story.unit, *([0] * 97)]
        assert await held_at(rail, story.sim.native, await story.head(), *addresses) == expected

    async def test_a_balance_is_exact(self, story: ChainHarness) -> None:
        rail, address = balance_adapter(story), await story.address()
        # HAZARDS B13, I9: beyond what a float can hold, where the unit is small enough.
        exact = 2**53 + 1 if story.rail.traits.native_decimals >= 16 else 29 * story.unit + 7
        await story.sim.pay(address.text, exact)
        await story.sim.mine()
        (held,) = await held_at(rail, story.sim.native, await story.head(), address)
        assert (type(held), held) == (int, exact)

    async def test_a_block_that_is_gone_has_no_other_branchs_balance(self, story: ChainHarness) -> None:
        rail, address = balance_adapter(story), await story.address()
        await story.sim.mine()
        before = await story.head()
        await story.paid(address)
        gone = await story.head()
        await story.reorg(1, keep=False)
        assert await held_at(rail, story.sim.native, before, address) == [0]
        assert await held_at(rail, story.sim.native, await story.head(), address) == [0]
        try:
            held = await held_at(rail, story.sim.native, gone, address)
        except BlockGone:
            return
        assert held == [story.unit], "the block was asked about, and another one's balance was given"


def balance_adapter(story: ChainHarness) -> SupportsBalances:
    """Return the rail as one that serves balances, or skip."""
    if not story.rail.traits.can_balance:
        pytest.skip("this rail serves no balances, or has nothing to find by them")
    assert isinstance(story.rail, SupportsBalances), "can_balance is said, and there is no method balances"
    return story.rail


async def held_at(rail: SupportsBalances, asset: AssetId, block: BlockRef, *addresses: Address) -> list[int]:
    """Return what the addresses hold, in their order."""
    held = await rail.balances([address.key for address in addresses], asset, block)
    assert set(held) == {address.key for address in addresses}
    return [held[address.key] for address in addresses]

"""Wrong about what an address holds."""

from railwatch.rail import AssetId
from railwatch_fake import Rules
from tests.conformance.mutants.base import Broken, caught_by


class Balanced(Broken):
    """On a rail that reports balances."""

    rules = Rules(balances=True)


@caught_by("the_balance_at_a_block_is_what_was_paid_up_to_it")
class TellsTheNewestBalance(Balanced):
    async def balances(self, keys, asset, at):
        return await super().balances(keys, asset, (await self.heads()).latest)


@caught_by("each_asset_has_a_balance_of_its_own")
class TellsOnlyTheNativeBalance(Balanced):
    async def balances(self, keys, asset, at):
        return await super().balances(keys, AssetId(f"{self.chain_id}/{self.traits.native_asset}"), at)


@caught_by("many_addresses_are_told_at_once_each_its_own")
class LeavesOutWhatIsEmpty(Balanced):
    async def balances(self, keys, asset, at):
        honest = await super().balances(keys, asset, at)
        return {key: amount for key, amount in honest.items() if amount}


@caught_by("a_balance_is_exact")
class TellsBalancesInFloats(Balanced):
    async def balances(self, keys, asset, at):
        honest = await super().balances(keys, asset, at)
        return {key: float(amount) for key, amount in honest.items()}


@caught_by("a_block_that_is_gone_has_no_other_branchs_balance")
class AsksByHeight(Balanced):
    async def balances(self, keys, asset, at):
        return await super().balances(keys, asset, await self.block_at(at.height))

"""Wrong about heads and blocks."""

from dataclasses import replace

from railwatch.rail import Heads
from railwatch_fake import Rules
from tests.conformance.mutants.base import Broken, BrokenSimulator, caught_by


@caught_by("a_mined_block_moves_the_head")
class KeepsTheFirstHead(Broken):
    kept = None

    async def heads(self):
        self.kept = self.kept or await super().heads()
        return self.kept


@caught_by("nothing_is_mined_unasked", "what_waits_is_in_no_scan")
class HasAnImpatientSimulator(Broken):
    @classmethod
    def simulator(cls):
        class Impatient(BrokenSimulator):
            async def pay(self, *args, **kwargs):
                tx_id = await super().pay(*args, **kwargs)
                await self.mine()
                return tx_id

        return Impatient(cls)


@caught_by("heads_are_in_order")
class SwapsSafeAndFinalized(Broken):
    rules = Rules(safe=1, finality=2)

    async def heads(self):
        heads = await super().heads()
        return Heads(heads.latest, heads.finalized, heads.safe)


@caught_by("heads_are_canonical_blocks")
class InventsAHead(Broken):
    async def heads(self):
        heads = await super().heads()
        return replace(heads, latest=replace(heads.latest, hash="pending"))


@caught_by("a_rail_without_finality_calls_nothing_finalized")
class CallsTheHeadFinal(Broken):
    async def heads(self):
        heads = await super().heads()
        return replace(heads, finalized=heads.latest)


@caught_by("finality_never_goes_back")
class LosesFinality(Broken):
    rules = Rules(finality=2)
    asked = 0

    async def heads(self):
        self.asked += 1
        heads = await super().heads()
        return replace(heads, finalized=await self.block_at(0)) if self.asked > 2 else heads


@caught_by("blocks_are_linked_and_rise", "one_block_brings_its_parent")
class LeavesOutParents(Broken):
    async def block_at(self, height):
        return replace(await super().block_at(height), parent="")

    async def scan(self, span, watches):
        scanned = await super().scan(span, watches)
        return replace(scanned, blocks=[replace(ref, parent="") for ref in scanned.blocks])


@caught_by("every_height_has_a_block_or_the_nearest_below")
class AnswersFromAbove(Broken):
    async def block_at(self, height):
        return await super().block_at(min(height + 1, self._node.chain.tip.height))


@caught_by("above_the_head_there_is_no_block")
class AnswersAboveTheHead(Broken):
    async def block_at(self, height):
        return await super().block_at(min(height, self._node.chain.tip.height))


@caught_by("a_reorg_gives_other_blocks_above_the_fork")
class CachesByHeight(Broken):
    async def block_at(self, height):
        self.cache = getattr(self, "cache", {})
        if height not in self.cache:
            self.cache[height] = await super().block_at(height)
        return self.cache[height]


@caught_by("times_are_utc")
class LeavesOutTheZone(Broken):
    async def block_at(self, height):
        ref = await super().block_at(height)
        return replace(ref, time=ref.time.replace(tzinfo=None))

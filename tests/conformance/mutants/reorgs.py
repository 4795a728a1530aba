"""Wrong after a reorg."""

from dataclasses import replace

from railwatch.rail import BlockGone, Scanned, Transfer
from tests.conformance.mutants.base import Broken, caught_by


@caught_by("identity_does_not_depend_on_the_block")
class NamesByPlaceInTheBlock(Broken):
    def spoil(self, found, span, watches):
        txs = {block.hash: [tx.id for tx in block.txs] for block in self._node.chain.line}
        return [replace(t, tx_index=f"log:{txs[t.block.hash].index(t.tx_id)}") for t in found]


@caught_by("inclusion_follows_the_reorg")
class RemembersTheFirstInclusion(Broken):
    def spoil(self, found, span, watches):
        self.first = getattr(self, "first", {})
        return [replace(t, block=self.first.setdefault(t.tx_id, t.block)) for t in found]


@caught_by("a_payment_that_the_reorg_lost_is_not_told", "scans_agree_before_and_after_a_reorg_above_them")
class CountsOrphans(Broken):
    def spoil(self, found, span, watches):
        chain = self._node.chain
        orphans = [b for b in chain.blocks.values() if b not in chain.line and b.height > span.after.height]
        return [
            *found,
            *(
                Transfer(tx.id, "out:0", out.to, watches.assets[""], out.amount, span.upto)
                for block in orphans
                for tx in block.txs
                for out in tx.outputs
                if watches.hits([out.to])
            ),
        ]


@caught_by(
    "a_start_that_is_no_ancestor_is_gone",
    "a_block_that_never_was_is_gone",
    "random_steps_end_in_the_exact_ledger",
)
class IgnoresTheStart(Broken):
    """Asks by height above ``after``, as `eth_getLogs` with a range would."""

    async def _walk(self, span):
        line = self._node.chain.line
        if (await self.block_at(span.upto.height)).hash != span.upto.hash:
            raise BlockGone("not canonical")
        wanted = [block.hash for block in line if span.after.height < block.height <= span.upto.height]
        return [await self._block(block_hash) for block_hash in wanted]


@caught_by("an_orphaned_end_is_gone")
class IgnoresWhatIsCanonical(Broken):
    """The lineage is right, and of a branch that no node follows any more."""

    async def scan(self, span, watches):
        self.asked = span.upto
        return await super().scan(span, watches)

    async def block_at(self, height):
        asked = getattr(self, "asked", None)
        return asked if asked and asked.height == height else await super().block_at(height)


@caught_by("an_orphaned_end_is_gone", "a_start_that_is_no_ancestor_is_gone")
class AnswersInPartAfterAReorg(Broken):
    """What of the span is still canonical, without a word about the rest."""

    async def _walk(self, span):
        line = self._node.chain.line
        return [await self._block(b.hash) for b in line if span.after.height < b.height <= span.upto.height]


@caught_by("a_start_that_is_no_ancestor_is_gone", "an_orphaned_end_is_gone")
class ChecksOnlyFullSpans(Broken):
    """The index that answers sparse spans knows heights and no hashes."""

    async def scan(self, span, watches):
        try:
            return await super().scan(span, watches)
        except BlockGone:
            if not span.sparse:
                raise
            return Scanned([span.upto], [])


@caught_by("scans_agree_before_and_after_a_reorg_above_them")
class PanicsAfterAReorg(Broken):
    async def scan(self, span, watches):
        if len(self._node.chain.blocks) > len(self._node.chain.line):
            raise BlockGone("there was a reorg, somewhere")
        return await super().scan(span, watches)

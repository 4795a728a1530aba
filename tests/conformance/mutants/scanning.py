"""Wrong about spans: something is lost, doubled or out of order."""

from dataclasses import replace

from railwatch.rail import Scanned
from railwatch_fake.decode import transfers
from tests.conformance.mutants.base import Broken, caught_by


@caught_by("no_watches_no_transfers_but_all_blocks")
class LeavesEarlyWithoutWatches(Broken):
    async def scan(self, span, watches):
        return await super().scan(span, watches) if len(watches) else Scanned([span.upto], [])


@caught_by("the_first_block_is_excluded_and_the_last_included", "every_split_of_a_span_gives_the_same")
class CountsTheFirstBlockToo(Broken):
    async def scan(self, span, watches):
        scanned = await super().scan(span, watches)
        first = transfers((await self._block(span.after.hash))["txs"], span.after, self.chain_id, watches)
        return replace(scanned, transfers=[*first, *scanned.transfers])


@caught_by("every_split_of_a_span_gives_the_same")
class DropsWhatIsAtASpansEnd(Broken):
    def spoil(self, found, span, watches):
        return [transfer for transfer in found if len(span) == 1 or transfer.block != span.upto]


@caught_by("transfers_follow_the_order_of_their_blocks")
class TellsTheNewestFirst(Broken):
    def spoil(self, found, span, watches):
        return found[::-1]


@caught_by("asking_twice_gives_the_same")
class TellsEverythingOnce(Broken):
    def spoil(self, found, span, watches):
        self.reported: set[str] = getattr(self, "reported", set())
        fresh = [transfer for transfer in found if transfer.tx_id not in self.reported]
        self.reported.update(transfer.tx_id for transfer in found)
        return fresh


@caught_by("a_sparse_span_says_the_same_in_fewer_blocks", "ten_thousand_watches_find_what_a_few_find")
class HasAnIndexThatLags(Broken):
    def spoil(self, found, span, watches):
        return [] if span.sparse and watches.keys_up_to(100) is not None else found


@caught_by("ten_thousand_watches_find_what_a_few_find")
class TruncatesLongLists(Broken):
    def spoil(self, found, span, watches):
        return found if watches.keys_up_to(1_000) is not None else found[:1]

"""Wrong about the mempool, or about rivals."""

from dataclasses import replace

from railwatch.rail import NO_RECIPIENT, Transfer
from railwatch_fake import Rules
from railwatch_fake.decode import transfers
from tests.conformance.mutants.base import Broken, caught_by


@caught_by("without_a_mempool_nothing_is_pending")
class TellsAMempoolThatItHasNot(Broken):
    rules = Rules(mempool=False)

    async def pending(self, watches):
        return transfers(await self._ask(self._node.mempool), None, self.chain_id, watches)


@caught_by("a_waiting_payment_is_pending")
class TellsNothingPending(Broken):
    async def pending(self, watches):
        return []


@caught_by("pending_is_a_snapshot_each_time")
class TellsOnlyWhatIsNew(Broken):
    async def pending(self, watches):
        reported: set[str] = getattr(self, "reported", set())
        fresh = [transfer for transfer in await super().pending(watches) if transfer.tx_id not in reported]
        self.reported = reported | {transfer.tx_id for transfer in fresh}
        return fresh


@caught_by("a_mined_payment_is_no_longer_pending_and_keeps_its_identity", "a_replaced_payment_is_absent")
class NeverForgets(Broken):
    async def pending(self, watches):
        # What waits, and all that ever did.
        every = [self._node._tx(tx) for tx in self._node.chain.txs.values()]
        return transfers(every, None, self.chain_id, watches)


@caught_by("what_waits_is_in_no_scan")
class CountsTheMempoolAsABlock(Broken):
    async def scan(self, span, watches):
        scanned = await super().scan(span, watches)
        waiting = [replace(transfer, block=span.upto) for transfer in await self.pending(watches)]
        return replace(scanned, transfers=[*scanned.transfers, *waiting])


@caught_by("a_waiting_payment_says_what_it_consumes")
class HidesWhatItConsumes(Broken):
    async def pending(self, watches):
        return [replace(transfer, spends=()) for transfer in await super().pending(watches)]


@caught_by("a_transaction_is_not_its_own_rival")
class RivalsItself(Broken):
    async def pending(self, watches):
        return [replace(transfer, rivals=(transfer.tx_id,)) for transfer in await super().pending(watches)]


@caught_by(
    "a_rival_that_pays_a_stranger_is_told_while_it_waits",
    "a_rival_that_pays_a_stranger_is_told_when_it_is_mined",
)
class LooksOnlyAtWatchedAddresses(Broken):
    """A double-spend pays another recipient: by addresses alone it is never seen."""

    def spoil(self, found, span, watches):
        return [transfer for transfer in found if transfer.to != NO_RECIPIENT]

    async def pending(self, watches):
        return self.spoil(await super().pending(watches), None, watches)


@caught_by("a_rival_of_nothing_that_is_watched_is_not_told")
class TellsOfEveryStranger(Broken):
    async def scan(self, span, watches):
        scanned = await super().scan(span, watches)
        txs = [tx for block in self._node.chain.line for tx in block.txs]
        strangers = [Transfer(tx.id, "rival", NO_RECIPIENT, watches.assets[""], 0, span.upto) for tx in txs]
        return replace(scanned, transfers=[*scanned.transfers, *strangers])

"""Wrong about what one payment was."""

from dataclasses import replace

from railwatch.conformance.transfers import EVIDENCE_MAX
from railwatch_fake.decode import asset_id
from tests.conformance.mutants.base import Broken, Everybody, caught_by


@caught_by("a_payment_is_told_as_it_was_made", "each_asset_is_told_under_its_own_id")
class DoublesTheNativeAsset(Broken):
    """As a trace and a log of the same payment would (HAZARDS E5)."""

    def spoil(self, found, span, watches):
        native = watches.assets[""]
        return [*found, *(replace(t, tx_index=f"log:{t.tx_index}") for t in found if t.asset == native)]


@caught_by("a_token_that_is_not_configured_is_never_told_as_one_that_is")
class TakesAnyTokenForNative(Broken):
    def spoil(self, found, span, watches):
        return [replace(transfer, asset=asset_id(self.chain_id, "")) for transfer in found]


@caught_by("amounts_are_exact_integers")
class CountsInFloats(Broken):
    def spoil(self, found, span, watches):
        return [replace(transfer, amount=float(transfer.amount)) for transfer in found]


@caught_by("several_payments_in_one_block_are_all_told", "ten_thousand_watches_find_what_a_few_find")
class TellsOneABlock(Broken):
    def spoil(self, found, span, watches):
        return list({transfer.block: transfer for transfer in found}.values())


@caught_by("one_address_paid_twice_in_a_block_is_two_transfers")
class SumsByAddress(Broken):
    def spoil(self, found, span, watches):
        total = sum(transfer.amount for transfer in found)
        return [replace(transfer, amount=total) for transfer in found[:1]]


@caught_by("what_can_be_paid_is_not_refused")
class RefusesEverything(Broken):
    async def check_payment(self, address, asset, amount, reference):
        return "too little"


@caught_by("a_failed_transaction_is_invisible")
class BelievesFailures(Broken):
    async def _block(self, block_hash):
        answer = await super()._block(block_hash)
        return {**answer, "txs": [{**tx, "failed": False} for tx in answer["txs"]]}


@caught_by("a_failed_transaction_hides_no_other")
class StopsAtTheFirstFailure(Broken):
    async def _block(self, block_hash):
        answer = await super()._block(block_hash)
        failed = any(tx["failed"] for tx in answer["txs"])
        return {**answer, "txs": [], "count": 0} if failed else answer


@caught_by("what_nobody_watches_is_not_told", "pending_tells_what_is_watched_and_nothing_else")
class IgnoresTheWatchList(Broken):
    async def scan(self, span, watches):
        return await super().scan(span, Everybody(watches))

    async def pending(self, watches):
        return await super().pending(Everybody(watches))


@caught_by("evidence_is_bounded_json")
class TellsTooMuch(Broken):
    def spoil(self, found, span, watches):
        return [replace(transfer, evidence={"raw": "00" * EVIDENCE_MAX}) for transfer in found]

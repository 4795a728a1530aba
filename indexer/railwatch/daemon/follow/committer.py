"""Turns what was scanned into one committed step: the only way from a node's answer into the tables."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import UUID

import structlog

from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.policy import Progress, Threshold
from railwatch.core.step import InvoiceUpdate, Position, apply_clock, apply_step, group_by_invoice
from railwatch.core.thresholds import second_look_threshold
from railwatch.daemon.follow.isolation import OUTSIDE, by_halves
from railwatch.daemon.follow.quarantine import Failures
from railwatch.rail.types import AssetId, BlockRef, Span, Traits, Transfer
from railwatch.reasons import describe
from railwatch.store.errors import BranchChanged
from railwatch.store.quarantine import Deferred
from railwatch.store.steps import (
    Acceptance,
    InclusionBlock,
    SecondLookResult,
    StepLookup,
    StepStore,
    StepTransaction,
    WindowCursor,
)

log = structlog.get_logger()

LOGGED_TRANSITIONS_MAX = 50
"""Invoices that one step tells the log about; the feed holds them all."""

CHECKPOINT_SPACING = 16
"""Every so many heights a block becomes a checkpoint though nothing was found in it."""


Result = TypeVar("Result")

Act = Callable[[Sequence[InvoiceAggregate]], object]
"""What a step does to the books of some invoices. It may be done anew to fresh books of some of them."""


@dataclass(frozen=True, slots=True)
class BlockBatch:
    """Blocks that were scanned, ready to be committed. ``fork``: what a reorg leaves standing; None without one."""

    before: BlockRef | None
    span: Span
    blocks: Sequence[BlockRef]
    transfers: Sequence[Transfer]
    fork: BlockRef | None = None


@dataclass(slots=True)
class Verification:
    """Whether stored inclusions were compared with the chain since the rail was taken up: before, none is promoted."""

    done: bool = True


@dataclass(frozen=True, slots=True)
class Committer:
    """Writes the steps of one rail."""

    rail: str
    traits: Traits
    configured: Mapping[AssetId, int]
    """The rail's assets, each with the least amount (base units) that moves anything."""
    steps: StepStore
    origin: str | None = None
    """The name that ids of its transfers derive from, if it was renamed."""
    failures: Failures = field(default_factory=Failures)
    """Tells one invoice's failure from everybody's. It outlives the recorder."""
    second_looks: dict[UUID, Threshold] = field(default_factory=dict)
    """Transfers that are read a second time before they are told final, and when that is. May hold too much, never
    too little: what is in it is asked of the database before it counts."""
    verification: Verification = field(default_factory=Verification)

    async def commit_blocks(self, batch: BlockBatch, position: Position, anchor: int | None) -> list[BlockRef]:
        """Commit blocks with everything that they change; returns the checkpoints that were kept for them.

        ``anchor``: height below which stored checkpoints can never be of use again. Raises
        `LeaseLost` or `StoreUnavailable`, and then nothing was written.
        """
        kept = self._checkpoints(batch, position)
        quiet = not (batch.transfers or batch.fork or kept)
        if quiet and await self.steps.advance_cursor(batch.before, position):
            return kept
        fork = batch.fork.height if batch.fork else None
        lookup = self._lookup(batch.transfers, fork)
        # Old ones are swept with the sparse row, and not with each block that holds something.
        sweep = any(block.height % CHECKPOINT_SPACING == 0 for block in kept)

        async def commit(apart: bool) -> list[BlockRef]:
            async with self.steps.begin(batch.before, position, lookup, kept, anchor if sweep else None) as step:
                await self._apply_updates(step, batch, position, lookup, apart)
            return kept

        return await self._commit(commit)

    async def commit_lookback(
        self,
        rewinds: int,
        blocks: Sequence[BlockRef],
        transfers: Sequence[Transfer],
        watching: Sequence[UUID] = (),
        covered_from: int = 0,
    ) -> tuple[list[BlockRef], int]:
        """Commit transfers of blocks at or below the cursor (look-back, rescan), which were found on its branch.

        Returns the checkpoints kept, and how many of the transfers were not known before. Raises `BranchChanged` if the
        branch changed since ``rewinds``, or if a block contradicts one that is stored; then nothing was written.
        """
        lookup = self._lookup(transfers)

        async def commit(apart: bool) -> tuple[list[BlockRef], int]:
            found = 0
            async with self.steps.begin_at_cursor(rewinds, lookup) as (step, position):
                _require_below(position.cursor, transfers)
                batch = BlockBatch(None, Span(position.cursor, position.cursor), blocks, transfers)
                kept = self._affected_blocks(transfers, position)
                if transfers:
                    found = await self._apply_updates(step, batch, position, lookup, apart)
                    await step.keep_checkpoints(kept)
                if watching:
                    await step.begin_watching(watching, covered_from)
            return kept, found

        return await self._commit(commit)

    async def commit_inclusion_check(
        self,
        rewinds: int,
        canonical: Sequence[BlockRef],
        gone: Sequence[InclusionBlock],
        transfers: Sequence[Transfer],
    ) -> list[BlockRef]:
        """Commit what the comparison of stored inclusions with the chain said, and all that waited for it.

        ``canonical`` are on the chain that leads to the cursor, and become checkpoints. Inclusions in ``gone`` are
        taken back. ``transfers`` are what the chain pays from the lowest of those on. Returns the checkpoints.
        """
        lookup = self._lookup(transfers)
        lowest = min((block.height for block in gone), default=None)

        async def commit(apart: bool) -> list[BlockRef]:
            async with self.steps.begin_at_cursor(rewinds, lookup) as (step, position):
                _require_below(position.cursor, transfers)
                kept = {block.height: block for block in canonical if self._reorgable(block, position)}
                kept |= {block.height: block for block in self._affected_blocks(transfers, position)}
                await step.orphan_inclusions(gone)
                if lowest is not None:
                    await step.quarantine.defer_reorg(lowest - 1)
                batch = BlockBatch(None, Span(position.cursor, position.cursor), (), transfers)
                await self._apply_updates(step, batch, position, lookup, apart, verified=True)
                await step.replace_checkpoints(list(kept.values()), lowest)
            return list(kept.values())

        return await self._commit(commit)

    async def accept_chain(self, before: BlockRef, position: Position, acceptance: Acceptance) -> None:
        """Go back to the fork that a person has accepted, however deep, and tell all that is taken back by that."""
        fork = position.cursor
        lookup, batch = self._lookup((), fork.height), BlockBatch(before, Span(fork, fork), (), (), fork)

        async def commit(apart: bool) -> None:
            async with self.steps.begin(before, position, lookup, [fork], None) as step:
                await step.accept_chain(acceptance)
                await self._apply_updates(step, batch, position, lookup, apart, accepts_chain=True)

        await self._commit(commit)

    async def commit_mempool(self, rewinds: int, snapshot: Sequence[Transfer]) -> None:
        """Commit a snapshot of the mempool: what is new in it, and what is no longer there (HAZARDS B1, B2)."""
        lookup = self._lookup(snapshot)
        present = {transfer.tx_id for transfer in snapshot if transfer.amount}

        async def commit(apart: bool) -> None:
            async with self.steps.begin_at_cursor(rewinds, lookup) as (step, position):
                absent = [(invoice, each) for invoice, each, tx_id in await step.pending() if tx_id not in present]

                def news() -> dict[UUID, InvoiceUpdate]:
                    told = self._updates(step, lookup)
                    for invoice, detection in absent:
                        told.setdefault(invoice, InvoiceUpdate()).lost.setdefault(detection, None)
                    return told

                ctx, also = self._context(step, position, ()), [each for _, each in absent]
                await self._apply_deferred(step, lookup, news, ctx, apart, also)

        await self._commit(commit)

    async def drop_second_looks(self, rewinds: int, ids: Sequence[UUID]) -> None:
        """Forget those that need no second look; asked while no other step, which may need one, is under way."""
        before = {identity: self.second_looks[identity] for identity in ids}
        async with self.steps.begin_at_cursor(rewinds, self._lookup(())) as (step, _):
            needed = {claim.id for claim in await step.claims(ids)}
        for identity, due in before.items():
            if identity not in needed and self.second_looks.get(identity) is due:
                del self.second_looks[identity]

    async def commit_second_looks(self, rewinds: int, results: Sequence[SecondLookResult]) -> None:
        """Write what second looks said, and what follows from it: final, or an exception."""
        also = [look.claim.id for look in results]

        async def commit(apart: bool) -> None:
            async with self.steps.begin_at_cursor(rewinds, self._lookup(())) as (step, position):
                ctx, concerned = self._context(step, position, ()), await step.save_second_looks(results)
                await self._apply(step, concerned, lambda aggregates: apply_step(aggregates, {}, ctx), apart, also)

        await self._commit(commit)

    async def commit_expiries(self, rewinds: int, after: WindowCursor) -> int:
        """Expire what the clock and the coverage have caught up with; returns how many invoices were looked at."""

        async def commit(apart: bool) -> int:
            async with self.steps.begin_at_cursor(rewinds, self._lookup(())) as (step, position):
                ctx, due = self._context(step, position, ()), await step.closed_windows(after)
                return len(
                    await self._apply(
                        step, due, lambda aggregates: apply_clock(aggregates, ctx), apart, every_rail=True
                    )
                )

        return await self._commit(commit)

    async def commit_readmission(self, rewinds: int, invoice: UUID, kept: Sequence[Deferred]) -> bool:
        """Take in what was ``kept`` for an invoice in quarantine, in the order of the chain, and end its quarantine.

        False if more has been kept since. Raises whatever the invoice still fails with; then nothing was written.
        """
        lookup = self._lookup([each.transfer for each in kept])
        async with self.steps.begin_at_cursor(rewinds, lookup) as (step, position):
            if await step.quarantine.deferred(invoice) != kept:
                return False
            undone = await step.quarantine.undone(invoice)
            updates = {invoice: self._deferred_update(step, invoice, kept, undone)}
            aggregates = await step.aggregates([invoice], undone, catch_up=True)
            # What was final is undone only where a person has accepted another chain meanwhile.
            ctx = replace(self._context(step, position, ()), accepts_chain=bool(undone))
            apply_step(aggregates, updates, ctx)
            await self._save(step, aggregates)
            await step.quarantine.take_back(invoice)
        return True

    def _lookup(self, transfers: Sequence[Transfer], fork: int | None = None) -> StepLookup:
        return StepLookup(self.traits.family, transfers, fork)

    def _updates(self, step: StepTransaction, lookup: StepLookup) -> dict[UUID, InvoiceUpdate]:
        """What the transfers mean, and what a reorg took, by invoice."""
        updates = group_by_invoice(
            lookup.transfers, self.rail, step.affected.recorded(self.origin), self.configured, step.now
        )
        for invoice, detections in step.affected.orphaned.items():
            updates.setdefault(invoice, InvoiceUpdate()).orphaned.extend(detections)
        return updates

    def _deferred_update(
        self, step: StepTransaction, invoice: UUID, kept: Sequence[Deferred], undone: set[UUID]
    ) -> InvoiceUpdate:
        """What was kept for one invoice means to it, as it would have then. No other invoice can claim it by now."""
        recorded = step.affected.recorded(self.origin)
        own = {key: [each for each in some if each.invoice_id == invoice] for key, some in recorded.candidates.items()}
        recorded = replace(recorded, candidates=own, orphaned=undone)
        update = InvoiceUpdate(orphaned=sorted(undone))
        for each in kept:
            found = group_by_invoice([each.transfer], self.rail, recorded, self.configured, each.seen_at)
            addition = found.get(invoice, InvoiceUpdate())
            update.orphaned += [gone for gone in addition.orphaned if gone not in update.orphaned]
            update.lost |= addition.lost
            update.observations += addition.observations
            update.small += addition.small
        return update

    async def _apply_updates(
        self,
        step: StepTransaction,
        batch: BlockBatch,
        position: Position,
        lookup: StepLookup,
        apart: bool,
        *,
        accepts_chain: bool = False,
        verified: bool = False,
    ) -> int:
        def news() -> dict[UUID, InvoiceUpdate]:
            told = self._updates(step, lookup)
            if not len(batch.span):
                # A look-back or a rescan shows blocks that were followed already: what is small there was counted then.
                for update in told.values():
                    update.small.clear()
            return told

        ctx = self._context(step, position, batch.blocks, history=batch.span.finalized, verified=verified)
        ctx = replace(ctx, accepts_chain=accepts_chain)
        aggregates = await self._apply_deferred(step, lookup, news, ctx, apart)
        return sum(len(aggregate.new_detections) for aggregate in aggregates)

    async def _apply_deferred(
        self,
        step: StepTransaction,
        lookup: StepLookup,
        news: Callable[[], dict[UUID, InvoiceUpdate]],
        ctx: StepContext,
        apart: bool,
        also: Collection[UUID] = (),
    ) -> Sequence[InvoiceAggregate]:
        """Write what transfers bring, and keep what they bring for invoices in quarantine.

        ``news`` makes it anew each time, for what an attempt has changed in it must not enter into the next.
        """
        told = news()
        invoices = {*step.affected.due, *told}
        act: Act = (
            (lambda aggregates: apply_step(aggregates, news(), ctx))
            if apart
            else (lambda aggregates: apply_step(aggregates, told, ctx))
        )
        aggregates = await self._apply(step, invoices, act, apart, also)
        left = told.keys() - {aggregate.invoice.id for aggregate in aggregates}
        if lookup.fork is not None:
            await step.quarantine.defer_reorg(lookup.fork)
        if left:
            await self._defer(step, lookup, left)
        return aggregates

    async def _defer(self, step: StepTransaction, lookup: StepLookup, invoices: Collection[UUID]) -> None:
        """Keep the transfers that concern ``invoices``, which are in quarantine by now."""
        recorded, kept = step.affected.recorded(self.origin), list[tuple[UUID, Transfer]]()
        for transfer in lookup.transfers:
            about = group_by_invoice([transfer], self.rail, recorded, self.configured, step.now)
            kept += [(invoice, transfer) for invoice in invoices if invoice in about]
        await step.quarantine.defer(self.origin or self.rail, kept)

    def _plan_second_looks(self, aggregates: Sequence[InvoiceAggregate]) -> None:
        for aggregate in aggregates:
            for identity in aggregate.changed_detections:
                detection = aggregate.detections[identity]
                due = second_look_threshold(
                    detection, aggregate.policies, self.traits.horizon, self.traits.has_finalized
                )
                if due is not None and detection.rail == self.rail:
                    self.second_looks[identity] = due

    async def _commit(self, commit: Callable[[bool], Awaitable[Result]]) -> Result:
        """Commit a step. If it fails by what is in it, do it once more with each invoice kept apart from the others.

        The first attempt pays nothing for that: savepoints cost turns, and failures are rare.
        """
        try:
            return await commit(False)
        except OUTSIDE:
            raise
        except Exception as defect:
            log.warning("step.failed", rail=self.rail, reason=describe(defect), exc_info=defect)
        return await commit(True)

    async def _apply(
        self,
        step: StepTransaction,
        invoices: Collection[UUID],
        act: Act,
        apart: bool,
        also: Collection[UUID] = (),
        *,
        every_rail: bool = False,
    ) -> Sequence[InvoiceAggregate]:
        """Load the invoices, do ``act`` to them, and write them. Those in quarantine are left out.

        ``apart``: each that fails is undone alone, and put into quarantine. Raises `InvoiceFailed` where that does not
        look like the fault of single invoices.
        """
        if not apart:
            aggregates = await step.aggregates(invoices, also, whole=every_rail)
            act(aggregates)
            await self._save(step, aggregates)
            self.failures.note_success(aggregates)
            return aggregates
        done: list[InvoiceAggregate] = []
        failed: dict[UUID, Exception] = {}

        async def attempt(some: Sequence[UUID]) -> None:
            async with step.savepoint():
                aggregates = await step.aggregates(some, also, whole=every_rail)
                act(aggregates)
                await self._save(step, aggregates)
            done.extend(aggregates)

        async def blame(invoice: UUID, defect: Exception) -> None:
            failed[invoice] = defect

        await by_halves(sorted(invoices), attempt, blame)
        self.failures.judge(failed, done)
        for invoice, defect in failed.items():
            await step.quarantine.set_aside(invoice, describe(defect))
            log.critical(
                "invoice.set_aside", rail=self.rail, invoice=str(invoice), reason=describe(defect), exc_info=defect
            )
        return done

    async def _save(self, step: StepTransaction, aggregates: Sequence[InvoiceAggregate]) -> None:
        self._plan_second_looks(aggregates)
        await step.save(aggregates, self.traits.horizon, self.traits.has_finalized)
        moved = [line for aggregate in aggregates for line in aggregate.transitions if line.subject == "invoice"]
        for line in moved[:LOGGED_TRANSITIONS_MAX]:
            log.info(
                "invoice.transition",
                rail=self.rail,
                invoice=str(line.invoice_id),
                from_state=line.from_state,
                to_state=line.to_state,
                reason=line.reason,
                tx=line.via_detection.tx_id if line.via_detection else None,
                height=line.block_height,
            )
        if len(moved) > LOGGED_TRANSITIONS_MAX:
            log.info(
                "invoice.transitions", rail=self.rail, count=len(moved), untold=len(moved) - LOGGED_TRANSITIONS_MAX
            )

    def _context(
        self,
        step: StepTransaction,
        position: Position,
        blocks: Sequence[BlockRef],
        *,
        history: bool = False,
        verified: bool = False,
    ) -> StepContext:
        finalized = position.finalized.height if position.finalized else -1
        return StepContext(
            rail=self.rail,
            progress=Progress(position.cursor.height, finalized),
            cursor_time=position.cursor.time,
            coverage=step.coverage,
            now=step.now,
            horizon=self.traits.horizon,
            has_finality=self.traits.has_finalized,
            tip_height=position.tip_height,
            block_times={block.height: block.time for block in blocks},
            backfill=history,
            blind=position.is_blind or not (verified or self.verification.done),
        )

    def _checkpoints(self, batch: BlockBatch, position: Position) -> list[BlockRef]:
        """Which of the blocks a later reorg may come back to: those with transfers, and a sparse row of others."""
        if batch.span.finalized:
            # Told finality is an anchor by itself; without it, the end of a settled span is the one.
            return [] if position.finalized else list(batch.blocks[-1:])
        touched = {transfer.block.height for transfer in batch.transfers if transfer.block}
        return [
            block
            for block in batch.blocks
            if (block.height in touched or block.height % CHECKPOINT_SPACING == 0) and self._reorgable(block, position)
        ]

    def _affected_blocks(self, transfers: Sequence[Transfer], position: Position) -> list[BlockRef]:
        blocks = {transfer.block.height: transfer.block for transfer in transfers if transfer.block}
        return [blocks[height] for height in sorted(blocks) if self._reorgable(blocks[height], position)]

    @staticmethod
    def _reorgable(block: BlockRef, position: Position) -> bool:
        return position.finalized is None or block.height > position.finalized.height


def _require_below(cursor: BlockRef, transfers: Sequence[Transfer]) -> None:
    """Raise `BranchChanged` if one of the transfers cannot lie in an ancestor of ``cursor``, or in itself."""
    for transfer in transfers:
        block = transfer.block
        if (
            block is None
            or block.height > cursor.height
            or (block.height == cursor.height and block.hash != cursor.hash)
        ):
            raise BranchChanged(
                f"transaction {transfer.tx_id} is not in a block of the branch that ends in {cursor.hash}"
            )

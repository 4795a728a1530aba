"""Turns what was scanned into one committed step: the only way from a node's answer into the tables."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from indexer.core.book import Book, Moment
from indexer.core.due import due_look
from indexer.core.policy import Due, Progress
from indexer.core.states import IllegalMove
from indexer.core.step import News, gather, settle, settle_clock
from indexer.daemon.reasons import describe
from indexer.rail.types import AssetId, BlockRef, Span, Traits, Transfer
from indexer.store.errors import BranchChanged, StoreError
from indexer.store.steps import Look, OpenStep, Position, StepStore, Subject

log = structlog.get_logger()

LINES_A_STEP = 50
"""Invoices that one step tells the log about; the feed holds them all."""

SPACING = 16
"""Every so many heights a block becomes a checkpoint though nothing was found in it."""


class InvoiceFailed(Exception):
    """Invoices that no step can be taken with, because of a defect of ours or of what is stored of them."""

    def __init__(self, invoices: Sequence[UUID], defect: Exception) -> None:
        named = ", ".join(map(str, invoices[:5]))
        super().__init__(f"the daemon cannot process invoice {named}: {describe(defect)}; run `railwatch explain ID`")
        self.invoices = invoices


@dataclass(frozen=True, slots=True)
class Taken:
    """Blocks that were scanned, ready to be committed. ``fork``: what a reorg leaves standing; None without one."""

    before: BlockRef | None
    span: Span
    blocks: Sequence[BlockRef]
    transfers: Sequence[Transfer]
    fork: BlockRef | None = None


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes the steps of one rail."""

    rail: str
    traits: Traits
    configured: Mapping[AssetId, int]
    """The rail's assets, each with the least amount (base units) that moves anything."""
    steps: StepStore
    origin: str | None = None
    """The name that ids of its transfers derive from, if it was renamed."""
    looks: dict[UUID, Due] = field(default_factory=dict)
    """Transfers that are read a second time before they are told final, and when that is. May hold too much, never
    too little: what is in it is asked of the database before it counts."""

    async def record(self, taken: Taken, position: Position, anchor: int | None) -> list[BlockRef]:
        """Commit blocks with everything that they change; returns the checkpoints that were kept for them.

        ``anchor``: height below which stored checkpoints can never be of use again. Raises
        `LeaseLost` or `StoreUnavailable`, and then nothing was written.
        """
        kept = self._checkpoints(taken, position)
        quiet = not (taken.transfers or taken.fork or kept)
        if quiet and await self.steps.quiet(taken.before, position):
            return kept
        fork = taken.fork.height if taken.fork else None
        subject = self._subject(taken.transfers, fork)
        # Old ones are swept with the sparse row, and not with each block that holds something.
        sweep = any(block.height % SPACING == 0 for block in kept)
        async with self.steps.step(taken.before, position, subject, kept, anchor if sweep else None) as step:
            await self._settle(step, taken, position, subject)
        return kept

    async def record_aside(
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
        found = 0
        subject = self._subject(transfers)
        async with self.steps.aside(rewinds, subject) as (step, position):
            _require_below(position.cursor, transfers)
            taken = Taken(None, Span(position.cursor, position.cursor), blocks, transfers)
            kept = self._touched_blocks(transfers, position)
            if transfers:
                found = await self._settle(step, taken, position, subject)
                await step.keep_checkpoints(kept)
            if watching:
                await step.begin_watching(watching, covered_from)
        return kept, found

    async def record_pending(self, rewinds: int, snapshot: Sequence[Transfer]) -> None:
        """Commit a snapshot of the mempool: what is new in it, and what is no longer there (HAZARDS B1, B2)."""
        subject = self._subject(snapshot)
        async with self.steps.aside(rewinds, subject) as (step, position):
            news = self._news(step, subject)
            present = {transfer.tx_id for transfer in snapshot if transfer.amount}
            absent = [(invoice, each) for invoice, each, tx_id in await step.pending() if tx_id not in present]
            for invoice, detection in absent:
                news.setdefault(invoice, News()).lost.setdefault(detection, None)
            moment, also = self._moment(step, position, ()), [each for _, each in absent]
            invoices = {*step.touched.due, *news}
            books = await self._apply(step, invoices, lambda books: settle(books, news, moment), also)
            await self._save(step, books)

    async def forget_looks(self, rewinds: int, ids: Sequence[UUID]) -> None:
        """Forget those that need no second look; asked while no other step, which may need one, is under way."""
        before = {identity: self.looks[identity] for identity in ids}
        async with self.steps.aside(rewinds, self._subject(())) as (step, _):
            needed = {claim.id for claim in await step.claims(ids)}
        for identity, due in before.items():
            if identity not in needed and self.looks.get(identity) is due:
                del self.looks[identity]

    async def record_looks(self, rewinds: int, looks: Sequence[Look]) -> None:
        """Write what second looks said, and what follows from it: final, or an exception."""
        async with self.steps.aside(rewinds, self._subject(())) as (step, position):
            moment, also = self._moment(step, position, ()), [look.claim.id for look in looks]
            books = await self._apply(step, await step.save_looks(looks), lambda books: settle(books, {}, moment), also)
            await self._save(step, books)

    async def record_clock(self, rewinds: int) -> int:
        """Expire what the clock and the coverage have caught up with; returns how many invoices were looked at."""
        async with self.steps.aside(rewinds, self._subject(())) as (step, position):
            moment = self._moment(step, position, ())
            due = set(await step.closed_windows())
            books = await self._apply(step, due, lambda books: settle_clock(books, moment))
            await self._save(step, books)
            return len(books)

    def _subject(self, transfers: Sequence[Transfer], fork: int | None = None) -> Subject:
        return Subject(self.traits.family, transfers, fork)

    def _news(self, step: OpenStep, subject: Subject) -> dict[UUID, News]:
        """What the transfers mean, and what a reorg took, by invoice."""
        news = gather(subject.transfers, self.rail, step.touched.recorded(self.origin), self.configured, step.now)
        for invoice, detections in step.touched.orphaned.items():
            news.setdefault(invoice, News()).orphaned.extend(detections)
        return news

    async def _settle(self, step: OpenStep, taken: Taken, position: Position, subject: Subject) -> int:
        news = self._news(step, subject)
        if not len(taken.span):
            # A look-back or a rescan shows blocks that were followed already: what is small there was counted then.
            for about in news.values():
                about.small.clear()
        moment = self._moment(step, position, taken.blocks, history=taken.span.settled)
        books = await self._apply(step, {*step.touched.due, *news}, lambda books: settle(books, news, moment))
        await self._save(step, books)
        return sum(len(book.fresh) for book in books)

    def _note_looks(self, books: Sequence[Book]) -> None:
        for book in books:
            for identity in book.changed:
                detection = book.detections[identity]
                due = due_look(detection, book.policies, self.traits.horizon, self.traits.has_finalized)
                if due is not None and detection.rail == self.rail:
                    self.looks[identity] = due

    async def _apply(
        self,
        step: OpenStep,
        invoices: Collection[UUID],
        act: Callable[[Sequence[Book]], object],
        also: Collection[UUID] = (),
    ) -> Sequence[Book]:
        """Load the invoices and do ``act`` to them. A step is complete or not at all: if an invoice makes that fail,
        raises `InvoiceFailed` with its name, so that a person can mend it.
        """
        try:
            books = await step.books(invoices, also)
            act(books)
        except (StoreError, IllegalMove):
            raise
        except Exception as defect:
            guilty = [invoice for invoice in invoices if not await self._works(step, invoice, act, also)]
            if guilty and (len(guilty) < len(invoices) or len(invoices) == 1):
                raise InvoiceFailed(guilty, defect) from defect
            raise
        return books

    @staticmethod
    async def _works(
        step: OpenStep, invoice: UUID, act: Callable[[Sequence[Book]], object], also: Collection[UUID]
    ) -> bool:
        try:
            act(await step.books([invoice], also))
        except Exception:  # noqa: BLE001 - only which one it is matters; the failure itself was raised before
            return False
        return True

    async def _save(self, step: OpenStep, books: Sequence[Book]) -> None:
        self._note_looks(books)
        await step.save(books, self.traits.horizon, self.traits.has_finalized)
        moved = [line for book in books for line in book.transitions if line.subject == "invoice"]
        for line in moved[:LINES_A_STEP]:
            log.info(
                "invoice.moved",
                rail=self.rail,
                invoice=str(line.invoice_id),
                from_state=line.from_state,
                to_state=line.to_state,
                reason=line.reason,
                tx=line.at.tx_id if line.at else None,
                height=line.block_height,
            )
        if len(moved) > LINES_A_STEP:
            log.info("invoices.moved", rail=self.rail, count=len(moved), untold=len(moved) - LINES_A_STEP)

    def _moment(
        self, step: OpenStep, position: Position, blocks: Sequence[BlockRef], *, history: bool = False
    ) -> Moment:
        finalized = position.finalized.height if position.finalized else -1
        return Moment(
            rail=self.rail,
            progress=Progress(position.cursor.height, finalized),
            cursor_time=position.cursor.time,
            coverage=step.coverage,
            now=step.now,
            horizon=self.traits.horizon,
            has_finality=self.traits.has_finalized,
            tip=position.tip_height,
            block_times={block.height: block.time for block in blocks},
            history=history,
            blind=position.is_blind,
        )

    def _checkpoints(self, taken: Taken, position: Position) -> list[BlockRef]:
        """Which of the blocks a later reorg may come back to: those with transfers, and a sparse row of others."""
        if taken.span.settled:
            # Told finality is an anchor by itself; without it, the end of a settled span is the one.
            return [] if position.finalized else list(taken.blocks[-1:])
        touched = {transfer.block.height for transfer in taken.transfers if transfer.block}
        return [
            block
            for block in taken.blocks
            if (block.height in touched or block.height % SPACING == 0) and self._undoable(block, position)
        ]

    def _touched_blocks(self, transfers: Sequence[Transfer], position: Position) -> list[BlockRef]:
        blocks = {transfer.block.height: transfer.block for transfer in transfers if transfer.block}
        return [blocks[height] for height in sorted(blocks) if self._undoable(blocks[height], position)]

    @staticmethod
    def _undoable(block: BlockRef, position: Position) -> bool:
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

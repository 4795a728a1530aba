"""Commits steps: the only way from a node's answer into the tables.

Each kind of step is an opening of the transaction and a `StepInput`; `Committer._commit` does the rest.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from railwatch.core.policy import Threshold
from railwatch.core.states import LIVE_STATES
from railwatch.core.step import BlockBatch, Position, RailRules, StepInput, StepResult
from railwatch.daemon.follow import checkpoints
from railwatch.daemon.follow.deferral import deferred_update
from railwatch.daemon.follow.isolation import OUTSIDE
from railwatch.daemon.follow.quarantine import Failures
from railwatch.daemon.follow.step_runner import StepRunner
from railwatch.rail.types import AssetId, BlockRef, Span, Traits, Transfer
from railwatch.reasons import describe
from railwatch.store.quarantine import Deferred
from railwatch.store.steps import (
    UNREACHABLE_HEIGHT,
    Acceptance,
    InclusionBlock,
    SecondLookResult,
    StepLookup,
    StepStore,
    StepTransaction,
    WindowCursor,
)
from railwatch.store.unallocated import Orphaned, Reached, as_transfer

log = structlog.get_logger()

Opening = Callable[[], AbstractAsyncContextManager[tuple[StepTransaction, Position]]]
"""Opens a step's transaction. It may be opened twice."""

Prepare = Callable[[StepTransaction, Position], Awaitable[StepInput | None]]
"""Reads and writes what precedes the core's decision, and returns the step's input; None: the core decides nothing."""

Finish = Callable[[StepTransaction, Position], Awaitable[None]]
"""Writes what else belongs to the step."""


async def _nothing(_: StepTransaction, __: Position) -> None:
    """Write nothing else."""


@dataclass(slots=True)
class Verification:
    """Whether stored inclusions were compared with the chain since the rail was resumed. Before, none is promoted."""

    done: bool = True


@dataclass(frozen=True, slots=True)
class Committer:
    """The commits of one rail.

    ``configured``: the rail's assets, each with the least amount (base units) that changes a state. ``origin``: the
    name that ids derive from, if the rail was renamed. ``failures`` outlives the committer. ``second_looks``: transfers
    that are read again before they become final, and when. It may hold too many: the database decides.
    ``unallocated_min``, by asset: from which amount (base units) on a transfer without its reference opens an
    exception; None: any.
    """

    rail: str
    traits: Traits
    configured: Mapping[AssetId, int]
    steps: StepStore
    origin: str | None = None
    failures: Failures = field(default_factory=Failures)
    second_looks: dict[UUID, Threshold] = field(default_factory=dict)
    verification: Verification = field(default_factory=Verification)
    unallocated_min: Mapping[AssetId, int] | None = None
    runner: StepRunner = field(init=False)

    def __post_init__(self) -> None:
        traits = self.traits
        rules = RailRules(
            self.rail, traits.horizon, traits.has_finalized, self.configured, self.origin, self.unallocated_min or {}
        )
        runner = StepRunner(rules, self.failures, self.second_looks, traits.has_references)
        object.__setattr__(self, "runner", runner)

    async def commit_blocks(self, batch: BlockBatch, position: Position, anchor: int | None) -> list[BlockRef]:
        """Commit blocks with everything that they change, and return the checkpoints that were stored for them.

        ``anchor``: height below which no stored checkpoint is of use. Raises `LeaseLost` or `StoreUnavailable`, and
        then nothing was written.
        """
        kept = checkpoints.checkpoints(batch, position)
        quiet = not (batch.transfers or batch.fork or kept)
        if quiet and await self.steps.advance_cursor(batch.before, position):
            return kept
        # Old checkpoints are deleted together with a regular one, and not with each block that holds a transfer.
        below = anchor if any(map(checkpoints.is_regular, kept)) else None
        await self._commit(self._moving(batch, position, kept, below), self._input(batch, position))
        return kept

    async def commit_lookback(
        self,
        rewinds: int,
        blocks: Sequence[BlockRef],
        transfers: Sequence[Transfer],
        watching: Sequence[UUID] = (),
        covered_from: int = 0,
    ) -> tuple[list[BlockRef], int]:
        """Commit transfers of blocks at or below the cursor (look-back, rescan), which were found on its branch.

        Return the checkpoints, and how many transfers were not known before. Raises `BranchChanged` if the branch
        changed since ``rewinds``, or if a block contradicts a stored one. Then nothing was written.
        """
        kept: list[BlockRef] = []

        async def prepare(_: StepTransaction, position: Position) -> StepInput | None:
            checkpoints.require_below(position.cursor, transfers)
            kept[:] = checkpoints.affected_blocks(transfers, position)
            batch = BlockBatch.at(position.cursor, transfers, blocks)
            return StepInput(batch, position, verified=self.verification.done) if transfers else None

        async def finish(step: StepTransaction, _: Position) -> None:
            await step.keep_checkpoints(kept)
            if watching:
                await step.begin_watching(watching, covered_from)

        result = await self._commit(self._at_cursor(rewinds, transfers), prepare, finish)
        return kept, result.found

    async def commit_inclusion_check(
        self,
        rewinds: int,
        canonical: Sequence[BlockRef],
        gone: Sequence[InclusionBlock],
        transfers: Sequence[Transfer],
    ) -> list[BlockRef]:
        """Commit the comparison of stored inclusions with the chain, and all promotions that waited for it.

        ``canonical`` blocks are on the chain that leads to the cursor, and become checkpoints. Inclusions in ``gone``
        are orphaned. ``transfers`` are what the chain pays from the lowest of those on. Returns the checkpoints.
        """
        lowest = min((block.height for block in gone), default=None)
        kept: list[BlockRef] = []

        async def prepare(step: StepTransaction, position: Position) -> StepInput:
            checkpoints.require_below(position.cursor, transfers)
            kept[:] = checkpoints.affected_blocks(transfers, position, canonical)
            await step.orphan_inclusions(gone)
            if lowest is not None:
                await step.quarantine.defer_reorg(lowest - 1)
            blocks = [(block.height, block.hash) for block in gone]
            return StepInput(BlockBatch.at(position.cursor, transfers), position, orphaned_blocks=blocks)

        async def finish(step: StepTransaction, _: Position) -> None:
            await step.replace_checkpoints(kept, lowest)

        await self._commit(self._at_cursor(rewinds, transfers), prepare, finish)
        return kept

    async def accept_chain(self, before: BlockRef, position: Position, acceptance: Acceptance) -> None:
        """Rewind to the fork that a person has accepted, however deep, and emit the reversals."""
        fork = position.cursor
        batch = BlockBatch(before, Span(fork, fork), (), (), fork)

        async def prepare(step: StepTransaction, _: Position) -> StepInput:
            await step.accept_chain(acceptance)
            return StepInput(batch, position, verified=self.verification.done, accepts_chain=True)

        await self._commit(self._moving(batch, position, [fork], None), prepare)

    async def commit_mempool(self, rewinds: int, snapshot: Sequence[Transfer]) -> None:
        """Commit a snapshot of the mempool: what is new in it, and what is no longer there (HAZARDS B1, B2)."""
        present = {transfer.tx_id for transfer in snapshot if transfer.amount}

        async def prepare(step: StepTransaction, position: Position) -> StepInput:
            absent = [(invoice, each) for invoice, each, tx_id in await step.pending() if tx_id not in present]
            # Without references none can be there, and the question would cost each snapshot a round trip.
            waiting = await step.unallocated.pending() if self.traits.has_references else ()
            dropped = [each for each, tx_id in waiting if tx_id not in present]
            return StepInput(
                BlockBatch.at(position.cursor, snapshot),
                position,
                loads=[detection for _, detection in absent],
                removed=absent,
                dropped=dropped,
                verified=self.verification.done,
            )

        await self._commit(self._at_cursor(rewinds, snapshot), prepare)

    async def commit_assignments(self, rewinds: int, assigned: Sequence[UUID]) -> None:
        """Make detections of unallocated transfers that were assigned to invoices."""

        async def prepare(step: StepTransaction, position: Position) -> StepInput:
            stored = await step.unallocated.load((), Reached(-1, -1), Orphaned(UNREACHABLE_HEIGHT), assigned)
            transfers = [as_transfer(row) for row in stored.assigned if row.state in LIVE_STATES]
            batch = BlockBatch.at(position.cursor, transfers)
            return StepInput(batch, position, unallocated=assigned, verified=self.verification.done)

        await self._commit(self._at_cursor(rewinds), prepare)

    async def commit_second_looks(self, rewinds: int, results: Sequence[SecondLookResult]) -> None:
        """Commit the results of second looks, and what follows from them: final, or an exception."""

        async def prepare(step: StepTransaction, position: Position) -> StepInput:
            invoices, ids = await step.save_second_looks(results), [result.claim.id for result in results]
            batch = BlockBatch.at(position.cursor)
            return StepInput(batch, position, invoices, loads=ids, verified=self.verification.done)

        await self._commit(self._at_cursor(rewinds), prepare)

    async def commit_expiries(self, rewinds: int, after: WindowCursor) -> None:
        """Expire the invoices of the page after ``after`` whose window is over and covered."""

        async def prepare(step: StepTransaction, position: Position) -> StepInput:
            invoices, batch = await step.closed_windows(after), BlockBatch.at(position.cursor)
            return StepInput(batch, position, invoices, expires=True, verified=self.verification.done)

        await self._commit(self._at_cursor(rewinds), prepare)

    async def commit_readmission(self, rewinds: int, invoice: UUID, kept: Sequence[Deferred]) -> bool:
        """Apply what was deferred for an invoice in quarantine, in the order of the chain, and end its quarantine.

        Returns False if more has been deferred since. Raises what the invoice still fails with. Then nothing was
        written.
        """
        async with self._at_cursor(rewinds, [each.transfer for each in kept])() as (step, position):
            if await step.quarantine.deferred(invoice) != kept:
                return False
            undone = await step.quarantine.undone(invoice)
            given = StepInput(
                BlockBatch.at(position.cursor),
                position,
                [invoice],
                loads=undone,
                replayed={invoice: deferred_update(step, invoice, kept, undone, self.runner.rules)},
                verified=self.verification.done,
                # What was final is orphaned only where a person has accepted another chain meanwhile.
                accepts_chain=bool(undone),
            )
            await self.runner.run(step, given, apart=False)
            await step.quarantine.take_back(invoice)
        return True

    async def drop_second_looks(self, rewinds: int, ids: Sequence[UUID]) -> None:
        """Forget those that need no second look, while no other step that may need one is under way."""
        before = {identity: self.second_looks[identity] for identity in ids}
        async with self._at_cursor(rewinds)() as (step, _):
            needed = {claim.id for claim in await step.claims(ids)}
        for identity, due in before.items():
            if identity not in needed and self.second_looks.get(identity) is due:
                del self.second_looks[identity]

    def _moving(self, batch: BlockBatch, position: Position, kept: Sequence[BlockRef], below: int | None) -> Opening:
        lookup = StepLookup(self.traits.family, batch.transfers, batch.fork.height if batch.fork else None)
        return lambda: self.steps.begin(batch.before, position, lookup, kept, below)

    def _at_cursor(self, rewinds: int, transfers: Sequence[Transfer] = ()) -> Opening:
        lookup = StepLookup(self.traits.family, transfers)
        return lambda: self.steps.begin_at_cursor(rewinds, lookup)

    def _input(self, batch: BlockBatch, position: Position) -> Prepare:
        async def prepare(_: StepTransaction, __: Position) -> StepInput:
            return StepInput(batch, position, verified=self.verification.done)

        return prepare

    async def _commit(self, opening: Opening, prepare: Prepare, finish: Finish = _nothing) -> StepResult:
        """Commit a step. If it fails by its content, commit it once more with each invoice isolated from the others.

        The first attempt pays nothing for that: savepoints cost round trips, and failures are rare.
        """
        try:
            return await self._attempt(opening, prepare, finish, apart=False)
        except OUTSIDE:
            raise
        except Exception as defect:
            log.warning("step.failed", rail=self.rail, reason=describe(defect), exc_info=defect)
        return await self._attempt(opening, prepare, finish, apart=True)

    async def _attempt(self, opening: Opening, prepare: Prepare, finish: Finish, *, apart: bool) -> StepResult:
        result = StepResult(())
        async with opening() as (step, position):
            given = await prepare(step, position)
            if given is not None:
                result = await self.runner.run(step, given, apart=apart)
            if given is not None and not apart:
                self.failures.note_success(result.changes)
            await finish(step, position)
        return result

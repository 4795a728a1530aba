"""Runs the core within a step's transaction: the only place that does so for the steps of a rail."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.policy import Threshold
from railwatch.core.step import InvoiceUpdate, RailRules, StepInput, StepResult, apply_unallocated, run
from railwatch.core.thresholds import second_look_threshold
from railwatch.core.unallocated import StoredUnallocated
from railwatch.daemon.follow.deferral import defer
from railwatch.daemon.follow.isolation import by_halves
from railwatch.daemon.follow.quarantine import Failures
from railwatch.daemon.follow.step_log import log_transitions
from railwatch.reasons import describe
from railwatch.store.steps import UNREACHABLE_HEIGHT, StepTransaction
from railwatch.store.unallocated import Orphaned, Reached

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Loads the invoices that a step affects, lets the core decide, and saves the result.

    ``second_looks`` receives the transfers that are read again before they become final. ``has_references``: several
    payers may share an address of this rail.
    """

    rules: RailRules
    failures: Failures
    second_looks: dict[UUID, Threshold]
    has_references: bool = False

    async def run(self, step: StepTransaction, given: StepInput, *, apart: bool) -> StepResult:
        """Run the core on the affected invoices, save its result, and defer what concerns invoices in quarantine."""
        unallocated = await self._load_unallocated(step, given)
        step.affected = replace(step.affected, assigned=unallocated.assigned)
        updates = self._updates(step, given)
        invoices = {*step.affected.due, *updates} if given.invoices is None else given.invoices
        if apart:
            result = await self._run_apart(step, given, invoices)
        else:
            result = await self._run_together(step, given, invoices, updates)
        await defer(step, given, updates.keys() - result.invoices, self.rules)
        if unallocated:
            await self._run_unallocated(step, given, unallocated, result)
        return result

    async def _load_unallocated(self, step: StepTransaction, given: StepInput) -> StoredUnallocated:
        """Return the unallocated transfers that the step affects: none on a rail without references."""
        if not (self.has_references and given.follows_chain):
            return StoredUnallocated()
        position, fork = given.position, given.batch.fork
        reached = (
            Reached(-1, -1) if position.is_blind else Reached(position.progress.cursor, position.progress.finalized)
        )
        orphaned = Orphaned(fork.height if fork else UNREACHABLE_HEIGHT, given.accepts_chain, given.orphaned_blocks)
        stored = await step.unallocated.load(
            given.batch.transfers, reached, orphaned, {*given.unallocated, *given.dropped}
        )
        return replace(stored, dropped=given.dropped)

    async def _run_unallocated(
        self,
        step: StepTransaction,
        given: StepInput,
        stored: StoredUnallocated,
        result: StepResult,
    ) -> None:
        """Apply the step to them, after the invoices: what became a payment belongs to its invoice."""
        ctx = given.context(self.rules, step.now, step.coverage)
        changes = apply_unallocated(given, stored, step.affected, result, self.rules, ctx)
        if changes.rows:
            await step.unallocated.save(changes)
            await step.append(changes.transitions)

    def _updates(self, step: StepTransaction, given: StepInput) -> dict[UUID, InvoiceUpdate]:
        return given.updates(step.affected, self.rules, step.now)

    async def _run_together(
        self,
        step: StepTransaction,
        given: StepInput,
        invoices: Collection[UUID],
        updates: Mapping[UUID, InvoiceUpdate],
    ) -> StepResult:
        aggregates = await step.aggregates(
            invoices, given.loads, whole=given.expires, catch_up=given.replayed is not None
        )
        result = run(given, updates, aggregates, given.context(self.rules, step.now, step.coverage))
        self._schedule_second_looks(result.changes)
        await step.save(result.changes, self.rules.horizon, self.rules.has_finality)
        log_transitions(self.rules.rail, result)
        return result

    async def _run_apart(self, step: StepTransaction, given: StepInput, invoices: Collection[UUID]) -> StepResult:
        """Roll back each invoice that fails, alone, and quarantine it.

        Raises `InvoiceFailed` where the failures do not look like the fault of single invoices.
        """
        done: list[InvoiceAggregate] = []
        failed: dict[UUID, Exception] = {}

        async def attempt(some: Sequence[UUID]) -> None:
            async with step.savepoint():
                # An attempt may change its updates, so each has its own.
                result = await self._run_together(step, given, some, self._updates(step, given))
            done.extend(result.changes)

        async def blame(invoice: UUID, defect: Exception) -> None:
            failed[invoice] = defect

        await by_halves(sorted(invoices), attempt, blame)
        self.failures.judge(failed, done)
        for invoice, defect in failed.items():
            await self._quarantine(step, invoice, defect)
        return StepResult(done)

    async def _quarantine(self, step: StepTransaction, invoice: UUID, defect: Exception) -> None:
        reason = describe(defect)
        await step.quarantine.set_aside(invoice, reason)
        log.critical("invoice.set_aside", rail=self.rules.rail, invoice=str(invoice), reason=reason, exc_info=defect)

    def _schedule_second_looks(self, aggregates: Sequence[InvoiceAggregate]) -> None:
        horizon, has_finality = self.rules.horizon, self.rules.has_finality
        for aggregate in aggregates:
            for identity in aggregate.changed_detections:
                detection = aggregate.detections[identity]
                due = second_look_threshold(detection, aggregate.policies, horizon, has_finality)
                if due is not None and detection.rail == self.rules.rail:
                    self.second_looks[identity] = due

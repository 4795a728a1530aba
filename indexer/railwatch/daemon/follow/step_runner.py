"""Runs the core within a step's transaction: the only place that does so for the steps of a rail."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.policy import Threshold
from railwatch.core.step import InvoiceUpdate, RailRules, StepInput, StepResult, run
from railwatch.core.thresholds import second_look_threshold
from railwatch.daemon.follow.deferral import defer
from railwatch.daemon.follow.isolation import by_halves
from railwatch.daemon.follow.quarantine import Failures
from railwatch.daemon.follow.step_log import log_transitions
from railwatch.reasons import describe
from railwatch.store.steps import StepTransaction

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Loads the invoices that a step affects, lets the core decide, and saves the result.

    ``second_looks`` receives the transfers that are read again before they become final.
    """

    rules: RailRules
    failures: Failures
    second_looks: dict[UUID, Threshold]

    async def run(self, step: StepTransaction, given: StepInput, *, apart: bool) -> StepResult:
        """Run the core on the affected invoices, save its result, and defer what concerns invoices in quarantine."""
        updates = self._updates(step, given)
        invoices = {*step.affected.due, *updates} if given.invoices is None else given.invoices
        if apart:
            result = await self._run_apart(step, given, invoices)
        else:
            result = await self._run_together(step, given, invoices, updates)
        await defer(step, given, updates.keys() - result.invoices, self.rules)
        return result

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

"""Defers what a step brings for invoices in quarantine, and restores it when an invoice is readmitted."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

from railwatch.core.step import InvoiceUpdate, RailRules, StepInput, group_by_invoice
from railwatch.rail.types import Transfer
from railwatch.store.quarantine import Deferred
from railwatch.store.steps import StepTransaction


async def defer(step: StepTransaction, given: StepInput, invoices: Collection[UUID], rules: RailRules) -> None:
    """Store the reorg of a step, and its transfers that concern ``invoices``, which are in quarantine by now."""
    if given.batch.fork is not None:
        await step.quarantine.defer_reorg(given.batch.fork.height)
    if not invoices:
        return
    kept = list[tuple[UUID, Transfer]]()
    for transfer in given.batch.transfers:
        about = group_by_invoice([transfer], step.affected, rules, step.now)
        kept += [(invoice, transfer) for invoice in invoices if invoice in about]
    await step.quarantine.defer(rules.origin or rules.rail, kept)


def deferred_update(
    step: StepTransaction, invoice: UUID, kept: Sequence[Deferred], undone: set[UUID], rules: RailRules
) -> InvoiceUpdate:
    """Return what the deferred transfers bring to their invoice, as of their time. No other invoice can claim them."""
    candidates = step.affected.candidates.items()
    own = {key: [each for each in some if each.invoice_id == invoice] for key, some in candidates}
    update = InvoiceUpdate(orphaned=sorted(undone))
    affected = replace(step.affected, candidates=own, orphaned={invoice: [*update.orphaned]})
    for deferred in kept:
        found = group_by_invoice([deferred.transfer], affected, rules, deferred.seen_at)
        addition = found.get(invoice, InvoiceUpdate())
        update.orphaned += [gone for gone in addition.orphaned if gone not in update.orphaned]
        update.lost |= addition.lost
        update.observations += addition.observations
        update.small += addition.small
    return update

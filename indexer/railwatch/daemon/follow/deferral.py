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
    recorded, kept = step.affected.recorded(rules.origin), list[tuple[UUID, Transfer]]()
    for transfer in given.batch.transfers:
        about = group_by_invoice([transfer], rules.rail, recorded, rules.configured, step.now)
        kept += [(invoice, transfer) for invoice in invoices if invoice in about]
    await step.quarantine.defer(rules.origin or rules.rail, kept)


def deferred_update(
    step: StepTransaction, invoice: UUID, kept: Sequence[Deferred], undone: set[UUID], rules: RailRules
) -> InvoiceUpdate:
    """Return what the deferred transfers bring to their invoice, as of their time. No other invoice can claim them."""
    recorded = step.affected.recorded(rules.origin)
    own = {key: [each for each in some if each.invoice_id == invoice] for key, some in recorded.candidates.items()}
    recorded = replace(recorded, candidates=own, orphaned=undone)
    update = InvoiceUpdate(orphaned=sorted(undone))
    for deferred in kept:
        found = group_by_invoice([deferred.transfer], rules.rail, recorded, rules.configured, deferred.seen_at)
        addition = found.get(invoice, InvoiceUpdate())
        update.orphaned += [gone for gone in addition.orphaned if gone not in update.orphaned]
        update.lost |= addition.lost
        update.observations += addition.observations
        update.small += addition.small
    return update

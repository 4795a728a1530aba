"""One step of a rail, from its input to its result: reorgs, removals, observations, then confirmations.

A step travels in four carriers: `Scanned` from the adapter, `StepInput`, `StepContext` with the aggregates that
the store loads, and `StepResult`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from railwatch.core.affected import AffectedRows
from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.ids import detection_id
from railwatch.core.lifecycle import (
    apply_confirmations,
    apply_expiry,
    apply_observations,
    apply_rejections,
    apply_removals,
    apply_reorg,
    count_small,
    recheck,
)
from railwatch.core.matching import (
    Candidate,
    Known,
    base_index,
    kind_at,
    match,
    paired,
    to_detection,
    variant_index,
)
from railwatch.core.model import Coverage, Detection, Transition
from railwatch.core.policy import Progress
from railwatch.core.unallocated import StoredUnallocated, UnallocatedRules, UnallocatedStep, UnallocatedTransfer
from railwatch.rail.types import AssetId, BlockRef, Span, Transfer


@dataclass(frozen=True, slots=True)
class Position:
    """Where a step leaves its rail.

    ``finalized`` is the highest final block at or below the cursor, None where none is known. ``seen_at`` is when, by
    the database's clock, the nodes reported nothing above the cursor. None: they reported more, or it is not known, and
    the step covers no further time. ``state`` and ``reason`` are the rail's, as operators read them.
    """

    cursor: BlockRef
    tip_height: int
    finalized: BlockRef | None
    seen_at: datetime | None
    state: str
    reason: str | None

    @property
    def is_blind(self) -> bool:
        """Return True if the nodes' reports cannot be believed: then nothing is promoted, and nothing expires."""
        return self.state in ("stalled", "halted")

    @property
    def progress(self) -> Progress:
        """Return the heights of the cursor and of finality; -1 where no finality is known."""
        return Progress(self.cursor.height, self.finalized.height if self.finalized else -1)


@dataclass(slots=True)
class InvoiceUpdate:
    """The changes that a step brings to one invoice."""

    orphaned: list[UUID] = field(default_factory=list)
    lost: dict[UUID, str | None] = field(default_factory=dict)
    observations: list[Detection] = field(default_factory=list)
    small: list[tuple[UUID, int]] = field(default_factory=list)
    """Destination and amount of transfers that are too small to move anything."""


@dataclass(frozen=True, slots=True)
class RailRules:
    """What decides about each transfer of a rail, from step to step alike.

    ``horizon``: the depth, in blocks, that is final where no finality is reported. ``configured``: the rail's assets,
    each with the least amount (base units) that changes a state. ``unallocated_min``: from which amount (base units) on
    a transfer without its reference opens an exception. ``origin``: the name that ids derive from, if the rail was
    renamed.
    """

    rail: str
    horizon: int
    has_finality: bool
    configured: Mapping[AssetId, int]
    origin: str | None = None
    unallocated_min: Mapping[AssetId, int] = field(default_factory=dict)

    @property
    def unallocated(self) -> UnallocatedRules:
        """Return what decides about transfers that no invoice asks for."""
        return UnallocatedRules(self.rail, self.configured, self.unallocated_min, self.origin)


@dataclass(frozen=True, slots=True)
class BlockBatch:
    """Scanned blocks that are ready to be committed. ``fork``: the block that a reorg leads back to, None without one.

    ``before`` is the cursor that the step begins at, None for the first step of a rail, and for a step that leaves the
    cursor where it is.
    """

    before: BlockRef | None
    span: Span
    blocks: Sequence[BlockRef]
    transfers: Sequence[Transfer]
    fork: BlockRef | None = None

    @classmethod
    def at(cls, cursor: BlockRef, transfers: Sequence[Transfer] = (), blocks: Sequence[BlockRef] = ()) -> "BlockBatch":
        """Return the batch of a step that leaves the cursor where it is."""
        return cls(None, Span(cursor, cursor), blocks, transfers)


@dataclass(frozen=True, slots=True)
class StepInput:
    """What one step brings.

    ``invoices``: those that it is about; None: those that are due, and those that the batch updates. ``loads``:
    further detections to load. ``removed``: (invoice, detection) of transfers that the mempool no longer holds.
    ``replayed``: updates that were deferred for an invoice in quarantine, in the place of the batch's. ``expires``: the
    step closes windows, and does nothing else. ``verified``: stored inclusions were compared with the chain; until then
    nothing is promoted. ``accepts_chain``: a person has accepted a chain that leaves ours below finality.
    ``orphaned_blocks``: (height, hash) of blocks that are not on the chain. ``unallocated``: further unallocated
    transfers to load. ``dropped``: those that the mempool no longer holds.
    """

    batch: BlockBatch
    position: Position
    invoices: Collection[UUID] | None = None
    loads: Collection[UUID] = ()
    removed: Sequence[tuple[UUID, UUID]] = ()
    replayed: Mapping[UUID, InvoiceUpdate] | None = None
    expires: bool = False
    verified: bool = True
    accepts_chain: bool = False
    orphaned_blocks: Sequence[tuple[int, str]] = ()
    unallocated: Collection[UUID] = ()
    dropped: Collection[UUID] = ()

    @property
    def follows_chain(self) -> bool:
        """Return True if the step brings what the chain says, and not only what single invoices wait for."""
        return self.invoices is None and self.replayed is None and not self.expires

    def context(self, rules: RailRules, now: datetime, coverage: Coverage) -> StepContext:
        """Return the circumstances under which the core decides. ``now``: the database's clock."""
        return StepContext(
            rail=rules.rail,
            progress=self.position.progress,
            cursor_time=self.position.cursor.time,
            coverage=coverage,
            now=now,
            horizon=rules.horizon,
            has_finality=rules.has_finality,
            tip_height=self.position.tip_height,
            block_times={block.height: block.time for block in self.batch.blocks},
            backfill=self.batch.span.finalized,
            blind=self.position.is_blind or not self.verified,
            accepts_chain=self.accepts_chain,
        )

    def updates(self, affected: AffectedRows, rules: RailRules, now: datetime) -> dict[UUID, InvoiceUpdate]:
        """Return what the step brings to each invoice."""
        if self.replayed is not None:
            return dict(self.replayed)
        updates = group_by_invoice(self.batch.transfers, affected, rules, now)
        for invoice, detections in affected.orphaned.items():
            updates.setdefault(invoice, InvoiceUpdate()).orphaned.extend(detections)
        for invoice, detection in self.removed:
            updates.setdefault(invoice, InvoiceUpdate()).lost.setdefault(detection, None)
        if not len(self.batch.span):
            # These blocks were followed already, and what is small in them was counted then.
            for update in updates.values():
                update.small.clear()
        return updates


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step changed: the aggregates, each with its new rows and its transitions."""

    changes: Sequence[InvoiceAggregate]

    @property
    def transitions(self) -> list[Transition]:
        """Return the transitions in the order of the feed."""
        return [transition for aggregate in self.changes for transition in aggregate.transitions]

    @property
    def found(self) -> int:
        """Return how many transfers were not known before."""
        return sum(len(aggregate.new_detections) for aggregate in self.changes)

    @property
    def invoices(self) -> set[UUID]:
        """Return the invoices that the step was applied to."""
        return {aggregate.invoice.id for aggregate in self.changes}


def run(
    step: StepInput, updates: Mapping[UUID, InvoiceUpdate], aggregates: Sequence[InvoiceAggregate], ctx: StepContext
) -> StepResult:
    """Apply a step to the aggregates of the invoices that it affects, and return them as its result."""
    if step.expires:
        apply_clock(aggregates, ctx)
    else:
        apply_step(aggregates, updates, ctx)
    return StepResult(aggregates)


def group_by_invoice(
    transfers: Sequence[Transfer], affected: AffectedRows, rules: RailRules, now: datetime
) -> dict[UUID, InvoiceUpdate]:
    """Return what transfers bring to each invoice."""
    rail, orphaned = rules.rail, affected.orphaned_detections
    updates: defaultdict[UUID, InvoiceUpdate] = defaultdict(InvoiceUpdate)
    known: defaultdict[tuple[str, str], list[Known]] = defaultdict(list)
    for each in affected.known:
        known[each.tx_id, base_index(each.tx_index)].append(each)
    same_as = paired(affected.known, transfers)
    spoken_for = {each.detection_id for each in same_as.values()}
    for transfer in transfers:
        for displaced in transfer.rivals:
            for invoice, detection in affected.rivals.get(displaced, ()):
                updates[invoice].lost[detection] = transfer.tx_id
        if not transfer.amount:
            continue
        same = same_as.get((transfer.tx_id, transfer.tx_index))
        name = transfer.tx_index if same is None else base_index(same.tx_index)
        recorded_so = known.get((transfer.tx_id, name), ())
        before = [each for each in recorded_so if each is same or each.detection_id not in spoken_for]
        same = same or next((each for each in before if each.pays_like(transfer)), None)
        if not _displace(updates, transfer, [each for each in before if each is not same], orphaned):
            continue
        if same is not None:
            kind = same.kind_of(transfer, rail, now)
            found = to_detection(same.detection_id, transfer, rail, same.destination_id, kind, now)
            updates[same.invoice_id].observations.append(found)
        elif given := _assigned(transfer, affected.assigned):
            row, owner = given
            kind = kind_at(transfer, rail, owner, rules.configured, now)
            named = replace(transfer, tx_index=row.tx_index)
            found = to_detection(row.id, named, rail, owner.destination_id, kind, now)
            updates[owner.invoice_id].observations.append(found)
        elif matched := match(transfer, rail, affected.candidates.get(transfer.to, ()), rules.configured, now):
            owner, kind = matched
            named = replace(transfer, tx_index=variant_index(transfer)) if recorded_so else transfer
            identity = detection_id(rules.origin or rail, named.tx_id, named.tx_index)
            found = to_detection(identity, named, rail, owner.destination_id, kind, now)
            _add_observation(updates[owner.invoice_id], found, rules.configured)
    return dict(updates)


def _assigned(
    transfer: Transfer, assigned: Iterable[UnallocatedTransfer]
) -> tuple[UnallocatedTransfer, Candidate] | None:
    """Return the row of a transfer that a person assigned, and the destination that it belongs to now."""
    for row in assigned:
        same = (row.tx_id, base_index(row.tx_index)) == (transfer.tx_id, base_index(transfer.tx_index))
        if same and row.owner is not None and row.pays_like(transfer):
            return row, row.owner
    return None


def apply_unallocated(
    given: StepInput,
    stored: StoredUnallocated,
    affected: AffectedRows,
    result: StepResult,
    rules: RailRules,
    ctx: StepContext,
) -> UnallocatedStep:
    """Apply a step to the transfers that no invoice asks for. ``result``: what it did to the invoices."""
    step = UnallocatedStep(rules.unallocated, ctx)
    detections = [each for aggregate in result.changes for each in aggregate.detections.values()]
    recorded = paired(affected.known, given.batch.transfers)
    spoken_for = {each.detection_id for each in recorded.values()}

    def is_claimed(transfer: Transfer) -> bool:
        # A detection may have another name of the same payment, as in `group_by_invoice`.
        return (transfer.tx_id, transfer.tx_index) in recorded or affected.asks_for(transfer, spoken_for)

    named = {(each.tx_id, base_index(each.tx_index)) for each in affected.known}
    step.apply(replace(stored, named=named), given.batch.transfers, detections, is_claimed)
    return step


def _displace(
    updates: Mapping[UUID, InvoiceUpdate], transfer: Transfer, others: Iterable[Known], orphaned: Collection[UUID]
) -> bool:
    """End what the transaction was recorded to pay otherwise.

    Return False if that is in a block which cannot be undone by this transfer, so that it cannot pay this.
    """
    block_hash = transfer.block.hash if transfer.block else None
    included = [each for each in others if each.block_hash is not None and each.detection_id not in orphaned]
    if any(each.excludes(block_hash) for each in included):
        return False
    for each in included:
        updates[each.invoice_id].orphaned.append(each.detection_id)
    for each in others:
        updates[each.invoice_id].lost.setdefault(each.detection_id, transfer.tx_id)
    return True


def _add_observation(update: InvoiceUpdate, found: Detection, configured: Mapping[AssetId, int]) -> None:
    """Add a transfer that was never recorded. Below the asset's least amount it is counted, once it is in a block."""
    if found.amount >= configured.get(found.asset, 0):
        update.observations.append(found)
    elif found.block_hash is not None:
        update.small.append((found.destination_id, found.amount))


def apply_step(aggregates: Sequence[InvoiceAggregate], updates: Mapping[UUID, InvoiceUpdate], ctx: StepContext) -> None:
    """Apply the step to its aggregates. Losses come before observations, and promotions last (see `core.lifecycle`)."""
    nothing = InvoiceUpdate()
    for aggregate in aggregates:
        update = updates.get(aggregate.invoice.id, nothing)
        if update.orphaned:
            apply_reorg(aggregate, update.orphaned, ctx)
        if update.lost:
            apply_removals(aggregate, update.lost, ctx)
        if update.observations:
            apply_observations(aggregate, update.observations, ctx)
        if update.small:
            count_small(aggregate, update.small)
        apply_rejections(aggregate, ctx)
        apply_confirmations(aggregate, ctx)


def apply_clock(aggregates: Sequence[InvoiceAggregate], ctx: StepContext) -> None:
    """Expire the invoices whose window is over and covered."""
    for aggregate in aggregates:
        apply_expiry(aggregate, ctx)


def recheck_exceptions(aggregates: Sequence[InvoiceAggregate], coverage: Coverage, now: datetime) -> int:
    """Compare exceptions with the facts, after time or a manual operation has changed these.

    Return how many exceptions opened, were resolved or ended.
    """
    for aggregate in aggregates:
        recheck(aggregate, coverage, now)
    return sum(
        len(aggregate.opened_exceptions) + len(aggregate.resolved_exceptions) + len(aggregate.ended_exceptions)
        for aggregate in aggregates
    )

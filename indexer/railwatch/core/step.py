"""One step over all the invoices that it touches: the chapters in their order, invoice by invoice."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate, StepContext
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
    detection_id,
    match,
    paired,
    to_detection,
    variant_index,
)
from railwatch.core.model import Coverage, Detection
from railwatch.core.policy import Progress
from railwatch.rail.types import AssetId, BlockRef, Transfer


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
    """What a step brings to one invoice."""

    orphaned: list[UUID] = field(default_factory=list)
    lost: dict[UUID, str | None] = field(default_factory=dict)
    observations: list[Detection] = field(default_factory=list)
    small: list[tuple[UUID, int]] = field(default_factory=list)
    """Destination and amount of transfers that are too small to move anything."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the store knows of a step's transactions.

    ``candidates``: who holds an address, by its key. ``known``: what was recorded before; it stays where it is, whoever
    holds the address now. ``rivals``: (invoice, detection) of what each displaced transaction had paid. ``orphaned``:
    detections whose inclusion the step takes back. ``origin``: the name that new ids derive from, if the rail has
    another one by now.
    """

    candidates: Mapping[bytes, Sequence[Candidate]]
    known: Iterable[Known]
    rivals: Mapping[str, Sequence[tuple[UUID, UUID]]]
    orphaned: Collection[UUID] = ()
    origin: str | None = None


def group_by_invoice(
    transfers: Sequence[Transfer], rail: str, recorded: Recorded, configured: Mapping[AssetId, int], now: datetime
) -> dict[UUID, InvoiceUpdate]:
    """What transfers mean, by invoice. ``configured``: the assets, each with the least amount that moves anything."""
    updates: defaultdict[UUID, InvoiceUpdate] = defaultdict(InvoiceUpdate)
    known: defaultdict[tuple[str, str], list[Known]] = defaultdict(list)
    for each in recorded.known:
        known[each.tx_id, base_index(each.tx_index)].append(each)
    same_as = paired(recorded.known, transfers)
    spoken_for = {each.detection_id for each in same_as.values()}
    for transfer in transfers:
        for displaced in transfer.rivals:
            for invoice, detection in recorded.rivals.get(displaced, ()):
                updates[invoice].lost[detection] = transfer.tx_id
        if not transfer.amount:
            continue
        same = same_as.get((transfer.tx_id, transfer.tx_index))
        name = transfer.tx_index if same is None else base_index(same.tx_index)
        recorded_so = known.get((transfer.tx_id, name), ())
        before = [each for each in recorded_so if each is same or each.detection_id not in spoken_for]
        same = same or next((each for each in before if each.pays_like(transfer)), None)
        if not _displace(updates, transfer, [each for each in before if each is not same], recorded.orphaned):
            continue
        if same is not None:
            kind = same.kind_of(transfer, rail, now)
            found = to_detection(same.detection_id, transfer, rail, same.destination_id, kind, now)
            updates[same.invoice_id].observations.append(found)
        elif matched := match(transfer, rail, recorded.candidates.get(transfer.to, ()), configured, now):
            owner, kind = matched
            named = replace(transfer, tx_index=variant_index(transfer)) if recorded_so else transfer
            identity = detection_id(recorded.origin or rail, named.tx_id, named.tx_index)
            found = to_detection(identity, named, rail, owner.destination_id, kind, now)
            _add_observation(updates[owner.invoice_id], found, configured)
    return dict(updates)


def _displace(
    updates: Mapping[UUID, InvoiceUpdate], transfer: Transfer, others: Iterable[Known], orphaned: Collection[UUID]
) -> bool:
    """End what the transaction was recorded to pay otherwise; False where that stands, so that it cannot pay this."""
    block_hash = transfer.block.hash if transfer.block else None
    standing = [each for each in others if each.block_hash is not None and each.detection_id not in orphaned]
    if any(each.excludes(block_hash) for each in standing):
        return False
    for each in standing:
        updates[each.invoice_id].orphaned.append(each.detection_id)
    for each in others:
        updates[each.invoice_id].lost.setdefault(each.detection_id, transfer.tx_id)
    return True


def _add_observation(update: InvoiceUpdate, found: Detection, configured: Mapping[AssetId, int]) -> None:
    """Take in what was never recorded. What is below the asset's least amount is counted, once it is in a block."""
    if found.amount >= configured.get(found.asset, 0):
        update.observations.append(found)
    elif found.block_hash is not None:
        update.small.append((found.destination_id, found.amount))


def apply_step(aggregates: Sequence[InvoiceAggregate], updates: Mapping[UUID, InvoiceUpdate], ctx: StepContext) -> None:
    """Write the step into the books. Losses come before sightings, and promotions last (see `ledger`)."""
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
    """Let time pass for invoices whose window is over."""
    for aggregate in aggregates:
        apply_expiry(aggregate, ctx)


def recheck_exceptions(aggregates: Sequence[InvoiceAggregate], coverage: Coverage, now: datetime) -> None:
    """Compare exceptions with the facts, where only time or somebody outside has changed them."""
    for aggregate in aggregates:
        recheck(aggregate, coverage, now)

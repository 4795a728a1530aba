"""The stored rows that a step affects."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from railwatch.core.matching import Candidate, Known, base_index, claimants
from railwatch.core.unallocated import UnallocatedTransfer
from railwatch.rail.types import Transfer


@dataclass(frozen=True, slots=True)
class AffectedRows:
    """What the store knows of the blocks and transactions of a step.

    ``due``: detections that reach a threshold with the step, by invoice. ``orphaned``: detections whose inclusion the
    step orphans, by invoice. ``rivals``: (invoice, detection) of what each displaced transaction had paid. ``known``:
    transfers that were recorded before; each stays with its invoice, although another one may hold the address now.
    ``candidates``: the destinations at an address, by its key. ``assigned``: transfers that a person assigned to an
    invoice.
    """

    due: Mapping[UUID, Sequence[UUID]] = field(default_factory=dict)
    orphaned: Mapping[UUID, Sequence[UUID]] = field(default_factory=dict)
    rivals: Mapping[str, Sequence[tuple[UUID, UUID]]] = field(default_factory=dict)
    known: Sequence[Known] = ()
    candidates: Mapping[bytes, Sequence[Candidate]] = field(default_factory=dict)
    assigned: Sequence[UnallocatedTransfer] = ()

    def asks_for(self, transfer: Transfer, spoken_for: Collection[UUID] = ()) -> bool:
        """Return True if an invoice asks for a transfer, was recorded to have it, or has what excludes it.

        ``spoken_for``: detections that other transfers of the step are.
        """
        if claimants(transfer, self.candidates.get(transfer.to, ())):
            return True
        name = transfer.tx_id, base_index(transfer.tx_index)
        block_hash, orphaned = transfer.block.hash if transfer.block else None, self.orphaned_detections
        for each in self.known:
            if (each.tx_id, base_index(each.tx_index)) != name or each.detection_id in spoken_for:
                continue
            stays = each.block_hash is not None and each.detection_id not in orphaned and each.excludes(block_hash)
            if stays or each.pays_like(transfer):
                return True
        return False

    def and_orphaned(self, pairs: Iterable[tuple[UUID, UUID]]) -> "AffectedRows":
        """Return the same with further orphaned detections, given as (invoice, detection)."""
        orphaned = defaultdict(list, {invoice: [*some] for invoice, some in self.orphaned.items()})
        for invoice, detection in pairs:
            orphaned[invoice].append(detection)
        return replace(self, orphaned=orphaned)

    @property
    def orphaned_detections(self) -> set[UUID]:
        """Return the detections whose inclusion the step orphans."""
        return {detection for some in self.orphaned.values() for detection in some}

    @property
    def detections(self) -> set[UUID]:
        """Return all detections that the step has to load."""
        due = {detection for some in self.due.values() for detection in some}
        displaced = {detection for some in self.rivals.values() for _, detection in some}
        return due | self.orphaned_detections | displaced | {each.detection_id for each in self.known}

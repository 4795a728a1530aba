"""The stored rows that a step affects."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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

    def asks_for(self, transfer: Transfer) -> bool:
        """Return True if an invoice asks for a transfer, or was recorded to have it."""
        name = transfer.tx_id, base_index(transfer.tx_index)
        return bool(claimants(transfer, self.candidates.get(transfer.to, ()))) or any(
            (each.tx_id, base_index(each.tx_index)) == name for each in self.known
        )

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

"""The rows that a step affects, as `begin_step` and `affected_at_cursor` return them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from railwatch.core.matching import Candidate, Known
from railwatch.core.model import Coverage
from railwatch.core.step import Recorded
from railwatch.rail.types import AssetId
from railwatch.store.database import Row


@dataclass(slots=True)
class AffectedRows:
    """The rows that a step affects. ``detections``: all to load, of the invoices ``due`` and of the others."""

    due: set[UUID] = field(default_factory=set)
    detections: set[UUID] = field(default_factory=set)
    orphaned: defaultdict[UUID, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    rivals: defaultdict[str, list[tuple[UUID, UUID]]] = field(default_factory=lambda: defaultdict(list))
    """By transaction: (invoice, detection) of what it had paid."""
    candidates: defaultdict[bytes, list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    known: list[Known] = field(default_factory=list)

    def recorded(self, origin: str | None) -> Recorded:
        """Return it as the core takes it. ``origin``: the name that ids derive from, if the rail was renamed."""
        orphaned = {each for some in self.orphaned.values() for each in some}
        return Recorded(self.candidates, self.known, self.rivals, orphaned, origin)


def group_affected(rows: Iterable[Row]) -> tuple[Coverage, AffectedRows]:
    """Every rail's coverage, and whom the step concerns."""
    until: dict[str, datetime] = {}
    affected = AffectedRows()
    for row in rows:
        what, invoice, detection = row["what"], row["invoice_id"], row["detection_id"]
        if what == "covered":
            if row["at"] is not None:
                until[row["rail"]] = row["at"]
            continue
        if what == "candidate":
            affected.candidates[row["address_key"]].append(_candidate(row))
            continue
        affected.detections.add(detection)
        if what == "due":
            affected.due.add(invoice)
        elif what == "orphaned":
            affected.orphaned[invoice].append(detection)
        elif what == "rival":
            affected.rivals[row["tx_id"]].append((invoice, detection))
        else:
            affected.known.append(_known(row))
    return Coverage(until), affected


def _candidate(row: Row) -> Candidate:
    return Candidate(
        row["destination_id"],
        row["invoice_id"],
        row["rail"],
        AssetId(row["asset"]),
        row["reference"],
        bool(row["open"]),
        row["at"],
        row["accepts_from"],
        row["height"],
    )


def _known(row: Row) -> Known:
    return Known(
        row["detection_id"],
        row["destination_id"],
        row["invoice_id"],
        row["tx_id"],
        row["tx_index"],
        row["address_key"],
        AssetId(row["asset"]),
        row["block_hash"],
        bool(row["open"]),
        row["rail"],
        row["accepts_from"],
        row["height"],
        int(row["amount"]),
    )

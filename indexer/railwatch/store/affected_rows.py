"""Reads the row of named arrays that `begin_step` and `affected_at_cursor` return."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from railwatch.core.affected import AffectedRows
from railwatch.core.matching import Candidate, Known
from railwatch.core.model import Coverage
from railwatch.rail.types import AssetId
from railwatch.store.database import Row


def read_coverage(row: Row) -> Coverage:
    """Return every rail's coverage."""
    return Coverage({rail: until for rail, until in row["coverage"] if until is not None})


def read_affected(row: Row) -> AffectedRows:
    """Return what the step affects."""
    rivals: defaultdict[str, list[tuple[UUID, UUID]]] = defaultdict(list)
    for tx_id, invoice, detection in row["rivals"]:
        rivals[tx_id].append((invoice, detection))
    candidates: defaultdict[bytes, list[Candidate]] = defaultdict(list)
    for key, *fields in row["candidates"]:
        candidates[key].append(_candidate(*fields))
    known = [_known(*fields) for fields in row["known"]]
    return AffectedRows(_by_invoice(row["due"]), _by_invoice(row["orphaned"]), rivals, known, candidates)


def _by_invoice(pairs: Iterable[tuple[UUID, UUID]]) -> defaultdict[UUID, list[UUID]]:
    found: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for invoice, detection in pairs:
        found[invoice].append(detection)
    return found


def _candidate(
    destination_id: UUID,
    invoice_id: UUID,
    rail: str,
    asset: str,
    reference: str | None,
    is_open: bool,
    created_at: datetime,
    accepts_from: datetime,
    tip_at_creation: int | None,
) -> Candidate:
    times = created_at, accepts_from
    return Candidate(destination_id, invoice_id, rail, AssetId(asset), reference, is_open, *times, tip_at_creation)


def _known(
    detection_id: UUID,
    destination_id: UUID,
    invoice_id: UUID,
    tx_id: str,
    tx_index: str,
    address_key: bytes,
    asset: str,
    block_hash: str | None,
    is_final: bool,
    rail: str,
    accepts_from: datetime,
    tip_at_creation: int | None,
    amount: Decimal,
) -> Known:
    return Known(
        *(detection_id, destination_id, invoice_id, tx_id, tx_index, address_key, AssetId(asset), block_hash, is_final),
        *(rail, accepts_from, tip_at_creation, int(amount)),
    )

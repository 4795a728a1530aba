"""Whose transfer it is, and what it means there: the rules by which a credit becomes a detection."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from indexer.core.model import Detection
from indexer.core.states import DetectionState, Kind
from indexer.core.telling import EVENTS
from indexer.rail.types import AssetId, Transfer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A destination at the address that a transfer reached. ``open``: its invoice still expects money."""

    destination_id: UUID
    invoice_id: UUID
    rail: str
    asset: AssetId
    reference: str | None
    open: bool
    created_at: datetime


def match(
    transfer: Transfer, rail: str, candidates: Iterable[Candidate], configured: Collection[AssetId]
) -> tuple[Candidate, Kind] | None:
    """The destination that a transfer belongs to, and what it is there; None where nobody asked for it.

    A reference finds the invoices that ask for it, and those that ask for none. An open invoice comes before a closed
    one, one whose reference it is before one without, a newer before an older; within an invoice the nearest
    destination counts: same rail and asset, else same rail, else the first (HAZARDS I5, I6, E17, S12).
    """
    carried = {None, transfer.reference, *transfer.references}
    eligible = [each for each in candidates if each.reference in carried]
    if not eligible:
        return None
    owner = max(eligible, key=lambda each: (each.open, each.reference is not None, each.created_at)).invoice_id
    nearest = max(
        (each for each in eligible if each.invoice_id == owner),
        key=lambda each: (each.rail == rail, each.asset == transfer.asset),
    )
    return nearest, _kind(transfer, rail, nearest, configured)


def _kind(transfer: Transfer, rail: str, nearest: Candidate, configured: Collection[AssetId]) -> Kind:
    if transfer.asset not in configured:
        return Kind.UNSUPPORTED_ASSET
    if nearest.rail != rail:
        return Kind.WRONG_NETWORK
    return Kind.PAYMENT if nearest.asset == transfer.asset else Kind.WRONG_ASSET


def sighting(
    identity: UUID, transfer: Transfer, rail: str, candidate: Candidate, kind: Kind, now: datetime
) -> Detection:
    """The transfer as a detection. First sight in a block counts as the block's time, unless that lies ahead."""
    block = transfer.block
    return Detection(
        id=identity,
        destination_id=candidate.destination_id,
        rail=rail,
        asset=transfer.asset,
        tx_id=transfer.tx_id,
        tx_index=transfer.tx_index,
        amount=transfer.amount,
        kind=kind,
        state=DetectionState.INCLUDED if block else DetectionState.PENDING,
        first_seen_at=min(now, block.time) if block else now,
        block_height=block.height if block else None,
        block_hash=block.hash if block else None,
        block_time=block.time if block else None,
        maturity=transfer.maturity,
        spends=transfer.spends,
        evidence=transfer.evidence,
        raw=transfer.raw,
    )


def detection_id(rail: str, tx_id: str, tx_index: str) -> UUID:
    """Derived from the transfer's identity, so that a replay finds the same row (HAZARDS P1)."""
    return uuid5(EVENTS, f"{rail}/{tx_id}/{tx_index}")

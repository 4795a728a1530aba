"""Whose transfer it is, and what it means there: the rules by which a credit becomes a detection."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol, TypeVar
from uuid import UUID

from railwatch.core.model import Detection
from railwatch.core.states import DetectionState, Kind
from railwatch.rail.types import AssetId, Transfer

EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A destination at the address that a transfer reached. ``open``: its invoice still expects money.

    Money older than ``accepts_from`` is not the invoice's. ``tip_at_creation`` is the rail's newest height at the
    registration, None where no daemon followed the rail then.
    """

    destination_id: UUID
    invoice_id: UUID
    rail: str
    asset: AssetId
    reference: str | None
    open: bool
    created_at: datetime
    accepts_from: datetime
    tip_at_creation: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A transfer that was recorded before. ``key``, ``asset`` and ``amount``: the content that it was recorded with.

    ``block_hash`` is the block that holds it, None while no block does. ``final``: nothing can undo that. ``rail``,
    ``accepts_from`` and ``tip_at_creation`` are its destination's, as `Candidate` has them.
    """

    detection_id: UUID
    destination_id: UUID
    invoice_id: UUID
    tx_id: str
    tx_index: str
    key: bytes
    asset: AssetId
    block_hash: str | None
    final: bool
    rail: str = ""
    accepts_from: datetime = EARLIEST
    tip_at_creation: int | None = None
    amount: int = 0

    def kind_of(self, transfer: Transfer, rail: str, now: datetime) -> Kind:
        """Return what it is where ``transfer`` is seen now, if it is one of the two kinds that its age tells apart."""
        return Kind.UNEXPECTED if is_older(transfer, rail, self, now) else Kind.PAYMENT

    def pays_like(self, transfer: Transfer) -> bool:
        """Return True if ``transfer`` pays the same asset to the same address."""
        return (self.key, self.asset) == (transfer.to, transfer.asset)

    def excludes(self, block_hash: str | None) -> bool:
        """Return True if the transaction cannot pay otherwise in that block: it is in this one, and stays there."""
        return self.final or block_hash in (None, self.block_hash)


class Stored(Protocol):
    """What is stored of a transfer: its name, and the content that it has had last."""

    @property
    def tx_id(self) -> str:
        """The transaction."""

    @property
    def tx_index(self) -> str:
        """Which credit of it, as it was named when it was recorded."""

    @property
    def key(self) -> bytes:
        """Whom it pays."""

    @property
    def asset(self) -> AssetId:
        """In what."""

    @property
    def amount(self) -> int:
        """How much, in base units."""


S = TypeVar("S", bound=Stored)


def paired(stored: Iterable[S], told: Iterable[Transfer]) -> dict[tuple[str, str], S]:
    """Return which stored transfer each told one is, by its transaction and its name; of the same content only.

    First under its own name, then under another one: not every client shows the same calls, and earlier versions
    counted other ones, so that the same payment may have had another name (HAZARDS E28). Each is one of them only.
    """
    named = {(each.tx_id, base_index(each.tx_index), each.key, each.asset, each.amount): each for each in stored}
    if not named:
        return {}  # As for nearly every step: nobody paid before.
    found: dict[tuple[str, str], S] = {}
    others: list[Transfer] = []
    for transfer in told:
        same = named.pop((transfer.tx_id, transfer.tx_index, transfer.to, transfer.asset, transfer.amount), None)
        if same is None:
            others.append(transfer)
        else:
            found[transfer.tx_id, transfer.tx_index] = same
    alike: defaultdict[tuple[str, bytes, AssetId, int], list[S]] = defaultdict(list)
    for each in sorted(named.values(), key=lambda one: one.tx_index, reverse=True):
        alike[each.tx_id, each.key, each.asset, each.amount].append(each)
    for transfer in others:
        if left := alike.get((transfer.tx_id, transfer.to, transfer.asset, transfer.amount)):
            found[transfer.tx_id, transfer.tx_index] = left.pop()
    return found


def claimants(transfer: Transfer, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the destinations that ask for a transfer: those of its references, and those that ask for none."""
    carried = {None, transfer.reference, *transfer.references}
    return [each for each in candidates if each.reference in carried]


def match(
    transfer: Transfer, rail: str, candidates: Iterable[Candidate], configured: Mapping[AssetId, int], now: datetime
) -> tuple[Candidate, Kind] | None:
    """Return the destination that a transfer belongs to, and its kind there; None where no invoice asked for it.

    A reference finds the invoices that ask for it, and those that ask for none. Of these the owner is chosen in this
    order: an invoice that the money is not too old for, an open one, one whose reference it is, a newer one. Within the
    invoice the nearest destination counts: same rail and asset, else same rail, else the first (HAZARDS I5, I6, I13,
    E17, S12).
    """
    eligible = claimants(transfer, candidates)
    if not eligible:
        return None
    owner = max(
        eligible,
        key=lambda each: (
            not is_older(transfer, rail, each, now),
            each.open,
            each.reference is not None,
            each.created_at,
        ),
    ).invoice_id
    nearest = max(
        (each for each in eligible if each.invoice_id == owner),
        key=lambda each: (each.rail == rail, each.asset == transfer.asset),
    )
    return nearest, kind_at(transfer, rail, nearest, configured, now)


def is_older(transfer: Transfer, rail: str, owner: Candidate | Known, now: datetime) -> bool:
    """Return True if the money came before the invoice would take it. A block above the tip of that time did not."""
    block = transfer.block
    if block is None:
        return now < owner.accepts_from
    tip = owner.tip_at_creation
    is_newer = tip is not None and owner.rail == rail and block.height > tip
    return block.time < owner.accepts_from and not is_newer


def kind_at(
    transfer: Transfer, rail: str, nearest: Candidate, configured: Mapping[AssetId, int], now: datetime
) -> Kind:
    """Return what a transfer is at the destination that it belongs to."""
    if transfer.asset not in configured:
        return Kind.UNSUPPORTED_ASSET
    if nearest.rail != rail:
        return Kind.WRONG_NETWORK
    if nearest.asset != transfer.asset:
        return Kind.WRONG_ASSET
    return Kind.UNEXPECTED if is_older(transfer, rail, nearest, now) else Kind.PAYMENT


def to_detection(
    identity: UUID, transfer: Transfer, rail: str, destination_id: UUID, kind: Kind, now: datetime
) -> Detection:
    """Return the transfer as a detection. First seen in a block, it has the block's time, unless that is ahead."""
    block = transfer.block
    return Detection(
        id=identity,
        destination_id=destination_id,
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
        seen_waiting=block is None,
    )


VARIANT = "@"
"""Stands in a ``tx_index`` before the digest of a content that is not the first one."""


def variant_index(transfer: Transfer) -> str:
    """Name what a transaction pays when it is included again and pays somebody else, or another asset (HAZARDS E25).

    The same content has the same name each time, and never that of the first content.
    """
    digest = sha256(transfer.to + transfer.asset.encode()).hexdigest()[:8]
    return f"{transfer.tx_index}{VARIANT}{digest}"


def base_index(tx_index: str) -> str:
    """Return the credit's own name, whichever content it was recorded with."""
    return tx_index.partition(VARIANT)[0]

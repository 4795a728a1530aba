"""Transfers to an address that several payers share, which carry the reference of none of them.

Railwatch never guesses whose they are. They follow the chain as detections do, until a person assigns them to an
invoice (HAZARDS S12). No invoice's policy decides about them, so that they are confirmed once they are final.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from railwatch.core.aggregate import StepContext
from railwatch.core.ids import detection_id, event_id, exception_id
from railwatch.core.matching import Candidate, base_index, is_older, paired, variant_index
from railwatch.core.model import Detection, Transition
from railwatch.core.policy import Policy, Threshold
from railwatch.core.states import IN_BLOCK_STATES, LIVE_STATES, DetectionState, IllegalMove, check_detection_move
from railwatch.rail.types import AssetId, Transfer

SUBJECT: Literal["unallocated_transfer"] = "unallocated_transfer"
"""The subject of its transitions, and the kind of its exception."""

BY_REFERENCE = "railwatch"
"""Who assigned a transfer whose reference an invoice was registered with after it."""


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """An address that several payers share. ``oldest``: the watched destination there that accepts the oldest money."""

    address: str
    oldest: Candidate


@dataclass(slots=True)
class UnallocatedTransfer:
    """One such transfer, whatever becomes of its inclusions.

    ``assigned_by`` is None until it is assigned. Then it becomes detection ``detection_id`` at the destination
    ``destination_id``; ``owner`` is that destination until the detection exists (``detected``). ``became_at`` is the
    destination of a detection that exists without an assignment. ``exception`` is the one that has not ended,
    whether a person resolved it or not, and ``exception_round`` counts all of them. ``asked``: whether an invoice asks
    for money at its address on its rail, and not only on another rail of the family.
    """

    id: UUID
    rail: str
    asset: AssetId
    amount: int
    address: str
    key: bytes
    tx_id: str
    tx_index: str
    references: tuple[str, ...]
    state: DetectionState
    first_seen_at: datetime
    block_height: int | None = None
    block_hash: str | None = None
    block_time: datetime | None = None
    replaced_by: str | None = None
    maturity: int = 1
    spends: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    assigned_by: str | None = None
    destination_id: UUID | None = None
    detection_id: UUID | None = None
    owner: Candidate | None = None
    detected: bool = False
    became_at: UUID | None = None
    exception: UUID | None = None
    exception_resolved: bool = False
    exception_round: int = 0
    asked: bool = True
    reported_state: DetectionState | None = None
    version: int = 0

    def threshold(self, horizon: int, has_finality: bool) -> Threshold | None:
        """When it becomes final; None: it waits for nothing."""
        if self.state is not DetectionState.INCLUDED or self.block_height is None:
            return None
        policy = Policy(None) if has_finality else Policy(horizon)
        return policy.threshold(self.block_height, self.maturity)

    def pays_like(self, transfer: Transfer) -> bool:
        """Return True if ``transfer`` pays the same asset to the same address."""
        return (self.key, self.asset) == (transfer.to, transfer.asset)


@dataclass(frozen=True, slots=True)
class StoredUnallocated:
    """What the store knows of the unallocated transfers that a step affects.

    ``rows``: those that it pays again, displaces or finalizes, or whose block is gone. ``shared``: the shared addresses
    among those that it pays. ``orphaned``: rows whose block is no longer on the chain. ``dropped``: rows that the
    mempool no longer holds. ``named``: the transactions and names that detections have.
    """

    rows: Mapping[UUID, UnallocatedTransfer] = field(default_factory=dict)
    shared: Mapping[bytes, SharedAddress] = field(default_factory=dict)
    orphaned: Collection[UUID] = ()
    dropped: Collection[UUID] = ()
    named: Collection[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.shared)

    @property
    def assigned(self) -> list[UnallocatedTransfer]:
        """Those that were assigned, and whose detection does not exist yet."""
        return [row for row in self.rows.values() if row.owner is not None]


class OpenedException(NamedTuple):
    """An exception that a step opens about a transfer."""

    id: UUID
    about: UnallocatedTransfer


@dataclass(frozen=True, slots=True)
class UnallocatedRules:
    """What decides about them. ``least``, by asset: the amount (base units) from which on one is recorded.

    ``exception_from``, by asset: the amount (base units) from which on it is also worth a person's time. ``origin``:
    the name that ids derive from, if the rail was renamed.
    """

    rail: str
    least: Mapping[AssetId, int]
    exception_from: Mapping[AssetId, int] = field(default_factory=dict)
    origin: str | None = None


@dataclass(slots=True)
class UnallocatedStep:
    """One step's work on the unallocated transfers that it affects, and its result.

    ``rows``: those that changed. ``opened``, ``ended``: exceptions about them. ``ended`` ones whose cause is over, and
    that no person had resolved, are made good by the chain.
    """

    rules: UnallocatedRules
    ctx: StepContext
    rows: dict[UUID, UnallocatedTransfer] = field(default_factory=dict)
    opened: list[OpenedException] = field(default_factory=list)
    ended: list[UUID] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def apply(
        self,
        stored: StoredUnallocated,
        transfers: Sequence[Transfer],
        detections: Iterable[Detection],
        is_claimed: Callable[[Transfer], bool],
    ) -> None:
        """Apply a step: losses first, then what was seen, then finality, and last the exceptions.

        ``detections``: what the step's transfers became. ``is_claimed``: whether an invoice asks for a transfer.
        """
        for identity in stored.orphaned:
            self._orphan(stored.rows[identity])
        self._remove_displaced(stored, transfers)
        self._observe(stored, transfers, is_claimed)
        self._note_detected(stored, detections)
        for row in {**stored.rows, **self.rows}.values():
            self._finalize(row)
        for row in self.rows.values():
            self._sync_exception(row)

    def _remove_displaced(self, stored: StoredUnallocated, transfers: Sequence[Transfer]) -> None:
        """Remove what a rival displaced, and what the mempool no longer holds (HAZARDS B1, B2)."""
        rivals = {displaced: transfer.tx_id for transfer in transfers for displaced in transfer.rivals}
        for row in stored.rows.values():
            if row.tx_id in rivals:
                self._remove(row, rivals[row.tx_id])
            elif row.id in stored.dropped:
                self._remove(row, None)

    def _observe(
        self, stored: StoredUnallocated, transfers: Sequence[Transfer], is_claimed: Callable[[Transfer], bool]
    ) -> None:
        """Merge what was seen into the rows of the same transactions, and add rows for what no invoice asks for."""
        by_tx: dict[tuple[str, str], list[UnallocatedTransfer]] = {}
        for row in stored.rows.values():
            by_tx.setdefault((row.tx_id, base_index(row.tx_index)), []).append(row)
        same_as = paired(stored.rows.values(), transfers)
        spoken_for = {row.id for row in same_as.values()}
        for transfer in transfers:
            if not transfer.amount:
                continue
            same = same_as.get((transfer.tx_id, transfer.tx_index))
            name = transfer.tx_index if same is None else base_index(same.tx_index)
            recorded = by_tx.get((transfer.tx_id, name), ())
            before = [row for row in recorded if row is same or row.id not in spoken_for]
            same = same or next((row for row in before if row.pays_like(transfer)), None)
            if not self._displace_others([row for row in before if row is not same], transfer):
                continue
            if same is not None:
                self._merge(same, transfer)
            elif self._is_unallocated(transfer, stored.shared) and not is_claimed(transfer):
                is_variant = bool(recorded) or (transfer.tx_id, name) in stored.named
                self._add(transfer, stored.shared[transfer.to], is_variant=is_variant)

    def _displace_others(self, others: Sequence[UnallocatedTransfer], transfer: Transfer) -> bool:
        """End what the transaction was recorded to pay otherwise; False if that is final."""
        if any(row.state is DetectionState.FINAL for row in others):
            return False
        for row in others:
            self._orphan(row)
            self._remove(row, transfer.tx_id)
        return True

    def _is_unallocated(self, transfer: Transfer, shared: Mapping[bytes, SharedAddress]) -> bool:
        """Whether it is worth a row: a configured asset, not dust, and an invoice there could have asked for it."""
        address, least = shared.get(transfer.to), self.rules.least.get(transfer.asset)
        if address is None or least is None or transfer.amount < least:
            return False
        return not is_older(transfer, self.rules.rail, address.oldest, self.ctx.now)

    def _add(self, transfer: Transfer, shared: SharedAddress, *, is_variant: bool) -> None:
        tx_index = variant_index(transfer) if is_variant else transfer.tx_index
        block, now = transfer.block, self.ctx.now
        row = UnallocatedTransfer(
            id=detection_id(self.rules.origin or self.rules.rail, transfer.tx_id, tx_index),
            rail=self.rules.rail,
            asset=transfer.asset,
            amount=transfer.amount,
            address=shared.address,
            key=transfer.to,
            tx_id=transfer.tx_id,
            tx_index=tx_index,
            references=_references(transfer),
            state=DetectionState.PENDING,
            first_seen_at=min(now, block.time) if block else now,
            asked=shared.oldest.rail == self.rules.rail,
        )
        self.rows[row.id] = row
        self._set_content(row, transfer)
        self._report_seen(row, in_block=block is not None)

    def _merge(self, row: UnallocatedTransfer, transfer: Transfer) -> None:
        """Take a known transfer as it is seen now; what it pays may depend on the block (HAZARDS E25)."""
        block = transfer.block
        if row.state is DetectionState.FINAL or (block is None and row.state in IN_BLOCK_STATES):
            return
        if row.state in IN_BLOCK_STATES:
            if block is not None and block.hash == row.block_hash:
                return
            self._orphan(row)
        elif block is None and row.state is DetectionState.PENDING:
            return
        self._set_content(row, transfer)
        self._report_seen(row, in_block=block is not None)

    def _set_content(self, row: UnallocatedTransfer, transfer: Transfer) -> None:
        block = transfer.block
        row.amount, row.maturity, row.spends = transfer.amount, transfer.maturity, transfer.spends
        row.references, row.evidence, row.replaced_by = _references(transfer), transfer.evidence, None
        if block is not None:
            row.block_height, row.block_hash, row.block_time = block.height, block.hash, block.time

    def _report_seen(self, row: UnallocatedTransfer, *, in_block: bool) -> None:
        """Emit that it is in a block, or waits for one. One line says all of it where its block was final already."""
        # The row's block does not say which: one that is gone stays there, as its newest inclusion.
        row.state = DetectionState.INCLUDED if in_block else DetectionState.PENDING
        due = row.threshold(self.ctx.horizon, self.ctx.has_finality)
        is_final = self.ctx.backfill and not self.ctx.blind and due is not None and self.ctx.progress.has_reached(due)
        if row.reported_state is None and is_final:
            self._move(row, DetectionState.FINAL, "final")
        else:
            self._move(row, row.state, "included" if in_block else "seen")

    def _orphan(self, row: UnallocatedTransfer) -> None:
        """Revoke an inclusion whose block is no longer on the chain (HAZARDS B3, B4)."""
        if row.state not in IN_BLOCK_STATES:
            return
        if row.state is DetectionState.FINAL and not self.ctx.accepts_chain:
            raise IllegalMove("a transfer cannot go from final to orphaned: no person has accepted another chain")
        self._move(row, DetectionState.ORPHANED, "orphaned")

    def _remove(self, row: UnallocatedTransfer, rival: str | None) -> None:
        to_state = DetectionState.REPLACED if rival else DetectionState.DROPPED
        if row.state in IN_BLOCK_STATES or row.state is to_state:
            return
        row.replaced_by = rival
        self._move(row, to_state, to_state.value)

    def _finalize(self, row: UnallocatedTransfer) -> None:
        due = row.threshold(self.ctx.horizon, self.ctx.has_finality)
        if due is None or self.ctx.blind or not self.ctx.progress.has_reached(due):
            return
        self._move(row, DetectionState.CONFIRMED, "confirmed")
        self._move(row, DetectionState.FINAL, "final")

    def _note_detected(self, stored: StoredUnallocated, detections: Iterable[Detection]) -> None:
        """Note which rows have become detections: by a person's act, or as an invoice has their reference."""
        waiting = [row for row in stored.rows.values() if not row.detected and row.state in LIVE_STATES]
        if not waiting:
            return
        became = {(each.tx_id, base_index(each.tx_index), each.asset, each.amount): each for each in detections}
        for row in waiting:
            detection = became.get((row.tx_id, base_index(row.tx_index), row.asset, row.amount))
            destination = detection.destination_id if detection else row.became_at
            if destination is None:
                continue
            row.detected = True
            self.rows[row.id] = row
            if row.assigned_by is None:
                row.assigned_by, row.destination_id = BY_REFERENCE, destination
                row.detection_id = detection.id if detection else row.id
                self._append(row, row.reported_state, "assigned", {"destination": str(destination)})

    def _sync_exception(self, row: UnallocatedTransfer) -> None:
        """Open an exception while it is in a block and not assigned, and end it after that."""
        is_big = row.amount >= self.rules.exception_from.get(row.asset, 0)
        wanted = row.state in IN_BLOCK_STATES and row.assigned_by is None and is_big
        if wanted and row.asked and row.exception is None:
            row.exception_round += 1
            row.exception = exception_id(row.id, SUBJECT, row.id, row.exception_round)
            self.opened.append(OpenedException(row.exception, row))
            self._append_exception(row, None, "open")
        elif not wanted and row.exception is not None:
            self.ended.append(row.exception)
            if not row.exception_resolved:
                self._append_exception(row, "open", "resolved")
            row.exception = None

    def _move(self, row: UnallocatedTransfer, to_state: DetectionState, reason: str) -> None:
        """Assign a state and append its transition: the only place that does."""
        check_detection_move(row.reported_state, to_state)
        row.state = to_state
        rival = {"replaced_by": row.replaced_by} if row.replaced_by else {}
        self._append(row, row.reported_state, reason, {**_facts(row), "cursor": self.ctx.progress.cursor, **rival})
        row.reported_state = to_state
        self.rows[row.id] = row

    def _append(
        self, row: UnallocatedTransfer, from_state: DetectionState | None, reason: str, evidence: Mapping[str, Any]
    ) -> None:
        row.version += 1
        self.transitions.append(
            Transition(
                event_id=event_id(row.id, row.version, f"{SUBJECT}/{reason}", row.block_hash),
                subject=SUBJECT,
                subject_id=row.id,
                invoice_id=None,
                from_state=from_state,
                to_state=row.state,
                reason=reason,
                cause="chain",
                rail=row.rail,
                tx_id=row.tx_id,
                block_height=row.block_height,
                block_hash=row.block_hash,
                confirmations=self._depth(row),
                chain_time=row.block_time,
                evidence=evidence,
            )
        )

    def _depth(self, row: UnallocatedTransfer) -> int | None:
        """Inclusive: the block that holds it is 1. None while it is in no block."""
        if row.state not in IN_BLOCK_STATES or row.block_height is None:
            return None
        return max(1, self.ctx.progress.cursor - row.block_height + 1)

    def _append_exception(self, row: UnallocatedTransfer, from_state: str | None, to_state: str) -> None:
        assert row.exception is not None
        self.transitions.append(
            Transition(
                event_id=event_id(row.exception, row.exception_round, to_state, None),
                subject="exception",
                subject_id=row.exception,
                invoice_id=None,
                from_state=from_state,
                to_state=to_state,
                reason=SUBJECT,
                cause="chain",
                rail=row.rail,
                tx_id=row.tx_id,
                block_height=row.block_height,
                block_hash=row.block_hash,
                chain_time=row.block_time,
                evidence={"transfer": str(row.id), **_facts(row)},
            )
        )


def _facts(row: UnallocatedTransfer) -> dict[str, str]:
    return {"amount": str(row.amount), "asset": row.asset, "address": row.address}


def _references(transfer: Transfer) -> tuple[str, ...]:
    """Return every reference that a transfer carries, each once."""
    own = () if transfer.reference is None else (transfer.reference,)
    return tuple(dict.fromkeys((*own, *transfer.references)))

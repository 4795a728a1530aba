"""Reads and writes unallocated transfers within a step's transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from railwatch.core.matching import Candidate
from railwatch.core.states import DetectionState
from railwatch.core.unallocated import SharedAddress, StoredUnallocated, UnallocatedStep, UnallocatedTransfer
from railwatch.rail.types import NO_RECIPIENT, AssetId, BlockRef, Transfer
from railwatch.store.database import Connection, Database, Row
from railwatch.store.queries import query

LOAD_UNALLOCATED = query("load_unallocated")
SHARED_ADDRESSES = query("shared_addresses")
PENDING_UNALLOCATED = query("pending_unallocated")
UNDETECTED_UNALLOCATED = query("undetected_unallocated")
SAVE_UNALLOCATED = query("save_unallocated")


class UnallocatedRow(NamedTuple):
    """`railwatch.unallocated_row`: a transfer as a step writes it."""

    id: UUID
    asset: str
    amount: int
    address: str
    address_key: bytes
    tx_id: str
    tx_index: str
    references: Sequence[str]
    state: str
    block_height: int | None
    block_hash: str | None
    block_time: datetime | None
    first_seen_at: datetime
    replaced_by: str | None
    maturity: int
    spends: Sequence[str]
    evidence: Mapping[str, Any]
    due_basis: str | None
    due_height: int | None
    detection_id: UUID | None
    destination_id: UUID | None
    assigned_by: str | None
    detected: bool
    exception_id: UUID | None
    exception_round: int
    version: int


class Reached(NamedTuple):
    """The heights of the cursor and of finality that a step may promote by; -1: it promotes nothing."""

    cursor: int
    finalized: int


class Orphaned(NamedTuple):
    """What a step orphans: blocks above ``fork``, also final ones if ``accepts_chain``, and single blocks."""

    fork: int
    accepts_chain: bool = False
    blocks: Sequence[tuple[int, str]] = ()
    """Height and hash of each."""


class StepUnallocated:
    """The unallocated transfers of one rail, within a step's open transaction."""

    def __init__(self, connection: Connection, rail: str) -> None:
        self._connection = connection
        self._rail = rail

    async def load(
        self, transfers: Sequence[Transfer], reached: Reached, orphaned: Orphaned, also: Collection[UUID] = ()
    ) -> StoredUnallocated:
        """Hold and read those that a step affects, and the shared addresses that it pays.

        ``also``: further ones to read, as the mempool no longer holds them, or as they are assigned.
        """
        txs = {each.tx_id for each in transfers} | {rival for each in transfers for rival in each.rivals}
        heights, hashes = [height for height, _ in orphaned.blocks], [each for _, each in orphaned.blocks]
        rows = await self._connection.fetch(
            LOAD_UNALLOCATED,
            self._rail,
            *reached,
            orphaned.fork,
            orphaned.accepts_chain,
            heights,
            hashes,
            list(txs),
            list(also),
        )
        keys = list({each.to for each in transfers if each.amount and each.to != NO_RECIPIENT})
        shared = await self._connection.fetch(SHARED_ADDRESSES, self._rail, keys) if keys else ()
        return StoredUnallocated(
            {row["id"]: _transfer(row) for row in rows},
            {row["key"]: SharedAddress(row["address"], _oldest(row)) for row in shared},
            [row["id"] for row in rows if row["orphaned"]],
        )

    async def pending(self) -> list[tuple[UUID, str]]:
        """Return (id, tx id) of each that was last seen outside a block."""
        return [(row["id"], row["tx_id"]) for row in await self._connection.fetch(PENDING_UNALLOCATED, self._rail)]

    async def save(self, step: UnallocatedStep) -> None:
        """Write the rows and exceptions that a step changed. Its transitions are written with those of the invoices."""
        opened = [(each.id, each.about.id, each.about.exception_round) for each in step.opened]
        await self._connection.execute(
            SAVE_UNALLOCATED,
            self._rail,
            [_stored_row(row, step) for row in step.rows.values()],
            step.ended,
            [identity for identity, _, _ in opened],
            [about for _, about, _ in opened],
            [nth for _, _, nth in opened],
        )


async def undetected(database: Database, rail: str) -> list[UUID]:
    """Return the transfers that are assigned, and that no step has made detections of yet."""
    return [row["id"] for row in await database.rows(UNDETECTED_UNALLOCATED, rail)]


def as_transfer(row: UnallocatedTransfer) -> Transfer:
    """Return the stored row as the transfer that it was read from."""
    block = None
    if row.block_height is not None and row.block_hash is not None and row.block_time is not None:
        block = BlockRef(row.block_height, row.block_hash, "", row.block_time)
    return Transfer(
        tx_id=row.tx_id,
        tx_index=row.tx_index,
        to=row.key,
        asset=row.asset,
        amount=row.amount,
        block=None if row.state is DetectionState.PENDING else block,
        spends=row.spends,
        maturity=row.maturity,
        evidence=row.evidence,
        references=row.references,
    )


def _stored_row(row: UnallocatedTransfer, step: UnallocatedStep) -> UnallocatedRow:
    due = row.threshold(step.ctx.horizon, step.ctx.has_finality)
    return UnallocatedRow(
        id=row.id,
        asset=row.asset,
        amount=row.amount,
        address=row.address,
        address_key=row.key,
        tx_id=row.tx_id,
        tx_index=row.tx_index,
        references=row.references,
        state=row.state,
        block_height=row.block_height,
        block_hash=row.block_hash,
        block_time=row.block_time,
        first_seen_at=row.first_seen_at,
        replaced_by=row.replaced_by,
        maturity=row.maturity,
        spends=row.spends,
        evidence=row.evidence,
        due_basis=due.basis if due else None,
        due_height=due.height if due else None,
        detection_id=row.detection_id,
        destination_id=row.destination_id,
        assigned_by=row.assigned_by,
        detected=row.detected,
        exception_id=row.exception,
        exception_round=row.exception_round,
        version=row.version,
    )


def _transfer(row: Row) -> UnallocatedTransfer:
    state = DetectionState(row["state"])
    return UnallocatedTransfer(
        id=row["id"],
        rail=row["rail"],
        asset=AssetId(row["asset"]),
        amount=int(row["amount"]),
        address=row["address"],
        key=row["address_key"],
        tx_id=row["tx_id"],
        tx_index=row["tx_index"],
        references=tuple(row["references"]),
        state=state,
        first_seen_at=row["first_seen_at"],
        block_height=row["block_height"],
        block_hash=row["block_hash"],
        block_time=row["block_time"],
        replaced_by=row["replaced_by"],
        maturity=row["maturity"],
        spends=tuple(row["spends"]),
        evidence=row["evidence"],
        assigned_by=row["assigned_by"],
        destination_id=row["assigned_destination_id"],
        detection_id=row["assigned_detection_id"],
        owner=_owner(row),
        detected=row["detected"],
        became_at=row["became_at"],
        exception=row["exception_id"],
        exception_resolved=row["exception_resolved"],
        exception_round=row["exception_round"],
        asked=row["asked"],
        reported_state=state,
        version=row["version"],
    )


def _owner(row: Row) -> Candidate | None:
    if row["owner_destination"] is None:
        return None
    return Candidate(
        row["owner_destination"],
        row["owner_invoice"],
        row["owner_rail"],
        AssetId(row["owner_asset"]),
        row["owner_reference"],
        row["owner_open"],
        row["owner_created_at"],
        row["owner_accepts_from"],
        row["owner_tip"],
    )


def _oldest(row: Row) -> Candidate:
    return Candidate(
        row["id"],
        row["invoice_id"],
        row["rail"],
        AssetId(row["asset"]),
        row["reference"],
        row["open"],
        row["created_at"],
        row["accepts_from"],
        row["tip_at_creation"],
    )

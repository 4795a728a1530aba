"""The transaction of a step: cursor, detections, invoices, exceptions and feed change together, or not at all.

A step first moves the rail's row, under a fence: the lease's epoch and the cursor must be those that the follower knows
(HAZARDS P6). It locks that row until the commit. Steps at the cursor (look-back, mempool, expiry) only lock it.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from railwatch.core.affected import AffectedRows
from railwatch.core.aggregate import InvoiceAggregate
from railwatch.core.model import Coverage, Transition
from railwatch.core.policy import Threshold
from railwatch.core.step import Position
from railwatch.rail.types import NO_RECIPIENT, AssetId, BlockRef, Transfer
from railwatch.store.affected_rows import read_affected, read_coverage
from railwatch.store.aggregates import ANY_RAIL, NO_RAIL, append_transitions, load_aggregates, save_aggregates
from railwatch.store.database import Connection, Database, Row, translated
from railwatch.store.errors import BranchChanged, LeaseLost
from railwatch.store.quarantine import StepQuarantine
from railwatch.store.queries import query
from railwatch.store.step_rows import checkpoint_rows
from railwatch.store.unallocated import StepUnallocated

ADVANCE_CURSOR = query("advance_cursor")
BEGIN_STEP = query("begin_step")
LOCK_RAIL_AT_CURSOR = query("lock_rail_at_cursor")
AFFECTED_AT_CURSOR = query("affected_at_cursor")
PENDING_OF_RAIL = query("pending_of_rail")
EXTEND_COVERAGE = query("extend_coverage")
CLOSED_WINDOWS = query("closed_windows")
BEGIN_WATCHING = query("begin_watching")
SAVE_CHECKPOINTS = query("save_checkpoints")
DUE_SECOND_LOOKS = query("due_second_looks")
SECOND_LOOK_CLAIMS = query("second_look_claims")
SAVE_LOOKS = query("save_second_looks")
APPLY_ACCEPTANCE = query("apply_acceptance")
INCLUSION_BLOCKS = query("inclusion_blocks")
INCLUSIONS_IN = query("inclusions_in")
REPLACE_CHECKPOINTS = query("replace_checkpoints")


WindowCursor = tuple[datetime, UUID]
"""A place in the walk over windows that ended long ago: the end of the last one that was read, and its invoice."""

FIRST_WINDOW: WindowCursor = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
WINDOWS_PER_PAGE = 500
"""Invoices whose window ended long ago that one page holds."""

UNREACHABLE_HEIGHT = 2**62
"""A height that no chain reaches."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a follower must still hold for its steps to count."""

    rail: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StepLookup:
    """What a step looks up: transfers in a family. ``fork``: inclusions above this height are orphaned."""

    family: str
    transfers: Sequence[Transfer] = ()
    fork: int | None = None

    def parameters(self) -> tuple[object, ...]:
        """As the queries take them: fork, displaced transactions, family, keys, transactions, references."""
        return (
            UNREACHABLE_HEIGHT if self.fork is None else self.fork,
            list({rival for transfer in self.transfers for rival in transfer.rivals}),
            self.family,
            list({transfer.to for transfer in self.transfers if transfer.to != NO_RECIPIENT}),
            list({transfer.tx_id for transfer in self.transfers}),
            list({mark for each in self.transfers for mark in (each.reference, *each.references) if mark}),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A recorded transfer that is to be read again in its block. ``node`` told it, None: not known."""

    id: UUID
    tx_id: str
    tx_index: str
    asset: AssetId
    amount: int
    height: int
    block_hash: str
    key: bytes
    node: str | None


@dataclass(frozen=True, slots=True)
class SecondLookResult:
    """What the second look at a transfer said: verified, unverified or mismatch; ``evidence`` goes with it."""

    claim: Claim
    verdict: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InclusionBlock:
    """A block that holds stored inclusions which are not final."""

    height: int
    hash: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A person's decision to follow another chain: everything above the fork, which is on that chain, is taken back."""

    id: UUID
    fork_height: int
    fork_hash: str


class StepTransaction:
    """A step's open transaction. ``now`` is the database's clock, ``coverage`` that of every rail."""

    def __init__(
        self,
        connection: Connection,
        dsn: str,
        lease: Lease,
        now: datetime,
        coverage: Coverage,
        affected: AffectedRows,
    ) -> None:
        self._connection = connection
        self._dsn = dsn
        self._rail = lease.rail
        self.quarantine = StepQuarantine(connection, lease.rail)
        self.unallocated = StepUnallocated(connection, lease.rail)
        self.now = now
        self.coverage = coverage
        self.affected = affected

    async def pending(self) -> list[tuple[UUID, UUID, str]]:
        """(invoice, detection, tx id) of every transfer that was last seen outside a block."""
        rows = await self._connection.fetch(PENDING_OF_RAIL, self._rail)
        return [(row["invoice_id"], row["id"], row["tx_id"]) for row in rows]

    async def closed_windows(self, after: WindowCursor) -> list[UUID]:
        """Return the invoices that can expire now, of the page after ``after``."""
        found, _ = await _closed_windows(self._connection, self._rail, after)
        return found

    async def aggregates(
        self, invoices: Iterable[UUID], also: Iterable[UUID] = (), *, whole: bool = False, catch_up: bool = False
    ) -> list[InvoiceAggregate]:
        """Lock and load the books of those invoices, with the detections that the step touches and ``also``.

        Left out are invoices in quarantine on this rail; ``whole``: on any rail, ``catch_up``: none.
        """
        aside = NO_RAIL if catch_up else ANY_RAIL if whole else self._rail
        return await load_aggregates(self._connection, invoices, {*self.affected.detections, *also}, aside)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what is written within it if that fails, and nothing else of the step. Raises `StoreUnavailable`."""
        with translated(self._dsn):
            async with self._connection.transaction():
                yield

    async def save(self, aggregates: Sequence[InvoiceAggregate], horizon: int, has_finality: bool) -> None:
        """Write what changed in the books."""
        await save_aggregates(self._connection, aggregates, horizon, has_finality)

    async def append(self, transitions: Sequence[Transition]) -> None:
        """Append transitions that belong to no invoice to the feed."""
        await append_transitions(self._connection, transitions)

    async def accept_chain(self, acceptance: Acceptance) -> None:
        """Carry a person's decision out with this step: what was final above the fork is taken back too."""
        rows = await self._connection.fetch(APPLY_ACCEPTANCE, acceptance.id)
        self.affected = self.affected.and_orphaned((row["invoice_id"], row["id"]) for row in rows)

    async def orphan_inclusions(self, blocks: Sequence[InclusionBlock]) -> None:
        """Orphan the inclusions in those blocks with this step, as if a reorg had taken the blocks."""
        columns = [block.height for block in blocks], [block.hash for block in blocks]
        rows = await self._connection.fetch(INCLUSIONS_IN, self._rail, *columns) if blocks else ()
        self.affected = self.affected.and_orphaned((row["invoice_id"], row["id"]) for row in rows)

    async def replace_checkpoints(self, blocks: Sequence[BlockRef], lowest: int | None) -> None:
        """Store blocks in the place of any at their heights, and forget all others from height ``lowest`` on."""
        below = UNREACHABLE_HEIGHT if lowest is None else lowest
        await self._connection.execute(REPLACE_CHECKPOINTS, self._rail, checkpoint_rows(blocks), below)

    async def claims(self, ids: Sequence[UUID]) -> list[Claim]:
        """Those of the transfers that still have to be read a second time; no other step of the rail is under way."""
        return [_claim(row) for row in await self._connection.fetch(SECOND_LOOK_CLAIMS, list(ids))]

    async def save_second_looks(self, results: Sequence[SecondLookResult]) -> set[UUID]:
        """Note what second looks said; returns the invoices that they concern."""
        columns = ([x.claim.id for x in results], [x.verdict for x in results], [x.claim.block_hash for x in results])
        rows = await self._connection.fetch(SAVE_LOOKS, *columns, [{"second_look": x.evidence} for x in results])
        return {row["invoice_id"] for row in rows}

    async def begin_watching(self, destinations: Sequence[UUID], covered_from: int) -> None:
        """Set destinations to `watching`, searched from height ``covered_from`` on, inclusive."""
        await self._connection.execute(BEGIN_WATCHING, list(destinations), covered_from)

    async def keep_checkpoints(self, blocks: Sequence[BlockRef]) -> None:
        """Store more blocks, which lie at the cursor or below. Raises `BranchChanged` where another block is stored."""
        if not blocks:
            return
        rows = await self._connection.fetch(SAVE_CHECKPOINTS, self._rail, checkpoint_rows(blocks))
        stored = {row["height"]: row["hash"] for row in rows}
        for block in blocks:
            if stored[block.height] != block.hash:
                raise BranchChanged(
                    f"rail {self._rail}: block {block.hash} at {block.height} is not on the branch that is followed, "
                    f"which has {stored[block.height]} there"
                )


async def _closed_windows(connection: Connection, rail: str, after: WindowCursor) -> tuple[list[UUID], WindowCursor]:
    rows = await connection.fetch(CLOSED_WINDOWS, rail, *after, WINDOWS_PER_PAGE)
    following = next(((row["expires_at"], row["id"]) for row in rows if not row["covered"]), FIRST_WINDOW)
    return [row["id"] for row in rows if row["covered"]], following


class StepStore:
    """Steps of one rail, under one lease."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease

    async def advance_cursor(self, before: BlockRef | None, position: Position) -> bool:
        """Move over blocks that touch nobody, in one statement. False: something is due, take a whole step."""
        return await self._database.row(ADVANCE_CURSOR, *self._fence(before, position)) is not None

    @asynccontextmanager
    async def begin(
        self,
        before: BlockRef | None,
        position: Position,
        lookup: StepLookup,
        kept: Sequence[BlockRef],
        below: int | None,
    ) -> AsyncIterator[tuple[StepTransaction, Position]]:
        """Open a step from ``before`` to ``position``; commits on leaving. Raises `LeaseLost`, `StoreUnavailable`.

        ``kept`` become checkpoints; those above the subject's fork and ``below`` that height are forgotten.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                BEGIN_STEP,
                *self._fence(before, position),
                0 if lookup.fork is None else 1,
                *lookup.parameters(),
                checkpoint_rows(kept),
                UNREACHABLE_HEIGHT if lookup.fork is None else lookup.fork,
                -1 if below is None else below,
            )
            if row is None:
                raise self._lost()
            yield self._step(connection, row["now"], row), position

    @asynccontextmanager
    async def begin_at_cursor(
        self, rewinds: int, lookup: StepLookup
    ) -> AsyncIterator[tuple[StepTransaction, Position]]:
        """Open a step that leaves the cursor where it is, and say where that is.

        ``rewinds``: the branch that it was prepared on; raises `BranchChanged` if a reorg came in between, and
        `LeaseLost` if another daemon follows the rail.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(LOCK_RAIL_AT_CURSOR, self._lease.rail, self._lease.epoch)
            if row is None:
                raise self._lost()
            if row["rewinds"] != rewinds:
                raise BranchChanged(f"rail {self._lease.rail}: a reorg came in between; nothing was written")
            position = _position(row)
            finalized = position.finalized.height if position.finalized else -1
            # A blind rail promotes nothing, so what is due is not loaded again and again; its index still has it.
            due = (-1, -1) if position.is_blind else (position.cursor.height, finalized)
            found = await connection.fetchrow(AFFECTED_AT_CURSOR, self._lease.rail, *due, *lookup.parameters())
            yield self._step(connection, row["now"], found), position

    def _step(self, connection: Connection, now: datetime, found: Row) -> StepTransaction:
        read = read_coverage(found), read_affected(found)
        return StepTransaction(connection, self._database.dsn, self._lease, now, *read)

    async def due_second_looks(self) -> dict[UUID, Threshold]:
        """Transfers that are to be read a second time, and when."""
        rows = await self._database.rows(DUE_SECOND_LOOKS, self._lease.rail)
        return {row["id"]: Threshold(row["basis"], row["due_height"]) for row in rows}

    async def claims(self, ids: Sequence[UUID]) -> list[Claim]:
        """Those of the transfers that still have to be read a second time."""
        return [_claim(row) for row in await self._database.rows(SECOND_LOOK_CLAIMS, list(ids))]

    async def inclusion_blocks(self, anchor: int) -> list[InclusionBlock]:
        """Return the blocks that hold inclusions which the chain can still undo, or which nobody has counted yet."""
        rows = await self._database.rows(INCLUSION_BLOCKS, self._lease.rail, anchor)
        return [InclusionBlock(row["height"], row["hash"]) for row in rows]

    async def extend_coverage(self, seen_at: datetime | None) -> datetime:
        """Write that the rail has been watched up to ``seen_at``, if somebody waits for that; None: up to no moment.

        Returns what the database's clock shows.
        """
        shown: datetime = await self._database.value(EXTEND_COVERAGE, self._lease.rail, self._lease.epoch, seen_at)
        return shown

    async def closed_windows(self, after: WindowCursor) -> tuple[list[UUID], WindowCursor]:
        """Return the invoices of one page that can expire now, and where the next page begins."""
        async with self._database.connection() as connection:
            return await _closed_windows(connection, self._lease.rail, after)

    def _fence(self, before: BlockRef | None, position: Position) -> tuple[object, ...]:
        cursor, finalized = position.cursor, position.finalized
        return (
            self._lease.rail,
            self._lease.epoch,
            before.hash if before else None,
            cursor.height,
            cursor.hash,
            cursor.parent,
            cursor.time,
            position.tip_height,
            finalized.height if finalized else None,
            finalized.hash if finalized else None,
            position.seen_at,
            position.state,
            position.reason,
        )

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"rail {self._lease.rail}: another daemon has taken it, or its cursor moved, since epoch "
            f"{self._lease.epoch} began; nothing was written"
        )


def _claim(row: Row) -> Claim:
    return Claim(
        row["id"],
        row["tx_id"],
        row["tx_index"],
        AssetId(row["asset"]),
        int(row["amount"]),
        row["block_height"],
        row["block_hash"],
        row["address_key"],
        row["node"],
    )


def _position(row: Row) -> Position:
    cursor = BlockRef(row["cursor_height"], row["cursor_hash"], row["cursor_parent"], row["cursor_time"])
    finalized = None
    if row["finalized_height"] is not None:
        finalized = BlockRef(row["finalized_height"], row["finalized_hash"], "", row["cursor_time"])
    return Position(cursor, row["tip_height"], finalized, None, row["state"], row["reason"])

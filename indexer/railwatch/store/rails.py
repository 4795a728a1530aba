"""A rail's resume point, and its state."""

from dataclasses import dataclass
from typing import Any

from railwatch.rail.printable import printable
from railwatch.rail.types import BlockRef
from railwatch.redaction import hidden
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.queries import query
from railwatch.store.steps import Acceptance, Lease

LOAD_RAIL = query("load_rail")
LOAD_CHECKPOINTS = query("load_checkpoints")
LOAD_SPENDS = query("load_spends")
SAVE_RAIL_STATE = query("save_rail_state")
SAVE_RAIL_HALTED = query("save_rail_halted")
RAIL_STATE = query("rail_state")


PENDING_ACCEPTANCE = query("pending_acceptance")
KNOWN_BLOCKS = query("known_blocks")
ABOVE_FORK = query("above_fork")
HISTORY_BEGINS = query("history_begins")
INVOICES_ABOVE_FORK = query("invoices_above_fork")


@dataclass(frozen=True, slots=True)
class Reversal:
    """What reversing everything above a height affects, as rows: transfers by asset and state, and invoices."""

    transfers: list[dict[str, Any]]
    invoices: list[dict[str, Any]]


async def pending_acceptance(database: Database, rail: str) -> Acceptance | None:
    """Return a person's decision to follow another chain, if it is not followed yet."""
    row = await database.row(PENDING_ACCEPTANCE, rail)
    return Acceptance(row["id"], row["fork_height"], row["fork_hash"]) if row else None


async def known_blocks(database: Database, rail: str) -> list[tuple[int, str]]:
    """Return (height, hash) of blocks of the chain that a rail followed, oldest first."""
    return [(row["height"], row["hash"]) for row in await database.rows(KNOWN_BLOCKS, rail)]


async def history_begins(database: Database, rail: str) -> int | None:
    """Return the lowest height from which the rail has been watched for a destination; None: for none."""
    height: int | None = await database.value(HISTORY_BEGINS, rail)
    return height


async def above_fork(database: Database, rail: str, height: int) -> Reversal:
    """Return what would be reversed."""
    transfers = [dict(row) for row in await database.rows(ABOVE_FORK, rail, height)]
    for row in transfers:
        row["amount"] = int(row["amount"])
    return Reversal(transfers, [dict(row) for row in await database.rows(INVOICES_ABOVE_FORK, rail, height)])


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where the last committed step left a rail. ``finalized`` carries height and hash, and no more."""

    cursor: BlockRef | None
    finalized: BlockRef | None
    checkpoints: list[BlockRef]
    rewinds: int
    origin: str | None = None
    """The name that ids of its transfers derive from, if it was renamed."""


async def load_resume_point(database: Database, rail: str) -> ResumePoint:
    """Read it back after a start, or after a commit whose outcome is unknown."""
    row = await database.row(LOAD_RAIL, rail)
    if row is None:
        raise LookupError(f"rail {rail} was not mirrored")
    if row["cursor_height"] is None:
        return ResumePoint(None, None, [], row["rewinds"], row["origin"])
    cursor = BlockRef(row["cursor_height"], row["cursor_hash"], row["cursor_parent"], row["cursor_time"])
    finalized = None
    if row["finalized_height"] is not None:
        finalized = BlockRef(row["finalized_height"], row["finalized_hash"], "", row["cursor_time"])
    points = [
        BlockRef(each["height"], each["hash"], each["parent"], each["time"])
        for each in await database.rows(LOAD_CHECKPOINTS, rail, cursor.height)
    ]
    return ResumePoint(cursor, finalized, points, row["rewinds"], row["origin"])


async def load_spends(database: Database, rail: str) -> list[tuple[str, str]]:
    """Return what live transfers consume, each with a transaction that does."""
    return [(row["resource"], row["tx_id"]) for row in await database.rows(LOAD_SPENDS, rail)]


def storable(reason: str) -> str:
    """Return a reason as every reader of the table may see it: one line, bounded, no secret, nothing invisible."""
    return printable(hidden(reason))


async def save_rail_state(database: Database, lease: Lease, state: str, reason: str | None) -> None:
    """Write a rail's state, unless it is stored already or the lease is lost."""
    await database.value(SAVE_RAIL_STATE, lease.rail, lease.epoch, state, None if reason is None else storable(reason))


async def save_rail_halted(database: Database, rail: str, reason: str) -> None:
    """Write that a defect halted a rail, unless another daemon follows it by now."""
    await database.value(SAVE_RAIL_HALTED, rail, storable(reason))


async def rail_state(database: Database, rail: str) -> str:
    """Return the stored state of a rail."""
    row = await database.row(RAIL_STATE, rail)
    return str(row["state"]) if row else "starting"


async def require_deep_reorg(database: Database, rail: str) -> None:
    """Raise `Refused` unless a `DeepReorg` has halted the rail: only then is there another chain to accept."""
    row = await database.row(RAIL_STATE, rail)
    state, reason = (row["state"], row["reason"] or "") if row else ("starting", "")
    if state != "halted" or not reason.startswith("DeepReorg"):
        raise Refused(
            f"rail {rail} is {state}, and not halted by a DeepReorg: there is no other chain to accept", "RW046", None
        )

"""The contract's functions, called from Python: what a service may do, with the same refusals that it would get."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import asyncpg

from railwatch.rail.types import BlockRef
from railwatch.store.database import Connection, Database
from railwatch.store.errors import Refused
from railwatch.store.queries import query
from railwatch.store.read_models import Record

CREATE_INVOICE = query("call_create_invoice")
CANCEL_INVOICE = query("call_cancel_invoice")
HOLD_INVOICE = query("call_hold_invoice")
RELEASE_INVOICE = query("call_release_invoice")
RECORD_REFUND = query("call_record_refund")
RECORD_SETTLEMENT = query("call_record_settlement")
RESOLVE_EXCEPTION = query("call_resolve_exception")
ASSIGN_TRANSFER = query("call_assign_transfer")
ANNOTATE_EXCEPTION = query("call_annotate_exception")
REQUEST_RESCAN = query("call_request_rescan")
CANCEL_RESCAN = query("call_cancel_rescan")
RESUME_RAIL = query("call_resume_rail")
ACCEPT_CHAIN = query("call_accept_chain")
RENAME_RAIL = query("call_rename_rail")
ASSET_DECIMALS = query("asset_decimals")
WATCH_STATES = query("watch_states")


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something by hand, and on whose behalf: it becomes the transition's cause."""

    actor: str
    cause: Literal["service", "operator"] = "service"


async def create_invoice(database: Database, request: Mapping[str, Any]) -> UUID:
    """Register an invoice from the request of `create_invoice(jsonb)`, and return its id. Raises `Refused`.

    The same merchant, order and terms again give the same id.
    """
    async with _functions(database) as connection:
        made: UUID = await connection.fetchval(CREATE_INVOICE, request)
        return made


async def cancel_invoice(database: Database, invoice: UUID, act: Act, *, note: str | None = None) -> str:
    """Withdraw an invoice that holds no money, and return its state. Raises `Refused`."""
    async with _functions(database) as connection:
        state: str = await connection.fetchval(CANCEL_INVOICE, invoice, act.actor, note, act.cause)
        return state


async def hold_invoice(database: Database, invoice: UUID, act: Act, *, reason: str) -> str:
    """Hold an invoice, whatever the chain says, and return its state, `flagged`. Raises `Refused`."""
    async with _functions(database) as connection:
        state: str = await connection.fetchval(HOLD_INVOICE, invoice, act.actor, reason, act.cause)
        return state


async def release_invoice(database: Database, invoice: UUID, act: Act, *, reason: str | None = None) -> str:
    """End a hold, and return the state that the facts require now. Raises `Refused`."""
    async with _functions(database) as connection:
        state: str = await connection.fetchval(RELEASE_INVOICE, invoice, act.actor, reason, act.cause)
        return state


@dataclass(frozen=True, slots=True)
class Refund:
    """What was given back, in base units of what had come; ``rail`` and ``asset`` where it came in several ways."""

    amount: int
    tx_id: str
    reason: str | None = None
    rail: str | None = None
    asset: str | None = None


async def record_refund(database: Database, invoice: UUID, refund: Refund, act: Act) -> UUID:
    """Record a refund and return its id; the same transaction again gives the same id. Raises `Refused`."""
    async with _functions(database) as connection:
        made: UUID = await connection.fetchval(
            RECORD_REFUND,
            invoice,
            Decimal(refund.amount),
            refund.tx_id,
            act.actor,
            refund.reason,
            refund.rail,
            refund.asset,
            act.cause,
        )
        return made


async def record_settlement(
    database: Database, invoice: UUID, reference: str, act: Act, *, note: str | None = None
) -> UUID:
    """Record where finance booked an invoice, and return the entry's id. Raises `Refused`."""
    async with _functions(database) as connection:
        made: UUID = await connection.fetchval(RECORD_SETTLEMENT, invoice, reference, act.actor, note, act.cause)
        return made


async def resolve_exception(
    database: Database,
    exception: UUID,
    act: Act,
    *,
    resolution: str,
    note: str | None = None,
    verdict: str | None = None,
) -> str:
    """Resolve an exception, and return the effective resolution, which is the first. Raises `Refused`.

    ``verdict``: of a `content_mismatch`, ``accepted`` or ``rejected``.
    """
    async with _functions(database) as connection:
        words = (exception, act.actor, resolution, note, act.cause, verdict)
        effective: str = await connection.fetchval(RESOLVE_EXCEPTION, *words)
        return effective


async def assign_transfer(database: Database, transfer: UUID, invoice: UUID, act: Act, reason: str) -> UUID:
    """Give an unallocated transfer to an invoice, and return the detection that it becomes. Raises `Refused`."""
    async with _functions(database) as connection:
        made: UUID = await connection.fetchval(ASSIGN_TRANSFER, transfer, invoice, act.actor, reason, act.cause)
        return made


async def annotate_exception(
    database: Database, exception: UUID, act: Act, *, note: str | None = None, owner: str | None = None
) -> None:
    """Add a note to an exception, or give it an owner. Raises `Refused`."""
    async with _functions(database) as connection:
        await connection.fetchval(ANNOTATE_EXCEPTION, exception, act.actor, note, owner)


async def rename_rail(database: Database, old: str, new: str) -> None:
    """Give a rail another name, with all that belongs to it. Raises `Refused` while a daemon follows it."""
    async with _functions(database) as connection:
        await connection.execute(RENAME_RAIL, old, new)


async def request_rescan(database: Database, rail: str, from_height: int, to_height: int | None = None) -> UUID:
    """Ask the daemon to scan blocks again, both ends inclusive, and return the request's id.

    Raises `Refused`.
    """
    async with _functions(database) as connection:
        request: UUID = await connection.fetchval(REQUEST_RESCAN, rail, from_height, to_height)
        return request


async def cancel_rescan(database: Database, rescan: UUID, actor: str, reason: str | None = None) -> str:
    """End an open rescan, and return its outcome. Raises `Refused`."""
    async with _functions(database) as connection:
        return str(await connection.fetchval(CANCEL_RESCAN, rescan, actor, reason))


async def resume_rail(database: Database, rail: str, actor: str, reason: str | None = None) -> str:
    """Let a halted rail continue, and return its state. Raises `Refused`."""
    async with _functions(database) as connection:
        return str(await connection.fetchval(RESUME_RAIL, rail, actor, reason))


async def accept_chain(database: Database, rail: str, fork: BlockRef, *, common: bool, actor: str, reason: str) -> UUID:
    """Let a rail that a DeepReorg has halted follow the other chain from ``fork`` on. Raises `Refused`."""
    async with _functions(database) as connection:
        made: UUID = await connection.fetchval(ACCEPT_CHAIN, rail, fork.height, fork.hash, common, actor, reason)
        return made


async def asset_decimals(database: Database, rail: str, asset: str) -> int | None:
    """Return the decimals of an enabled asset, by symbol or CAIP-19 id; None if there is none."""
    decimals: int | None = await database.value(ASSET_DECIMALS, rail, asset)
    return decimals


async def watch_states(database: Database, invoice: UUID) -> list[Record]:
    """Return rail, address, watch_state and watch_error of an invoice's destinations, in order."""
    return [dict(row) for row in await database.rows(WATCH_STATES, invoice)]


@asynccontextmanager
async def _functions(database: Database) -> AsyncIterator[Connection]:
    """Return a connection that also refuses values that fit no column (a NUL in a text, a height of 2^70)."""
    async with database.connection() as connection:
        try:
            yield connection
        except asyncpg.DataError as error:
            raise Refused(str(error), getattr(error, "sqlstate", None) or "22000", None) from error

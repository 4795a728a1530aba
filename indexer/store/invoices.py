"""The contract's functions, called from Python: what a service may do, with the same refusals that it would get."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from indexer.store.database import Connection, Database
from indexer.store.errors import Refused
from indexer.store.queries import query
from indexer.store.reads import Record

CREATE_INVOICE = query("call_create_invoice")
CANCEL_INVOICE = query("call_cancel_invoice")
REQUEST_RESCAN = query("call_request_rescan")
ASSET_DECIMALS = query("asset_decimals")
WATCH_STATES = query("watch_states")


async def create_invoice(database: Database, request: Mapping[str, Any]) -> UUID:
    """Register an invoice from what `create_invoice(jsonb)` takes, and return its id. Raises `Refused`.

    The same merchant, order and terms again give the same id.
    """
    async with _functions(database) as connection:
        made: UUID = await connection.fetchval(CREATE_INVOICE, request)
        return made


async def cancel_invoice(database: Database, invoice: UUID, *, actor: str, note: str | None = None) -> str:
    """Withdraw an invoice that holds no money; returns its state. Raises `Refused`."""
    async with _functions(database) as connection:
        state: str = await connection.fetchval(CANCEL_INVOICE, invoice, actor, note)
        return state


async def request_rescan(database: Database, rail: str, from_height: int, to_height: int | None = None) -> int:
    """Ask the daemon to look through blocks again, both ends inclusive; returns the request's id. Raises `Refused`."""
    async with _functions(database) as connection:
        request: int = await connection.fetchval(REQUEST_RESCAN, rail, from_height, to_height)
        return request


async def asset_decimals(database: Database, rail: str, asset: str) -> int | None:
    """Decimals of an enabled asset, by symbol or CAIP-19 id; None if there is none."""
    decimals: int | None = await database.value(ASSET_DECIMALS, rail, asset)
    return decimals


async def watch_states(database: Database, invoice: UUID) -> list[Record]:
    """rail, address, watch_state and watch_error of an invoice's destinations, in order."""
    return [dict(row) for row in await database.rows(WATCH_STATES, invoice)]


@asynccontextmanager
async def _functions(database: Database) -> AsyncIterator[Connection]:
    """A connection on which values that no column can hold (a NUL in a text, a height of 2^70) are refused as well."""
    async with database.connection() as connection:
        try:
            yield connection
        except asyncpg.DataError as error:
            raise Refused(str(error), getattr(error, "sqlstate", None) or "22000", None) from error

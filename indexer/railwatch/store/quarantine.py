"""Invoices that the daemon cannot process: set aside with the reason, while their transfers are kept.

A rail does not stop for one invoice, and the invoice loses nothing. Its transfers are stored as the node
reported them, in the same commit as the cursor that passes them, and processed later, in the order of the chain.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from railwatch.core.ids import detection_id
from railwatch.rail.types import AssetId, BlockRef, Transfer
from railwatch.store.database import Connection, Database
from railwatch.store.queries import query

SET_ASIDE = query("set_aside")
TAKE_BACK = query("take_back")
POSTPONE = query("postpone")
RETRY_ALL = query("retry_all")
RETRIABLE = query("retriable")
DEFER_TRANSFERS = query("defer_transfers")
DEFER_REORG = query("defer_reorg")
DEFERRED_OF = query("deferred_of")
UNDONE_OF = query("undone_of")

RETRY_FIRST, RETRY_LONGEST = 10.0, 600.0
"""Seconds before an invoice is tried again: at first, and at most."""

RETRIES_MAX = 20
"""Invoices that are tried again in one turn."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A transfer that waits for its invoice, and when it was first seen."""

    transfer: Transfer
    seen_at: datetime


class StepQuarantine:
    """The quarantine of one rail, within a step's transaction."""

    def __init__(self, connection: Connection, rail: str) -> None:
        self._connection = connection
        self._rail = rail

    async def set_aside(self, invoice: UUID, reason: str) -> None:
        """Put an invoice into quarantine from this step on."""
        await self._connection.execute(SET_ASIDE, self._rail, invoice, reason, RETRY_FIRST)

    async def defer(self, origin: str, transfers: Iterable[tuple[UUID, Transfer]]) -> None:
        """Keep transfers for their invoices. ``origin``: the name of the rail that ids derive from."""
        rows = {
            (invoice, detection_id(origin, each.tx_id, each.tx_index)): (
                "".join(character for character in each.tx_id if character.isprintable()),
                each.block.height if each.block else None,
                encode_transfer(each),
            )
            for invoice, each in transfers
        }
        if rows:
            columns = zip(*((*key, *row) for key, row in rows.items()), strict=True)
            await self._connection.execute(DEFER_TRANSFERS, self._rail, *map(list, columns))

    async def defer_reorg(self, fork: int) -> None:
        """Remember that everything above ``fork`` is gone. Call it before `defer` of what the new branch brings."""
        await self._connection.execute(DEFER_REORG, self._rail, fork)

    async def deferred(self, invoice: UUID) -> list[Deferred]:
        """Return what is kept for an invoice, in the order of the chain."""
        return [_deferred(row) for row in await self._connection.fetch(DEFERRED_OF, self._rail, invoice)]

    async def undone(self, invoice: UUID) -> set[UUID]:
        """Return the detections of an invoice whose inclusion a reorg has reversed since it was set aside."""
        return {row["id"] for row in await self._connection.fetch(UNDONE_OF, self._rail, invoice)}

    async def take_back(self, invoice: UUID) -> None:
        """End the quarantine of an invoice that has caught up."""
        await self._connection.execute(TAKE_BACK, self._rail, invoice)


class QuarantineStore:
    """The quarantine of one rail, outside steps. All of it raises `StoreUnavailable`."""

    def __init__(self, database: Database, rail: str) -> None:
        self._database = database
        self._rail = rail

    async def retry_all(self) -> None:
        """Make every invoice due now."""
        await self._database.value(RETRY_ALL, self._rail)

    async def retriable(self) -> list[UUID]:
        """Return invoices whose turn it is."""
        return [row["invoice_id"] for row in await self._database.rows(RETRIABLE, self._rail, RETRIES_MAX)]

    async def deferred(self, invoice: UUID) -> list[Deferred]:
        """Return what is kept for an invoice now."""
        return [_deferred(row) for row in await self._database.rows(DEFERRED_OF, self._rail, invoice)]

    async def postpone(self, invoice: UUID, reason: str) -> None:
        """Record why it failed again, and when to retry."""
        await self._database.value(POSTPONE, self._rail, invoice, reason, RETRY_FIRST, RETRY_LONGEST)


def _deferred(row: Mapping[str, Any]) -> Deferred:
    return Deferred(decode_transfer(row["transfer"]), row["seen_at"])


def encode_transfer(transfer: Transfer) -> bytes:
    """Return a transfer as JSON. The raw response is omitted where it is no JSON."""
    block = transfer.block
    facts = {
        "tx_id": transfer.tx_id,
        "tx_index": transfer.tx_index,
        "to": transfer.to.hex(),
        "asset": transfer.asset,
        "amount": str(transfer.amount),
        "block": None if block is None else {**asdict(block), "time": block.time.isoformat()},
        "reference": transfer.reference,
        "spends": transfer.spends,
        "rivals": transfer.rivals,
        "maturity": transfer.maturity,
        "references": transfer.references,
    }
    try:
        return msgspec.json.encode({**facts, "evidence": transfer.evidence, "raw": transfer.raw})
    except (TypeError, ValueError):
        return msgspec.json.encode({**facts, "evidence": {}, "raw": None})


def decode_transfer(data: bytes) -> Transfer:
    """Read what `encode_transfer` wrote."""
    fields: dict[str, Any] = msgspec.json.decode(data)
    block = fields["block"]
    lists: Sequence[str] = ("spends", "rivals", "references")
    return Transfer(
        **{
            **fields,
            "to": bytes.fromhex(fields["to"]),
            "asset": AssetId(fields["asset"]),
            "amount": int(fields["amount"]),
            "block": None if block is None else BlockRef(**{**block, "time": datetime.fromisoformat(block["time"])}),
            **{name: tuple(fields[name]) for name in lists},
        }
    )

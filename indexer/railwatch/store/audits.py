"""What an audit reads: one rail's claims about a range of blocks, and who waits for money there. Nothing is written."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from railwatch.core.matching import Candidate, base_index
from railwatch.rail.types import AssetId
from railwatch.store.database import Database, Row
from railwatch.store.queries import query
from railwatch.store.watches import WatchStore

AUDITED_RAIL = query("audited_rail")
AUDITED_ASSETS = query("audited_assets")
AUDITED_CLAIMS = query("audited_claims")
AUDITED_SIGHTINGS = query("audited_sightings")
AUDITED_OWNERS = query("audited_owners")


@dataclass(frozen=True, slots=True)
class AuditedRail:
    """A rail as it is stored. ``oldest``: the lowest block whose payments are not final, None: there is none.

    ``assets`` by canonical contract (native: ``""``); ``least``: configured assets with their least amount, base units.
    """

    name: str
    family: str
    cursor: int
    oldest: int | None
    assets: Mapping[str, AssetId]
    least: Mapping[AssetId, int]


@dataclass(frozen=True, slots=True)
class AuditedClaim:
    """A transfer that a detection says to be in a block. ``amount`` in base units, ``key`` as chains compare it."""

    invoice_id: UUID
    order: str
    tx_id: str
    tx_index: str
    asset: AssetId
    amount: int
    state: str
    height: int
    block_hash: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Owner:
    """A watched destination. ``covered_from``: the height from which its own rail's history is known, inclusive.

    ``left_out``: some sightings of unknown tokens were counted there, and not recorded.
    """

    candidate: Candidate
    order: str
    covered_from: int | None
    left_out: bool


class AuditStore:
    """What an audit reads. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rail(self, name: str) -> AuditedRail | None:
        """Return the rail; None where it was never followed."""
        row = await self._database.row(AUDITED_RAIL, name)
        if row is None or row["cursor_height"] is None:
            return None
        assets = await self._database.rows(AUDITED_ASSETS, name)
        by_contract = {
            (contract.lower() if row["fold_case"] else contract): AssetId(each["id"])
            for each in assets
            for contract in [each["contract"] or ""]
        }
        least = {AssetId(each["id"]): int(each["min_amount"]) for each in assets if each["matched"]}
        return AuditedRail(name, row["family"], row["cursor_height"], row["oldest"], by_contract, least)

    async def watched(self, family: str) -> AsyncIterator[list[bytes]]:
        """Return all watched keys of a family, in chunks."""
        async for keys in WatchStore(self._database, family).keys():
            yield keys

    async def claims(self, rail: str, first: int, last: int) -> list[AuditedClaim]:
        """Return what detections say of the blocks from ``first`` to ``last``, both inclusive."""
        return [_claim(row) for row in await self._database.rows(AUDITED_CLAIMS, rail, first, last)]

    async def sightings(
        self, rail: str, transactions: Collection[str]
    ) -> dict[tuple[str, str], tuple[str, int | None]]:
        """Return what became of the credits of some transactions: (state, height) by (tx_id, base index).

        Of a credit with several contents the one that is in a block is returned, if any is.
        """
        rows = await self._database.rows(AUDITED_SIGHTINGS, rail, list(transactions))
        rows = sorted(rows, key=lambda row: row["state"] in ("included", "confirmed", "final"))
        return {(row["tx_id"], base_index(row["tx_index"])): (row["state"], row["block_height"]) for row in rows}

    async def owners(self, family: str, keys: Collection[bytes]) -> dict[bytes, list[Owner]]:
        """Return the watched destinations at some addresses, by key."""
        found: dict[bytes, list[Owner]] = {}
        for row in await self._database.rows(AUDITED_OWNERS, family, list(keys)):
            found.setdefault(row["address_key"], []).append(_owner(row))
        return found


def _claim(row: Row) -> AuditedClaim:
    return AuditedClaim(
        row["invoice_id"],
        f"{row['merchant_id']}/{row['order_id']}",
        row["tx_id"],
        row["tx_index"],
        AssetId(row["asset"]),
        int(row["amount"]),
        row["state"],
        row["block_height"],
        row["block_hash"],
        row["address_key"],
    )


def _owner(row: Row) -> Owner:
    candidate = Candidate(
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
    return Owner(candidate, f"{row['merchant_id']}/{row['order_id']}", row["covered_from"], row["left_out"] > 0)

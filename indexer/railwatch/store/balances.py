"""What addresses hold: which of them are to be looked at, what is known of them, and the newest look at each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from railwatch.core.balance_reconciliation import (
    BalanceReading,
    DetectedTotals,
    Reconciliation,
    reconcile_balance,
    small_at_most,
)
from railwatch.core.ids import balance_id
from railwatch.rail.types import AssetId, BlockRef
from railwatch.store.amounts import capped
from railwatch.store.database import Connection, Database, Row
from railwatch.store.queries import query
from railwatch.store.steps import Lease

BALANCE_KEYS = query("balance_keys")
UNREAD_BALANCE_KEYS = query("unread_balance_keys")
BALANCE_ACCOUNTS = query("balance_accounts")
LOCK_RAIL_FOR_BALANCES = query("lock_rail_for_balances")
DETECTED_AT = query("detected_at")
SAVE_BALANCE_READINGS = query("save_balance_readings")
ACCOUNT_FOR_RESOLVED = query("account_for_resolved")
SUSPECTS = query("suspects")
RECORD_SECOND_LOOK = query("record_second_look")
MARK_UNCHECKED = query("mark_unchecked")


OVERLAP = timedelta(minutes=2)
"""Addresses are watched some time after they were taken in."""


@dataclass(frozen=True, slots=True)
class BlockId:
    """A block, as far as it is kept."""

    height: int
    hash: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What an address held to begin with, and at which block."""

    amount: int
    at: BlockId


@dataclass(frozen=True, slots=True)
class PriorReading:
    """A look that counting goes on from."""

    reading: BalanceReading
    height: int


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """What was known before: where counting began, the last look and its block, and what was told by it.

    ``settled`` is a look that no reorg can undo, None where there was none yet.
    """

    baseline: Baseline
    last: PriorReading
    at: BlockId
    settled: PriorReading | None
    unattributed: int


@dataclass(frozen=True, slots=True)
class WatchedAccount:
    """One asset at one address, for the invoice that holds it. ``covered_from``: the height its history begins at."""

    destination_id: UUID
    invoice_id: UUID
    key: bytes
    asset: AssetId
    covered_from: int
    history: AccountHistory | None


@dataclass(frozen=True, slots=True)
class AccountReading:
    """What a node told of an account. ``last`` is the newest look before it whose block still stands."""

    account: WatchedAccount
    baseline: Baseline
    last: PriorReading | None
    settled: PriorReading | None
    balance: int
    node: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """An account that holds more than is known, as one node told it at a block that no reorg can undo by now."""

    id: UUID
    key: bytes
    asset: AssetId
    at: BlockId
    balance: int
    node: str


@dataclass(frozen=True, slots=True)
class SecondReading:
    """What reading a suspect again said: verified, unverified, or None where it is not so; and which node told it."""

    suspect: Suspect
    verdict: str | None
    node: str | None


class BalanceStore:
    """The accounts of one rail, under one lease. All of it raises `StoreUnavailable`."""

    def __init__(self, database: Database, lease: Lease, family: str, configured: Mapping[AssetId, int]) -> None:
        self._database = database
        self._lease = lease
        self._family = family
        self._configured, self._least = sorted(configured), configured
        self._newest = datetime.min.replace(tzinfo=UTC)

    async def unread_keys(self, limit: int) -> list[bytes]:
        """Addresses that were lately taken in, and not looked at yet. What slips through has its turn in the walk."""
        rows = await self._database.rows(UNREAD_BALANCE_KEYS, self._lease.rail, self._configured, limit, self._newest)
        if len(rows) == limit:
            self._newest = rows[-1]["accepted_at"] - OVERLAP
        return [row["address_key"] for row in rows]

    async def keys(self, after: bytes, limit: int) -> list[bytes]:
        """Watched addresses, in their order."""
        return [row["address_key"] for row in await self._database.rows(BALANCE_KEYS, self._lease.rail, after, limit)]

    async def accounts(self, keys: Sequence[bytes], native: AssetId | None) -> list[WatchedAccount]:
        """Return the accounts to count at those addresses; ``native`` as well, if it is given."""
        rows = await self._database.rows(BALANCE_ACCOUNTS, self._lease.rail, keys, native, self._configured)
        return [_account(row) for row in rows]

    async def account_for_resolved(self) -> int:
        """Take what a person has resolved for accounted for; returns of how many accounts.

        Exceptions follow when the clock's task weighs the invoices: one that cannot be weighed harms no other there.
        """
        async with self._database.transaction() as connection:
            rows = await connection.fetch(ACCOUNT_FOR_RESOLVED, self._lease.rail)
            return await self._mark_unchecked(connection, {row["invoice_id"] for row in rows})

    async def suspects(self, settled: int, limit: int) -> list[Suspect]:
        """Return accounts whose balance is to be read again, at blocks up to ``settled``."""
        rows = await self._database.rows(SUSPECTS, self._lease.rail, settled, limit)
        return [
            Suspect(
                row["id"],
                row["address_key"],
                AssetId(row["asset"]),
                BlockId(row["suspect_height"], row["suspect_hash"]),
                int(row["suspect_balance"]),
                row["suspect_node"],
            )
            for row in rows
        ]

    async def record_second_looks(self, readings: Sequence[SecondReading]) -> int:
        """Write what second readings said; returns how many invoices have unattributed money by now."""
        columns = [
            [each.suspect.id for each in readings],
            [each.suspect.at.hash for each in readings],
            [each.verdict for each in readings],
            [each.node for each in readings],
        ]
        async with self._database.transaction() as connection:
            rows = await connection.fetch(RECORD_SECOND_LOOK, self._lease.rail, self._lease.epoch, *columns)
            return await self._mark_unchecked(connection, {row["invoice_id"] for row in rows})

    @staticmethod
    async def _mark_unchecked(connection: Connection, invoices: Collection[UUID]) -> int:
        if invoices:
            await connection.execute(MARK_UNCHECKED, sorted(invoices))
        return len(invoices)

    async def record(self, block: BlockRef, rewinds: int, readings: Sequence[AccountReading]) -> int | None:
        """Reckon what was read at ``block``; returns of how many invoices something came to be unattributed, or not.

        None, and nothing is written: the lease or the branch (``rewinds``) changed since the node was asked.
        """
        async with self._database.transaction() as connection:
            if not await connection.fetch(
                LOCK_RAIL_FOR_BALANCES, self._lease.rail, self._lease.epoch, rewinds, block.height
            ):
                return None
            detected = await self._detected(connection, block, readings)
            reckoned = [
                reconcile_balance(
                    each.baseline.amount,
                    each.last.reading if each.last else None,
                    known,
                    each.balance,
                    self._least.get(each.account.asset, 0),
                )
                for each, known in zip(readings, detected, strict=True)
            ]
            rows = [self._row(*each, block) for each in zip(readings, detected, reckoned, strict=True)]
            await connection.execute(SAVE_BALANCE_READINGS, *map(list, zip(*rows, strict=True)))
            told = {each.account.invoice_id for each, now in zip(readings, reckoned, strict=True) if _news(each, now)}
            return await self._mark_unchecked(connection, told)

    async def _detected(
        self, connection: Connection, block: BlockRef, readings: Sequence[AccountReading]
    ) -> list[DetectedTotals]:
        asked = [
            (
                each.account.key,
                each.account.asset,
                each.baseline.at.height,
                each.last.height if each.last else each.baseline.at.height,
            )
            for each in readings
        ]
        columns = map(list, zip(*asked, strict=True))
        rows = await connection.fetch(DETECTED_AT, self._lease.rail, *columns, block.height, self._family)
        return [
            DetectedTotals(int(row["total"]), int(row["fresh"]), self._small(row, each.account.asset))
            for row, each in zip(rows, readings, strict=True)
        ]

    def _small(self, row: Row, asset: AssetId) -> int:
        return small_at_most(int(row["small_amount"]), int(row["small_count"]), self._least.get(asset, 0))

    def _row(
        self, reading: AccountReading, detected: DetectedTotals, now: Reconciliation, block: BlockRef
    ) -> tuple[object, ...]:
        account, baseline, settled = reading.account, reading.baseline, reading.settled
        return (
            balance_id(account.destination_id, account.asset),
            account.invoice_id,
            account.destination_id,
            self._lease.rail,
            account.asset,
            *(capped(baseline.amount), baseline.at.height, baseline.at.hash),
            *map(capped, (reading.balance, detected.total, now.spent, now.unattributed)),
            *(block.height, block.hash, reading.node),
            *((settled.height, settled.reading.balance, settled.reading.spent) if settled else (None, None, None)),
        )


def _news(reading: AccountReading, now: Reconciliation) -> bool:
    """Whether there is a surplus where there was none, or the other way round."""
    before = reading.account.history.unattributed if reading.account.history else 0
    return bool(before) != bool(now.unattributed)


def _account(row: Row) -> WatchedAccount:
    history = settled = None
    if row["settled_height"] is not None:
        settled = PriorReading(
            BalanceReading(int(row["settled_balance"]), int(row["settled_spent"])), row["settled_height"]
        )
    if row["baseline"] is not None:
        history = AccountHistory(
            Baseline(int(row["baseline"]), BlockId(row["baseline_height"], row["baseline_hash"])),
            PriorReading(BalanceReading(int(row["balance"]), int(row["spent"])), row["block_height"]),
            BlockId(row["block_height"], row["block_hash"]),
            settled,
            int(row["unattributed"]),
        )
    return WatchedAccount(
        row["destination_id"],
        row["invoice_id"],
        row["address_key"],
        AssetId(row["counts"]),
        row["covered_from"],
        history,
    )

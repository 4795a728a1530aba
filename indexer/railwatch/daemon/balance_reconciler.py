"""The comparison of address balances with detected transfers, slowly and alongside everything else.

On a rail that cannot see every way in which money arrives (a node that does not trace, withdrawals, rewards: HAZARDS
E2, E14) an arrival that no block shows is still in the balance. It opens an exception; it is never counted.

One node's report is not enough: it may be about a block that is only being made. What an address holds beyond
what is known is read again, as of the same block, once no reorg can undo that, and from another node where there is
one. Only then the exception opens.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import AssetId, BlockGone, BlockRef, RailUnavailable
from railwatch.store.balances import (
    AccountHistory,
    AccountReading,
    BalanceStore,
    Baseline,
    BlockId,
    PriorReading,
    SecondReading,
    Suspect,
    WatchedAccount,
)
from railwatch.store.errors import StoreUnavailable

CHECK_INTERVAL = 1.0
"""Seconds between two batches, and between two checks for new addresses."""

BACKOFF_MAX_SECONDS = 60.0
"""Seconds of the longest pause. An overloaded node gets fewer queries, because reconciliation can wait."""

READ_ATTEMPTS = 5
"""Attempts at a second reading before a balance is logged as unverified: no node may keep that state any more."""

BATCH_MAX = 100
"""Addresses of one batch: one or two small requests a second, for any number of watched addresses."""


@dataclass(slots=True)
class BalanceReconciler:
    """The reconciler of one rail. ``every``: seconds from the start of one pass over all addresses to the next."""

    store: BalanceStore
    node: NodeSet
    follower: ChainFollower
    native: AssetId | None
    every: float
    _after: bytes | None = None
    """The position of the current pass; None between two passes."""
    _due: float = field(default_factory=time.monotonic)
    _tries: defaultdict[BlockId, int] = field(default_factory=lambda: defaultdict(int))
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.follower.committer.rail)

    async def run(self) -> None:
        """Check until cancelled. An unavailable node or database is retried later, without a conclusion meanwhile."""
        pause = CHECK_INTERVAL
        while True:
            await asyncio.sleep(pause)
            try:
                await self.check()
                pause = CHECK_INTERVAL
            except (RailUnavailable, BlockGone, StoreUnavailable) as away:
                self._log.debug("balance.retry", reason=str(away))
                pause = min(BACKOFF_MAX_SECONDS, pause * 2)

    async def check(self) -> None:
        """Read new addresses first, so that little can arrive before their first reading; then a batch of the pass."""
        if self.follower.status.state != "live" or self.follower.sync.cursor is None:
            return
        await self.store.account_for_resolved()
        await self._read_suspects_again()
        if newcomers := await self.store.unread_keys(BATCH_MAX):
            await self._reconcile(newcomers, self.follower.sync.cursor)
        if self._after is None and time.monotonic() >= self._due:
            self._after, self._due = b"", time.monotonic() + self.every
        if self._after is not None:
            keys = await self.store.keys(self._after, BATCH_MAX)
            if not keys or await self._reconcile(keys, self.follower.sync.cursor):
                self._after = keys[-1] if len(keys) == BATCH_MAX else None

    async def _read_suspects_again(self) -> None:
        """Read one node's balances at final blocks a second time, and accept or reject them."""
        groups: defaultdict[tuple[BlockId, AssetId, str], list[Suspect]] = defaultdict(list)
        for suspect in await self.store.suspects(self._final_height, BATCH_MAX):
            groups[suspect.at, suspect.asset, suspect.node].append(suspect)
        for gone in self._tries.keys() - {at for at, _, _ in groups}:
            del self._tries[gone]
        readings = [each for group, some in groups.items() for each in await self._read_again(*group, some)]
        if readings and (invoices := await self.store.record_second_looks(readings)):
            self._log.warning("balance.unattributed", invoices=invoices)

    async def _read_again(
        self, at: BlockId, asset: AssetId, first: str, suspects: Sequence[Suspect]
    ) -> list[SecondReading]:
        keys = [each.key for each in suspects]
        try:
            node, block_hash, amounts = await self.node.reread_balances(keys, asset, (at.height, at.hash), first)
        except RailUnavailable as away:
            self._tries[at] += 1
            if self._tries[at] < READ_ATTEMPTS:
                return []
            del self._tries[at]
            self._log.warning("balance.unverified", height=at.height, reason=str(away))
            return [SecondReading(each, "unverified", None) for each in suspects]
        self._tries.pop(at, None)
        readings = []
        for each in suspects:
            same = block_hash == at.hash and amounts[each.key] == each.balance
            if not same:
                reported = amounts.get(each.key)
                self._log.warning(
                    "balance.contradicted",
                    height=at.height,
                    first_node=first,
                    node=node,
                    first=each.balance,
                    reported=reported,
                )
            readings.append(SecondReading(each, "verified" if same else None, node))
        return readings

    async def _reconcile(self, keys: Sequence[bytes], block: BlockRef) -> bool:
        """Read these addresses at ``block``. Returns False, without a conclusion, if the chain changed meanwhile."""
        rewinds = self.follower.sync.rewinds
        by_asset: defaultdict[AssetId, list[WatchedAccount]] = defaultdict(list)
        for account in await self.store.accounts(keys, self.native):
            by_asset[account.asset].append(account)
        checker = CanonicalChecker(self.node, block)
        readings = [
            reading for asset, some in by_asset.items() for reading in await self._read(asset, some, block, checker)
        ]
        if not readings:
            return True
        invoices = await self.store.record(block, rewinds, readings)
        if invoices:
            self._log.info("balance.reconciled", height=block.height, invoices=invoices)
        return invoices is not None

    async def _read(
        self, asset: AssetId, accounts: Sequence[WatchedAccount], block: BlockRef, checker: "CanonicalChecker"
    ) -> list[AccountReading]:
        """Return a node's balances of one asset; empty if a contract rejects the call, or the state is pruned."""
        try:
            node, amounts = await self.node.balances([each.key for each in accounts], asset, block)
        except BlockGone as refused:
            self._log.info("balance.refused", asset=asset, height=block.height, reason=str(refused))
            return []
        begun = {
            each.key: await self._resumed(each.history, checker)
            for each in accounts
            if each.history is not None and await self._is_canonical(each.history, checker)
        }
        first = await self._first(asset, [each for each in accounts if each.key not in begun])
        readings: list[AccountReading] = []
        for account in accounts:
            balance = amounts[account.key]
            # Without the earlier state the account starts now, and only later surpluses are detected.
            here = Baseline(balance, BlockId(block.height, block.hash))
            baseline, last, settled = begun.get(account.key) or (first.get(account.key, here), None, None)
            readings.append(AccountReading(account, baseline, last, settled, balance, node))
        return readings

    async def _is_canonical(self, history: AccountHistory, checker: "CanonicalChecker") -> bool:
        """Return True if the account has a baseline that no reorg has undone."""
        return history.settled is not None or await checker.at(history.at) or await checker.at(history.baseline.at)

    async def _resumed(
        self, history: AccountHistory, checker: "CanonicalChecker"
    ) -> tuple[Baseline, PriorReading | None, PriorReading | None]:
        """Return the baseline, the newest reading at a canonical block, and the newest that no reorg can undo."""
        if not await checker.at(history.at):
            return history.baseline, history.settled, history.settled
        return (
            history.baseline,
            history.last,
            history.last if history.at.height <= self._final_height else history.settled,
        )

    @property
    def _final_height(self) -> int:
        """Return the height that no reorg may pass: the finalized one, else by the rail's horizon."""
        finalized, cursor = self.follower.sync.finalized, self.follower.sync.head
        return cursor.height - self.node.traits.horizon if finalized is None else finalized.height

    async def _first(self, asset: AssetId, accounts: Sequence[WatchedAccount]) -> dict[bytes, Baseline]:
        """Return the balances from before the addresses were covered, if the node still has that state."""
        by_height: defaultdict[int, list[bytes]] = defaultdict(list)
        for account in accounts:
            by_height[max(0, account.covered_from - 1)].append(account.key)
        first: dict[bytes, Baseline] = {}
        for height, keys in by_height.items():
            with suppress(BlockGone):
                before = await self.node.block_at(height)
                _, amounts = await self.node.balances(keys, asset, before)
                block = BlockId(before.height, before.hash)
                first.update({key: Baseline(amounts[key], block) for key in keys})
        return first


@dataclass(slots=True)
class CanonicalChecker:
    """A check whether blocks are on the branch that ends in ``head``; it queries each block once."""

    node: NodeSet
    head: BlockRef
    _known: dict[BlockId, bool] = field(default_factory=dict)

    async def at(self, block: BlockId) -> bool:
        """Return True if the block is on the branch. Raises `RailUnavailable`."""
        if block not in self._known:
            self._known[block] = block.height <= self.head.height and await self._asked(block)
        return self._known[block]

    async def _asked(self, block: BlockId) -> bool:
        if block.height == self.head.height:
            return block.hash == self.head.hash
        try:
            return (await self.node.block_at(block.height)).hash == block.hash
        except BlockGone:
            return False

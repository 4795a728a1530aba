"""Reads what waits for a block on one rail, and has it recorded when it differs from the last snapshot."""

from dataclasses import dataclass, field

import structlog

from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import BlockRef, PendingUnknown, RailAdapter

Fingerprint = frozenset[tuple[str, str, tuple[str, ...]]]
"""What distinguishes two snapshots: transactions, their credits, and whom they displace."""


@dataclass(slots=True)
class MempoolPoller:
    """The mempool of one rail, as far as it concerns watched addresses."""

    node: RailAdapter
    committer: Committer
    watches: IndexedWatches
    gap: str | None = None
    """Why the waiting transactions are unknown; None while they are known, or not polled."""
    _seen: Fingerprint | None = None
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.committer.rail)

    def forget(self) -> None:
        """Record the next snapshot whatever it holds: what it is compared with has changed."""
        self._seen = None

    async def poll(self, cursor: BlockRef, rewinds: int) -> bool:
        """Record a snapshot if it differs from the one before; return False if the node cannot say what waits.

        Raises what the node and the store raise.
        """
        try:
            snapshot = await self.node.pending(self.watches)
        except PendingUnknown as unknown:
            self._note_gap(str(unknown))
            return False
        self._note_gap(None)
        fingerprint = frozenset((each.tx_id, each.tx_index, each.rivals) for each in snapshot)
        if fingerprint == self._seen:
            return True
        heads = await self.node.heads()
        if heads.latest.hash != cursor.hash or heads.claimed_height is not None:
            return True  # A transaction that was just mined is not dropped: its block comes first, then another poll.
        await self.committer.commit_mempool(rewinds, snapshot)
        self._seen = fingerprint
        self.watches.spends.add_transfers(snapshot)
        return True

    def _note_gap(self, reason: str | None) -> None:
        if (reason is None) != (self.gap is None):
            self._log.info("mempool.known" if reason is None else "mempool.unknown", reason=reason)
        self.gap = reason
        if reason is not None:
            self.forget()

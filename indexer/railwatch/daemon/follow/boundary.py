"""The block boundary at which other tasks join the follower: what they find at or below it is committed through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from railwatch.core.sync_state import SyncState
from railwatch.daemon.follow.committer import Committer
from railwatch.rail import BlockRef, Transfer


class Memory(Protocol):
    """What a follower remembers, and changes after a commit."""

    def merge(self, transfers: Sequence[Transfer], points: Sequence[BlockRef], *, above: int | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Boundary:
    """The last committed block of a rail. ``is_followed``: the rail reads its newest blocks."""

    sync: SyncState
    is_followed: bool
    _committer: Committer
    _memory: Memory

    async def commit(
        self,
        transfers: Sequence[Transfer],
        blocks: Sequence[BlockRef] = (),
        watching: Sequence[UUID] = (),
        covered_from: int = 0,
    ) -> int:
        """Commit transfers of ``blocks`` at or below the boundary, and return how many were not known before.

        ``watching``: destinations that this look-back makes watched, from height ``covered_from`` on. Raises
        `BranchChanged` if a reorg came in between, and then nothing was written.
        """
        kept, found = await self._committer.commit_lookback(
            self.sync.rewinds, blocks, transfers, watching, covered_from
        )
        self._memory.merge(transfers, kept)
        return found

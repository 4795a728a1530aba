"""Reads blocks again, because an operator or a service asked for it: a span a turn, alongside the other tasks.

What a rescan writes is on the chain that the rail follows. Above the anchor (the block that no reorg may pass) it is
scanned up to the follower's cursor by hash. At the anchor or below, the node's chain must hold the anchor itself.

A rescan that cannot be served harms nothing else: the reason goes into its row, and it is tried again later, or fails.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import structlog

from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.daemon.nodes.one_node import OneNode
from railwatch.daemon.watch.search import search
from railwatch.daemon.watch.watchlist import ExplicitWatches
from railwatch.rail import BlockGone, BlockRef, NotKept, RailFault, RailUnavailable, Scanned, Span, Watches
from railwatch.reasons import describe, one_line
from railwatch.store.errors import BranchChanged, StoreError
from railwatch.store.watches import Rescan, WatchStore

EXPLICIT_KEYS_MAX = 100
"""Watched addresses up to which a rescan names them to the node."""

SPAN_INITIAL, SPAN_GROWTH = 64, 4
SCAN_FAST_SECONDS, SCAN_SLOW_SECONDS = 1.0, 5.0
"""Seconds of a span: a quicker one may be longer next time, a slower one is halved."""

RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 5.0, 600.0
"""Seconds before a rescan that failed is tried again: at first, and at most."""

RESCAN_ATTEMPTS = 10
"""Attempts in a row, while the rail itself is well, after which a rescan has failed: about an hour."""

MOVES_MAX = 5
"""How often in a row the chain may move under a span before that counts as an attempt that failed."""


@dataclass(slots=True)
class Rescanner:
    """The rescans of one rail."""

    store: WatchStore
    node: NodeSet
    follower: ChainFollower
    _span_limit: int = SPAN_INITIAL
    _moves: int = 0
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.follower.committer.rail)

    async def turn(self) -> bool:
        """Do one span of the open request; False if there is nothing to do now. Raises what the store raises."""
        if self.follower.sync.cursor is None:
            return False
        request = await self.store.next_rescan(self.follower.committer.rail)
        if request is None:
            return False
        try:
            await self._continue(request)
            self._moves = 0
        except (BlockGone, BranchChanged) as moved:
            await self._moved(request, moved)
        except StoreError:
            raise
        except Exception as failure:  # noqa: BLE001 - one that cannot be served fails alone, whatever the reason
            await self._failed(request, failure)
        return True

    async def _continue(self, request: Rescan) -> None:
        cursor = self.follower.sync.head.height
        end = cursor if request.to_height is None else min(cursor, request.to_height)
        if request.next_height <= end:
            await self._span(request, end)
        elif await self.store.rescan_done(request):
            self._log.info("rescan.done", rescan=str(request.id), upto=request.next_height - 1)

    async def _span(self, request: Rescan, end: int) -> None:
        """Search the next span, commit what it holds, and only then say how far it has come."""
        began, anchor = time.monotonic(), self.follower.sync.anchor
        if request.next_height <= anchor.height:
            reached, found, route = await self._final_span(request.next_height, min(end, anchor.height), anchor)
        else:
            reached, found, route = await self._span_to_cursor(request.next_height)
        self._adapt_span(time.monotonic() - began)
        await self.store.rescan_progress(request, reached + 1, found)
        self._log.info("rescan.passed", rescan=str(request.id), upto=reached, found=found, route=route)

    async def _final_span(self, first: int, end: int, anchor: BlockRef) -> tuple[int, int, str]:
        """Search a span that no reorg may undo. The anchor above it proves that: the node's chain must hold it."""
        boundary = self.follower.boundary()
        last, watches = min(end, first + self._span_limit - 1), await self._watched({})
        scanned = await self.node.on_one_node(lambda node: _scan_below(node, first, last, anchor, watches))
        found = await boundary.commit(scanned.transfers, scanned.blocks)
        return last, found, scanned.method

    async def _span_to_cursor(self, first: int) -> tuple[int, int, str]:
        """All the rest, because only the cursor's hash proves what can still be undone; committed at once."""
        follower = self.follower
        boundary, cursor = follower.boundary(), follower.sync.head
        watches = await self._watched(follower.watches.spends)
        traits = follower.committer.traits
        transfers, route = await self.node.on_one_node(lambda node: search(node, traits, first - 1, cursor, watches))
        found = await boundary.commit(transfers)
        return cursor.height, found, route

    def _adapt_span(self, seconds: float) -> None:
        if seconds > SCAN_SLOW_SECONDS:
            self._span_limit = max(1, self._span_limit // 2)
        elif seconds < SCAN_FAST_SECONDS:
            self._span_limit = min(self.follower.committer.traits.span_max, self._span_limit * SPAN_GROWTH)

    async def _watched(self, spends: Mapping[str, Collection[str]]) -> Watches:
        """All that the family watches; by name where it is little, so that a node's own index can search for it.

        ``spends``: what live payments consume. A node's index knows addresses only, so it is named where a payment can
        still be displaced, and nowhere below.
        """
        watches = self.follower.watches
        if len(watches.index) > EXPLICIT_KEYS_MAX:
            return watches
        keys: set[bytes] = set()
        async for some in self.store.keys():
            keys.update(some)
        return ExplicitWatches(frozenset(keys), watches.assets, spends)

    async def _moved(self, request: Rescan, moved: Exception) -> None:
        self._moves += 1
        if self._moves >= MOVES_MAX:
            self._moves = 0
            await self._failed(request, moved)
        else:
            self._log.info("rescan.chain_moved", rescan=str(request.id), reason=one_line(str(moved)))
            await asyncio.sleep(0.05)

    async def _failed(self, request: Rescan, failure: Exception) -> None:
        """Say why in its row. A rail that is stalled for reasons of its own does not use up the attempts."""
        known = isinstance(failure, RailUnavailable | BlockGone | BranchChanged)
        reason = one_line(str(failure)) if known or isinstance(failure, RailFault) else describe(failure)
        over = (
            not known
            or isinstance(failure, NotKept)
            or (request.tries + 1 >= RESCAN_ATTEMPTS and self.follower.status.is_followed)
        )
        retry_in = None if over else min(RETRY_MAX_SECONDS, RETRY_MIN_SECONDS * 2 ** min(request.tries, 10))
        if not known and not isinstance(failure, RailFault):
            self._log.exception("rescan.broken", rescan=str(request.id), reason=reason)
        self._log.warning(
            "rescan.failed", rescan=str(request.id), reason=reason, at=request.next_height, retry_in=retry_in
        )
        self._span_limit = SPAN_INITIAL
        await self.store.rescan_failed(request, reason, retry_in)


async def _scan_below(node: OneNode, first: int, last: int, anchor: BlockRef, watches: Watches) -> Scanned:
    """Scan a span of the chain that holds ``anchor`` above it. Raises `BlockGone` where the node's does not."""
    after = await node.block_at(max(0, first - 1))
    upto = await node.block_at(last)
    if upto.height <= after.height:
        return Scanned((), (), "")
    scanned = await node.scan(Span(after, upto, sparse=True), watches)
    # Asked last: asked first, the node could have changed its branch meanwhile.
    held = upto if upto.height == anchor.height else await node.block_at(anchor.height)
    if held.hash != anchor.hash:
        raise BlockGone(f"the node's chain holds {held.hash} at {held.height}, and the rail follows {anchor.hash}")
    return scanned

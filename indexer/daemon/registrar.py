"""Takes registered addresses into the watch, and looks back for payments that came first (HAZARDS B17, B18, I4).

An address is parsed at once, also while the node is away, so that a bad one is refused at once. It joins the live
watch at a block boundary; then blocks up to that boundary are looked through, beside the follower. From then on
nothing can be missed, and only then is it called `watching`. The other rails of its family look back for it too, each
in its own time: who paid on the wrong one may have done so before the registration (HAZARDS E17).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from indexer.daemon.follower import Follower
from indexer.daemon.watchlist import FewWatches
from indexer.rail import (
    Address,
    BadAddress,
    BlockGone,
    BlockRef,
    NotKept,
    RailAdapter,
    RefusesPayments,
    Span,
    Transfer,
    Watches,
)
from indexer.store.errors import LeaseLost
from indexer.store.watches import Registered, Rescan, WatchStore

FEW = 100
"""Watched addresses up to which a rescan names them to the node."""

BATCH = 500
"""Destinations taken in at a time, and looked back for together."""

REMEMBERED = timedelta(minutes=2)
"""For how long an address of another rail is known to be done; longer than the store's overlap of a minute."""

TRIES = 5
"""How often a look-back starts over because the chain moved under it, before it waits for its next turn."""


@dataclass(slots=True)
class Registrar:
    """Registrations, look-backs and rescans of one rail."""

    store: WatchStore
    node: RailAdapter
    follower: Follower
    _parsed: dict[UUID, Registered] = field(default_factory=dict)
    _neighbours: dict[bytes, datetime] = field(default_factory=dict)
    """Addresses of other rails that were lately looked back for here, with the moment of their being taken in."""
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.follower.recorder.rail)

    async def parse_new(self) -> bool:
        """Parse what was registered; True if something now waits for its look-back. Needs no node."""
        waiting = await self.store.registered(self.follower.recorder.rail, BATCH)
        known = {each.id: each for each in waiting if each.key is not None}
        await self._take_in([each for each in waiting if each.key is None])
        self._parsed.update(known)
        return bool(self._parsed)

    async def _take_in(self, fresh: Sequence[Registered]) -> None:
        good: dict[tuple[bytes, str | None], Registered] = {}
        refused: list[tuple[UUID, str]] = []
        for each in fresh:
            try:
                address = self.node.parse_address(each.address)
            except BadAddress as bad:
                refused.append((each.id, str(bad)))
                self._log.warning("watch.rejected", destination=str(each.id), why=str(bad))
            else:
                # Of two with one key the second waits for the next turn, and then sees that the first has it.
                good.setdefault((address.key, each.reference), replace(each, key=address.key, address=address.text))
        if refused:
            await self.store.reject(refused)
        if good:
            taken = await self.store.take_in([(each.id, key, each.address) for (key, _), each in good.items()])
            self._parsed.update({each.id: each for each in good.values() if each.id in taken})

    async def look_back(self) -> None:
        """Join what was parsed, look back for it, and call it watched. Raises what the node and the store raise.

        What could never be paid as asked for is refused first, for that only the node may know.
        """
        batch, self._parsed = self._parsed, {}
        try:
            batch = await self._payable(batch)
            if batch:
                keys = {each.id: each.key for each in batch.values() if each.key is not None}
                await self._join(keys.values())
                await self._look_back(frozenset(keys.values()), list(keys))
        except BaseException:
            # Not done is not lost: the rows still say `registered`, and the next turn begins with them again.
            self._parsed = {**batch, **self._parsed}
            raise

    async def _payable(self, batch: dict[UUID, Registered]) -> dict[UUID, Registered]:
        """Those of the batch that the rail does not refuse; the others are rejected, with its reason."""
        if not isinstance(self.node, RefusesPayments):
            return batch
        refused: dict[UUID, str] = {}
        for each in batch.values():
            assert each.key is not None
            why = await self.node.refusal(Address(each.key, each.address), each.asset, each.amount, each.reference)
            if why is not None:
                refused[each.id] = why
                self._log.warning("watch.rejected", destination=str(each.id), why=why)
        if refused:
            await self.store.reject(list(refused.items()))
        return {known: each for known, each in batch.items() if known not in refused}

    async def _join(self, keys: Iterable[bytes]) -> None:
        """Wait until the follower is between two blocks, and has them."""
        joined = asyncio.Event()
        self.follower.joining.append((list(keys), joined))
        self.follower.wake.set()
        await joined.wait()

    async def look_back_for_neighbours(self) -> None:
        """Look back here for addresses that other rails of the family took in. Raises as `look_back` does.

        How far that has come is kept with the rail, so that a restart, or a node that was away, forgets none.
        """
        rail = self.follower.recorder.rail
        while batch := await self.store.neighbours(rail, list(self._neighbours), BATCH):
            await self._join(batch)
            await self._look_back(frozenset(batch))
            newest = max(batch.values())
            known = {**self._neighbours, **batch}
            self._neighbours = {key: at for key, at in known.items() if at > newest - REMEMBERED}
            await self.store.looked_back_for(rail, newest)

    async def _look_back(self, keys: frozenset[bytes], watching: Sequence[UUID] = ()) -> None:
        """Find what ``keys`` were paid in recent blocks; ``watching``: destinations that this makes watched."""
        follower = self.follower
        kept_from = 0
        for _ in range(TRIES):
            rewinds, boundary = follower.rewinds, follower.position()
            reach = min(
                boundary.cursor.height - follower.recorder.traits.lookback,
                boundary.finalized.height if boundary.finalized else boundary.cursor.height,
            )
            start = max(0, reach, kept_from)
            try:
                transfers, route = await self._search(start, boundary.cursor, keys)
                kept, found = await follower.recorder.record_aside(
                    rewinds, (), transfers, watching, covered_from=start + 1 if start else 0
                )
            except BlockGone:
                await asyncio.sleep(0.05)
                continue
            except NotKept as gone:
                # As far as any node keeps, and `covered_from` says how far that is (HAZARDS B16, S14).
                if gone.first is None or not start < gone.first <= boundary.cursor.height:
                    raise
                self._log.warning("watch.clamped", from_height=gone.first, reason=str(gone))
                kept_from = gone.first
                continue
            except LeaseLost:
                if follower.rewinds == rewinds:
                    raise
                continue
            follower.add_checkpoints(kept)
            self._log.info(
                "watch.joined" if watching else "watch.looked_back",
                addresses=len(keys),
                from_height=start,
                to_height=boundary.cursor.height,
                found=found,
                route=route,
            )
            return
        raise BlockGone(f"the chain moved {TRIES} times under one look-back")

    async def _search(self, start: int, upto: BlockRef, keys: frozenset[bytes]) -> tuple[list[Transfer], str]:
        """Transfers to ``keys`` in the blocks above ``start`` up to and with ``upto``, a span at a time; and the route:
        how the node was asked for the last of them."""
        recorder = self.follower.recorder
        watches = FewWatches(keys, self.follower.watches.assets)
        after, found, route = await self.node.block_at(start), list[Transfer](), ""
        while after.height < upto.height:
            target = after.height + (recorder.traits.lookback_span or recorder.traits.span_max)
            end = upto if target >= upto.height else await self.node.block_at(target)
            if end.height <= after.height:
                raise BlockGone(f"the chain has no block between {after.height} and {target}")
            scanned = await self.node.scan(Span(after, end, sparse=True), watches)
            found.extend(scanned.transfers)
            after, route = end, scanned.route
        return found, route

    async def rescan(self) -> None:
        """Do the next requested rescan, a span at a time, so that a restart goes on where it was."""
        request = await self.store.next_rescan(self.follower.recorder.rail)
        while request is not None and request.next_height <= self._end(request):
            try:
                request = await self._rescan_span(request)
            except NotKept as gone:
                # It fails alone: the rail needs none of these blocks to go on.
                await self.store.rescan_progress(request, found=0, error=str(gone), finished=True)
                self._log.warning("rescan.failed", rescan=request.id, height=request.next_height, reason=str(gone))
                return
        if request is not None:
            await self.store.rescan_progress(request, found=0, error=None, finished=True)
            self._log.info("rescan.done", rescan=request.id, upto=request.next_height - 1)

    def _end(self, request: Rescan) -> int:
        cursor = self.follower.position().cursor.height
        return cursor if request.to_height is None else min(cursor, request.to_height)

    async def _rescan_span(self, request: Rescan) -> Rescan:
        follower = self.follower
        rewinds = follower.rewinds
        last = min(self._end(request), request.next_height + follower.recorder.traits.span_max - 1)
        after = await self.node.block_at(max(0, request.next_height - 1))
        upto = (
            follower.position().cursor if last == follower.position().cursor.height else await self.node.block_at(last)
        )
        found, route = 0, ""
        if upto.height > after.height:
            scanned = await self.node.scan(Span(after, upto, sparse=True), await self._watched())
            kept, found = await follower.recorder.record_aside(rewinds, scanned.blocks, scanned.transfers)
            follower.add_checkpoints(kept)
            route = scanned.route
        done = Rescan(request.id, request.to_height, last + 1)
        await self.store.rescan_progress(done, found=found, error=None, finished=False)
        self._log.info("rescan.passed", rescan=done.id, upto=last, found=found, route=route)
        return done

    async def _watched(self) -> Watches:
        """All that the family watches; by name where it is little, so that a node's own index can search for it.

        Without what is claimed: a rival was seen when its block was followed, and an index knows addresses only.
        """
        watches = self.follower.watches
        if len(watches) > FEW:
            return watches
        keys: set[bytes] = set()
        async for some in self.store.keys():
            keys.update(some)
        return FewWatches(frozenset(keys), watches.assets)

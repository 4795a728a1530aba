"""Takes registered addresses into the watch, and looks back for payments that came first (HAZARDS B17, B18, I4).

An address is parsed at once, also while the node is away, so that a bad one is refused at once. It joins the live
watch at a block boundary; then blocks up to that boundary are looked through, beside the follower. From then on
nothing can be missed, and only then is it called `watching`. The other rails of its family look back for it too, each
in its own time: who paid on the wrong one may have done so before the registration (HAZARDS E17).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog

from indexer.daemon.follower import Follower
from indexer.daemon.isolation import OUTSIDE, Aside, by_halves
from indexer.daemon.watchlist import FewWatches
from indexer.rail import Address, BadAddress, BlockGone, NotKept, RailAdapter, RailFault, RefusesPayments
from indexer.reasons import describe, one_line
from indexer.store.errors import BranchChanged
from indexer.store.watches import Registered, WatchStore

BATCH = 500
"""Destinations taken in at a time, and looked back for together."""

TRIES = 5
"""How often a look-back starts over because the chain moved under it, before it waits for its next turn."""


@dataclass(slots=True)
class Registrar:
    """Registrations and look-backs of one rail."""

    store: WatchStore
    node: RailAdapter
    follower: Follower
    _parsed: dict[UUID, Registered] = field(default_factory=dict)
    aside: Aside[UUID] = field(default_factory=Aside)
    """Destinations that failed by their own fault."""
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.follower.recorder.rail)

    async def parse_new(self) -> bool:
        """Parse what was registered; True if something now waits for its look-back. Needs no node."""
        waiting = await self.store.registered(self.follower.recorder.rail, BATCH, self.aside.waiting)
        known = {each.id: each for each in waiting if each.key is not None}
        fresh = await self._readable([each for each in waiting if each.key is None])
        if fresh:
            await by_halves(fresh, self._take_in, self._set_aside)
        self._parsed.update(known)
        return bool(self._parsed)

    async def _readable(self, fresh: Sequence[Registered]) -> list[Registered]:
        """Those of ``fresh`` with an address of the rail, parsed; of two with one key only the first for now."""
        good: dict[tuple[bytes, str | None], Registered] = {}
        refused: list[tuple[UUID, str]] = []
        for each in fresh:
            try:
                address = self.node.parse_address(each.address)
            except BadAddress as bad:
                refused.append((each.id, one_line(str(bad))))
                self._log.warning("watch.rejected", destination=str(each.id), why=one_line(str(bad)))
            except Exception as defect:  # noqa: BLE001 - one address that breaks the parser stops no other
                await self._set_aside(each, defect)
            else:
                # The second then waits for the next turn, and sees that the first has the address.
                good.setdefault((address.key, each.reference), replace(each, key=address.key, address=address.text))
        if refused:
            await self.store.reject(refused)
        return list(good.values())

    async def _take_in(self, good: Sequence[Registered]) -> None:
        parsed = [(each.id, each.key, each.address) for each in good if each.key is not None]
        taken = await self.store.take_in(parsed)
        self._parsed.update({each.id: each for each in good if each.id in taken})

    async def look_back(self) -> None:
        """Join what was parsed, look back for it, and call it watched. Raises what the node and the store raise.

        What could never be paid as asked for is refused first, for that only the node may know. One that cannot be
        looked back for does not hold up the others.
        """
        batch, self._parsed = self._parsed, {}
        try:
            payable = await self._payable(list(batch.values()))
            if payable:
                await by_halves(payable, self._watch, self._set_aside)
        except BaseException:
            # Not done is not lost: the rows still say `registered`, and the next turn begins with them again.
            self._parsed = {**batch, **self._parsed}
            raise

    async def _watch(self, batch: Sequence[Registered]) -> None:
        """Join and look back. A block that cannot be read is the fault of none of them, and delays all."""
        keys = {each.id: each.key for each in batch if each.key is not None}
        await self._join(keys.values())
        try:
            await self._look_back(frozenset(keys.values()), list(keys))
        except RailFault as fault:
            for each in batch:
                await self._set_aside(each, fault)
            return
        self.aside.forget(keys)

    async def _payable(self, batch: Sequence[Registered]) -> list[Registered]:
        """Those of the batch that the rail does not refuse; the others are rejected, with its reason.

        One that has received money is watched all the same: what happens to that money has to be told.
        """
        if not isinstance(self.node, RefusesPayments):
            return list(batch)
        refused: dict[UUID, str] = {}
        failed: set[UUID] = set()
        for each in batch:
            assert each.key is not None
            address = Address(each.key, each.address)
            try:
                why = await self.node.refusal(address, each.asset, each.amount, each.reference)
            except OUTSIDE:
                raise
            except Exception as defect:  # noqa: BLE001 - one that cannot be asked about stops no other
                await self._set_aside(each, defect)
                failed.add(each.id)
                continue
            if why is not None:
                refused[each.id] = one_line(why)
                self._log.warning("watch.rejected", destination=str(each.id), why=one_line(why))
        gone = await self.store.reject(list(refused.items())) if refused else set()
        return [each for each in batch if each.id not in gone and each.id not in failed]

    async def _set_aside(self, one: Registered, defect: Exception) -> None:
        """Leave one destination alone for a while, and say why where its service looks."""
        reason = one_line(str(defect)) if isinstance(defect, RailFault) else describe(defect)
        pause = self.aside.put(one.id)
        self._log.error("watch.failed", destination=str(one.id), why=reason, retry_in=pause, exc_info=defect)
        await self.store.delay([(one.id, f"not watched yet: {reason}; tried again every {pause:.0f} s or more")])

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
        await self.store.begin_neighbours(rail)
        while True:
            batch, reached = await self.store.neighbours(rail, BATCH)
            if not batch:
                return
            await self._join(batch)
            await self._look_back(frozenset(batch))
            await self.store.looked_back_for(rail, reached)

    async def _look_back(self, keys: frozenset[bytes], watching: Sequence[UUID] = ()) -> None:
        """Find what ``keys`` were paid in recent blocks; ``watching``: destinations that this makes watched."""
        follower = self.follower
        kept_from = 0
        for _ in range(TRIES):
            rewinds, boundary = follower.rewinds, follower.position()
            reach = min(
                boundary.cursor.height - max(follower.recorder.traits.lookback, follower.node.traits.lookback),
                boundary.finalized.height if boundary.finalized else boundary.cursor.height,
            )
            start = max(0, reach, kept_from)
            try:
                watches = FewWatches(keys, follower.watches.assets)
                transfers, route = await follower.search(start, boundary.cursor, watches)
                kept, found = await follower.recorder.record_aside(
                    rewinds, (), transfers, watching, covered_from=start + 1 if start else 0
                )
            except (BlockGone, BranchChanged):
                await asyncio.sleep(0.05)
                continue
            except NotKept as gone:
                # As far as any node keeps, and `covered_from` says how far that is (HAZARDS B16, S14).
                if gone.first is None or not start < gone.first <= boundary.cursor.height:
                    raise
                self._log.warning("watch.clamped", from_height=gone.first, reason=str(gone))
                kept_from = gone.first
                continue
            follower.admit(transfers, kept)
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

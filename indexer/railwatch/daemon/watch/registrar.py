"""Adds registered addresses to the watch, and looks back for payments that came first (HAZARDS B17, B18, I4).

An address is parsed at once, also without a node, so that a bad one is refused at once. It joins the live
watch at a block boundary; then blocks up to that boundary are searched, concurrently with the follower. From then on
nothing can be missed, and only then is it called `watching`. The other rails of its family look back for it too, each
in its own time: who paid on the wrong one may have done so before the registration (HAZARDS E17).

A look-back that no node can serve now harms itself only: it says why, and is tried again. The rail, which reads its
newest blocks meanwhile, reports by itself whether it can be followed.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID

import structlog

from railwatch.daemon.follow.boundary import Boundary
from railwatch.daemon.follow.isolation import Aside, by_halves
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.daemon.watch.search import search
from railwatch.daemon.watch.watchlist import ExplicitWatches
from railwatch.rail import (
    Address,
    AssetId,
    BadAddress,
    BlockGone,
    BlockRef,
    NotKept,
    RailFault,
    RailUnavailable,
    Traits,
    Transfer,
    Watches,
)
from railwatch.reasons import describe, one_line
from railwatch.store.errors import BranchChanged
from railwatch.store.watches import Registered, WatchStore

BATCH_MAX = 500
"""Destinations that are registered at a time, and looked back for together."""

PARSED_MOST = 20_000
"""Destinations that are held for the next look-back. Those beyond it stay in the table until that has begun."""

LOOKBACK_ATTEMPTS = 5
"""How often a look-back starts over because the chain moved under it, before it waits for its next turn."""

LATER_FIRST, LATER_LONGEST = 1.0, 60.0
"""Seconds before a look-back that no node could serve is tried again: at first, and at most."""

CONSECUTIVE_FAILURES_MAX = 10
"""Look-backs in a row that may fail within one turn. A batch is halved until the address that no node can search for is
alone: `BATCH_MAX` needs so many. After more it is no single address, and the rest is not tried in this turn."""

SIBLING_RAILS = UUID(int=0)
"""The key in `Registrar.later` for the addresses that other rails registered."""

UNSERVED = (RailUnavailable, BlockGone, BranchChanged)
"""No node can answer now, or the chain moved again and again."""


class LiveWatch(Protocol):
    """What the registrar needs of the follower."""

    async def admit(self, keys: Collection[bytes]) -> None:
        """Add address keys to the live watch, and return at a block boundary from which on each block is searched."""

    def boundary(self) -> Boundary:
        """Return the current block boundary."""


@dataclass(slots=True)
class Registrar:
    """Registrations and look-backs of one rail."""

    store: WatchStore
    node: NodeSet
    live: LiveWatch
    rail: str
    traits: Traits
    assets: Mapping[str, AssetId]
    _parsed: dict[UUID, Registered] = field(default_factory=dict)
    """What the next look-back is for."""
    _looked_for: frozenset[UUID] = frozenset()
    """What the look-back that is under way is for: it waits in the table until that is done, and is not news."""
    aside: Aside[UUID] = field(default_factory=Aside)
    """Destinations that failed by their own fault."""
    later: Aside[UUID] = field(default_factory=lambda: Aside(first=LATER_FIRST, longest=LATER_LONGEST))
    """Destinations that no node could be asked about."""
    _in_a_row: int = 0
    """Look-backs that have failed since one succeeded, or the turn began."""
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.rail)

    async def parse_registrations(self) -> bool:
        """Parse what was registered; True if something now waits for its look-back. Needs no node."""
        if len(self._parsed) >= PARSED_MOST:
            return True
        without = self.aside.waiting | self.later.waiting | self._looked_for
        waiting = await self.store.registered(self.rail, BATCH_MAX, without)
        known = {each.id: each for each in waiting if each.key is not None and each.id not in self._looked_for}
        fresh = await self._readable([each for each in waiting if each.key is None])
        if fresh:
            await by_halves(fresh, self._accept, self._set_aside)
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
                self._log.warning("watch.rejected", destination=str(each.id), reason=one_line(str(bad)))
            except Exception as defect:  # noqa: BLE001 - one address that breaks the parser stops no other
                await self._set_aside(each, defect)
            else:
                # The second then waits for the next turn, and sees that the first has the address.
                good.setdefault((address.key, each.reference), replace(each, key=address.key, address=address.text))
        if refused:
            await self.store.reject(refused)
        return list(good.values())

    async def _accept(self, good: Sequence[Registered]) -> None:
        parsed = [(each.id, each.key, each.address) for each in good if each.key is not None]
        taken = await self.store.accept(parsed)
        self._parsed.update({each.id: each for each in good if each.id in taken})

    async def look_back(self) -> None:
        """Join what was parsed, look back for it, and call it watched. Raises what the store raises.

        What could never be paid as asked for is refused first, for that only the node may know. One that cannot be
        looked back for does not hold up the others, and none of them the rail.
        """
        batch, self._parsed, self._in_a_row = self._parsed, {}, 0
        self._looked_for = frozenset(batch)
        try:
            payable = await self._reject_unpayable(list(batch.values()))
            if payable:
                await by_halves(payable, self._watch, self._set_aside)
        except BaseException:
            # Not done is not lost: the rows still say `registered`, and the next turn begins with them again.
            self._parsed = {**batch, **self._parsed}
            raise
        finally:
            self._looked_for = frozenset()

    async def _watch(self, batch: Sequence[Registered]) -> None:
        """Join and look back; what no node can serve is halved, until what it fails for is found, and is put off.

        A block that cannot be read is the fault of none of them, and delays all.
        """
        keys = {each.id: each.key for each in batch if each.key is not None}
        await self.live.admit(keys.values())
        try:
            await self._look_back(frozenset(keys.values()), list(keys))
        except RailFault as fault:
            for each in batch:
                await self._set_aside(each, fault)
        except UNSERVED as why:
            self._in_a_row += 1
            if len(batch) == 1 or self._in_a_row > CONSECUTIVE_FAILURES_MAX or not self._is_followed:
                await self._put_off(batch, why)
                return
            middle = len(batch) // 2
            await self._watch(batch[:middle])
            await self._watch(batch[middle:])
        else:
            self._in_a_row = 0
            self.aside.forget(keys)
            self.later.forget(keys)

    @property
    def _is_followed(self) -> bool:
        """Whether the rail reads its newest blocks, so that what fails is about older ones."""
        return self.live.boundary().is_followed

    async def _put_off(self, batch: Sequence[Registered], why: Exception) -> None:
        """Look back for them later, and say why where their services read it."""
        reason = one_line(str(why))
        if not self._is_followed:
            # They wait for the rail, and are not to wait longer than it.
            self.later.forget([each.id for each in batch])
        pause = max(self.later.put(each.id) for each in batch)
        self._log.warning("watch.put_off", addresses=len(batch), reason=reason, retry_in=pause)
        await self.store.delay([(each.id, f"not watched yet: {reason}; tried again") for each in batch])

    async def _reject_unpayable(self, batch: Sequence[Registered]) -> list[Registered]:
        """Those of the batch that the rail does not refuse; the others are rejected, with its reason.

        One that has received money is watched all the same: the feed has to report what happens to that money.
        """
        refused: dict[UUID, str] = {}
        left: set[UUID] = set()
        for place, each in enumerate(batch):
            try:
                why = await self._refusal(each)
            except UNSERVED as unserved:
                self._in_a_row += 1
                goes_on = self._in_a_row <= CONSECUTIVE_FAILURES_MAX and self._is_followed
                rest = [each] if goes_on else batch[place:]
                await self._put_off(rest, unserved)
                left.update(one.id for one in rest)
                if not goes_on:
                    break
            except Exception as defect:  # noqa: BLE001 - one that cannot be asked about stops no other
                await self._set_aside(each, defect)
                left.add(each.id)
            else:
                refused |= {each.id: one_line(why)} if why is not None else {}
        for identity, reason in refused.items():
            self._log.warning("watch.rejected", destination=str(identity), reason=reason)
        gone = await self.store.reject(list(refused.items())) if refused else set()
        return [each for each in batch if each.id not in gone | left]

    async def _refusal(self, one: Registered) -> str | None:
        assert one.key is not None
        return await self.node.check_payment(Address(one.key, one.address), one.asset, one.amount, one.reference)

    async def _set_aside(self, one: Registered, defect: Exception) -> None:
        """Leave one destination alone for a while, and say why where its service reads it."""
        reason = one_line(str(defect)) if isinstance(defect, RailFault) else describe(defect)
        pause = self.aside.put(one.id)
        self._log.error("watch.failed", destination=str(one.id), reason=reason, retry_in=pause, exc_info=defect)
        await self.store.delay([(one.id, f"not watched yet: {reason}; tried again every {pause:.0f} s or more")])

    async def look_back_for_sibling_rails(self) -> None:
        """Look back here for addresses that other rails of the family registered. Raises what the store raises.

        How far that has come is kept with the rail, so that a restart, or an unreachable node, forgets none.
        """
        await self.store.begin_sibling_lookback(self.rail)
        while SIBLING_RAILS not in self.later.waiting:
            batch, reached = await self.store.sibling_keys(self.rail, BATCH_MAX)
            if not batch:
                return
            await self.live.admit(batch)
            try:
                await self._look_back(frozenset(batch))
            except (*UNSERVED, RailFault) as why:
                pause = self.later.put(SIBLING_RAILS)
                self._log.warning("watch.put_off", addresses=len(batch), reason=one_line(str(why)), retry_in=pause)
                return
            self.later.forget([SIBLING_RAILS])
            await self.store.looked_back_for(self.rail, reached)

    async def _look_back(self, keys: frozenset[bytes], watching: Sequence[UUID] = ()) -> None:
        """Find what ``keys`` were paid in recent blocks; ``watching``: destinations that this makes watched."""
        kept_from, moved = 0, ""
        for _ in range(LOOKBACK_ATTEMPTS):
            boundary = self.live.boundary()
            cursor, start = boundary.sync.head, max(self._start(boundary), kept_from)
            try:
                transfers, route = await self._searched(start, cursor, ExplicitWatches(keys, self.assets))
                found = await boundary.commit(transfers, (), watching, covered_from=start + 1 if start else 0)
            except (BlockGone, BranchChanged) as gone:
                moved = str(gone)
                await asyncio.sleep(0.05)
                continue
            except NotKept as pruned:
                # As far as any node keeps, and `covered_from` says how far that is (HAZARDS B16, S14).
                if pruned.first is None or not start < pruned.first <= cursor.height:
                    raise
                self._log.warning("watch.clamped", from_height=pruned.first, reason=str(pruned))
                kept_from = pruned.first
                continue
            self._log.info(
                "watch.joined" if watching else "watch.looked_back",
                addresses=len(keys),
                from_height=start,
                to_height=cursor.height,
                found=found,
                route=route,
            )
            return
        raise BlockGone(f"the chain moved {LOOKBACK_ATTEMPTS} times under one look-back: {moved}")

    def _start(self, boundary: Boundary) -> int:
        """Return the height below the first block to search. All that a reorg can undo is searched."""
        cursor, finalized = boundary.sync.head, boundary.sync.finalized
        reach = cursor.height - max(self.traits.lookback, self.node.traits.lookback)
        return max(0, min(reach, finalized.height if finalized else cursor.height))

    async def _searched(self, start: int, cursor: BlockRef, watches: Watches) -> tuple[list[Transfer], str]:
        return await self.node.on_one_node(lambda node: search(node, self.traits, start, cursor, watches))

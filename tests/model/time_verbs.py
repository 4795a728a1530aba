"""How time passes, and how a story waits until a daemon has come to a place."""

import asyncio
import functools
from datetime import timedelta

from tests.model.base import WorldBase, verb
from tests.model.setting import (
    IN_TROUBLE_WITHIN,
    LOOKS_AGAIN,
    NOTICED_WITHIN,
    SEEN_WITHIN,
)
from tests.model.side import STALL_AFTER


class TimeVerbs(WorldBase):
    """Verbs of time and of waiting."""

    @verb
    async def time_passes(self, *, seconds: int) -> None:
        """Nothing happens for a while.

        A daemon cannot know that the newest block has grown old before it looks again: until then it is not blind.
        """
        is_stalled, asked = await self._is_stalled(), self.asked
        await self.passes(seconds)
        if seconds < STALL_AFTER or not self.daemons:
            return
        began = self.clock.now()
        if is_stalled:  # For another reason, which may just be over: then a step is on its way that saw a young block.
            await self._waits(functools.partial(self._was_asked, asked + LOOKS_AGAIN), NOTICED_WITHIN)
        # Else a step on its way, which saw a young block, may still come after what is told beside it: a slow node.
        old = not (is_stalled or self.flapped or self._in_trouble())
        await self._waits(functools.partial(self._is_stalled, for_its_age=old), NOTICED_WITHIN)
        self.unnoticed.append((began - timedelta(seconds=1), self.clock.now() + timedelta(seconds=0.5)))

    async def _was_asked(self, often: int) -> bool:
        return self.asked >= often

    async def _is_stalled(self, *, for_its_age: bool = False) -> bool:
        """Whether each rail says that it is stalled (``for_its_age``: because its newest block is old)."""
        because = "the newest block is older%" if for_its_age else "%"
        stalled = "select bool_and(state = 'stalled' and coalesce(reason, '') like $1) from railwatch.rails"
        return bool(await self.database.value(stalled, because))

    @verb
    async def breathes(self, *, milliseconds: int) -> None:
        """The daemon gets some time of its own."""
        await asyncio.sleep(milliseconds / 1000)

    @verb
    async def is_followed(self, *, within: int = 150) -> None:
        """Wait until the daemon is at the tip, ``within`` milliseconds at most, and less where nodes are in trouble."""
        if self._in_trouble():
            within = 15
        await self._waits(self.is_at_tip, within / 1000)

    @verb
    async def is_seen(self, *, rail: int = 0) -> None:
        """Wait until the daemon has told of the newest transaction that waits, where anybody can see it."""
        chain = self.side(rail).chain
        if not chain.rules.mempool or not chain.waiting:
            return
        newest = list(chain.waiting)[-1]
        known = "select count(*) from railwatch.detections where tx_id = $1"
        within = IN_TROUBLE_WITHIN if self._in_trouble() else SEEN_WITHIN
        await self._waits(lambda: self.database.value(known, newest), within)

    @verb
    async def is_watched(self, *, within: int = 500) -> None:
        """Wait until the newest order's addresses are watched, and note which blocks that promises to have seen."""
        there = "select bool_and(watch_state = 'watching') from railwatch.destinations where invoice_id = $1"
        if (newest := self.order(0)) is None:
            return
        seconds = min(within / 1000, IN_TROUBLE_WITHIN) if self._in_trouble() else within / 1000
        await self._waits(lambda: self.database.value(there, newest.id), seconds)
        if await self.database.value(there, newest.id):
            for rail in newest.policies:
                self.acts.watched_at.setdefault((newest.id, rail), self.side_of(rail).chain.tip.height)

    @verb
    async def has_read(self) -> None:
        """Wait until the daemon has committed the chain's tip, whatever it thinks of it."""
        there = "select count(*) from railwatch.rails where cursor_hash = $1"
        await self._waits(lambda: self.database.value(there, self.chain.tip.hash), SEEN_WITHIN)

"""Wrong in company: it never wakes, mixes calls up, or does not know when it has ended."""

import asyncio

from railwatch.rail import RailUnavailable
from tests.conformance.mutants.base import Broken, caught_by


@caught_by("a_new_block_wakes_who_waits")
class NeverWakes(Broken):
    async def wait_for_change(self):
        await asyncio.Event().wait()


@caught_by("concurrent_calls_do_not_disturb_one_another")
class KeepsItsQuestionInItself(Broken):
    """One call's arguments are read after an await, when they may be another call's."""

    async def scan(self, span, watches):
        self.asked = span
        await asyncio.sleep(0)
        return await super().scan(self.asked, watches)


@caught_by("a_cancelled_call_leaves_the_adapter_usable")
class LeavesTheDoorLocked(Broken):
    """The lock is given back only by those who come to the end."""

    async def scan(self, span, watches):
        lock = self.__dict__.setdefault("lock", asyncio.Lock())
        await lock.acquire()
        scanned = await super().scan(span, watches)
        lock.release()
        return scanned


@caught_by("a_cancelled_wait_leaves_the_adapter_usable")
class TakesCancellationForTheEnd(Broken):
    async def wait_for_change(self):
        try:
            await super().wait_for_change()
        except asyncio.CancelledError:
            self._close()
            raise


@caught_by("leaving_twice_is_leaving_once", "leaving_what_was_never_entered_is_fine")
class LeavesOnlyOnce(Broken):
    async def __aexit__(self, *raised):
        if not self._open:
            raise RailUnavailable("nothing to leave")
        await super().__aexit__(*raised)


@caught_by("after_leaving_every_call_is_unavailable")
class AnswersAfterTheEnd(Broken):
    async def __aexit__(self, *raised):
        pass


@caught_by("leaving_releases_who_waits")
class LeavesWaitersBehind(Broken):
    def _close(self):
        self._open = False


@caught_by("two_adapters_of_one_node_do_not_share_their_end")
class TakesTheNodeAlong(Broken):
    async def __aexit__(self, *raised):
        await super().__aexit__(*raised)
        self._node.down = True

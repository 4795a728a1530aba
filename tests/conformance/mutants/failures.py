"""Wrong when something fails inside: it says so in Python's words, or takes a cancellation for a fault."""

import asyncio

from railwatch.rail import RailUnavailable
from tests.conformance.mutants.base import Broken, caught_by


@caught_by("only_the_three_errors_leave")
class EntersInPythonsWords(Broken):
    async def __aenter__(self):
        await asyncio.sleep(0)
        return await super().__aenter__()


@caught_by("only_the_three_errors_leave")
class LooksBackInPythonsWords(Broken):
    """Only if the watch list is short."""

    async def scan(self, span, watches):
        if span.sparse:
            await asyncio.sleep(0)
        return await super().scan(span, watches)


@caught_by("only_the_three_errors_leave")
class WaitsInPythonsWords(Broken):
    async def wait_for_change(self):
        await asyncio.sleep(0)
        await super().wait_for_change()


@caught_by("a_cancellation_leaves_as_one")
class TakesCancellationForAFault(Broken):
    async def heads(self):
        try:
            return await super().heads()
        except asyncio.CancelledError:
            raise RailUnavailable("cancelled") from None

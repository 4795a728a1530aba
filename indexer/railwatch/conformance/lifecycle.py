"""Lifecycle checks: wake-ups, concurrent calls, cancellation and shutdown."""

import asyncio
from itertools import pairwise

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness, facts
from railwatch.rail import RailUnavailable, Span

CONCURRENCY = 12
"""Concurrent calls: about as many as a daemon has out after a long sleep."""
CANCELLATIONS = 12
"""Points at which a scan is cut off; each lets it come one turn of the loop further."""


class LifecycleChecks(Conformance):
    """Waking, concurrency, cancellation, the end."""

    async def test_a_new_block_wakes_who_waits(self, story: ChainHarness) -> None:
        """A wake may be late or spurious; only never is too late. A node that pushes nothing has to say so."""
        waiting = asyncio.create_task(_wait(story))
        try:
            async with asyncio.timeout(self.patience):
                # A subscription may need time, so mine blocks until one is pushed.
                while not waiting.done():
                    await asyncio.wait([waiting], timeout=0.1)
                    await story.sim.mine()
        finally:
            waiting.cancel()
        if not await waiting:
            pytest.skip("this node pushes nothing; the daemon polls")

    async def test_concurrent_calls_do_not_disturb_one_another(self, story: ChainHarness) -> None:
        address = await story.address()
        for units in (1, 2, 3):
            await story.paid(address, units)
        watches, line = story.watch(address), await story.line()
        spans = [Span(after, upto) for after, upto in pairwise(line)]
        alone = [facts((await story.rail.scan(span, watches)).transfers) for span in spans]
        together = await asyncio.gather(*[story.rail.scan(span, watches) for _ in range(CONCURRENCY) for span in spans])
        assert [facts(scanned.transfers) for scanned in together] == alone * CONCURRENCY
        heads = await asyncio.gather(*[story.rail.heads() for _ in range(CONCURRENCY)])
        assert {head.latest for head in heads} == {line[-1]}
        refs = await asyncio.gather(*[story.rail.block_at(ref.height) for ref in line])
        assert refs == line

    async def test_a_cancelled_call_leaves_the_adapter_usable(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address)
        span, watches = Span(story.start, await story.head()), story.watch(address)
        whole = facts((await story.rail.scan(span, watches)).transfers)
        for turns in range(CANCELLATIONS):
            await _cut_off(story, span, turns)
            async with asyncio.timeout(self.patience):
                assert facts((await story.rail.scan(span, watches)).transfers) == whole
                assert (await story.rail.heads()).latest == span.upto

    async def test_a_cancelled_wait_leaves_the_adapter_usable(self, story: ChainHarness) -> None:
        waiting = asyncio.create_task(_wait(story))
        await asyncio.wait([waiting], timeout=0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await story.sim.mine()
        async with asyncio.timeout(self.patience):
            assert (await story.head()).height > story.start.height

    async def test_leaving_twice_is_leaving_once(self, story: ChainHarness) -> None:
        rail = story.sim.open_adapter()
        await rail.__aenter__()
        await rail.__aexit__(None, None, None)
        await rail.__aexit__(None, None, None)

    async def test_leaving_what_was_never_entered_is_fine(self, story: ChainHarness) -> None:
        await story.sim.open_adapter().__aexit__(None, None, None)

    async def test_after_leaving_every_call_is_unavailable(self, story: ChainHarness) -> None:
        await story.sim.mine()
        span, watches = Span(story.start, await story.head()), story.watch()
        async with story.sim.open_adapter() as rail:
            pass
        calls = [rail.heads, lambda: rail.block_at(0), lambda: rail.scan(span, watches), rail.wait_for_change]
        if rail.traits.has_pending:
            calls.append(lambda: rail.pending(watches))
        for call in calls:
            with pytest.raises(RailUnavailable):
                async with asyncio.timeout(self.patience):
                    await call()

    async def test_leaving_releases_who_waits(self, story: ChainHarness) -> None:
        async with story.sim.open_adapter() as rail:
            waiting = asyncio.create_task(rail.wait_for_change())
            await asyncio.wait([waiting], timeout=0.05)
        done, _ = await asyncio.wait([waiting], timeout=self.patience)
        waiting.cancel()
        assert done, "a caller of wait_for_change still waits after leaving"
        assert waiting.exception() is None or isinstance(waiting.exception(), RailUnavailable)

    async def test_two_adapters_of_one_node_do_not_share_their_end(self, story: ChainHarness) -> None:
        async with story.sim.open_adapter():
            pass
        assert await story.head() == story.start


async def _wait(story: ChainHarness) -> bool:
    """Return True after a wake, False if the node says that it never pushes."""
    try:
        await story.rail.wait_for_change()
    except RailUnavailable:
        return False
    return True


async def _cut_off(story: ChainHarness, span: Span, turns: int) -> None:
    """Begin a scan and cancel it after so many turns of the loop."""
    scan = asyncio.create_task(story.rail.scan(span, story.watch()))
    for _ in range(turns):
        await asyncio.sleep(0)
    scan.cancel()
    await asyncio.wait([scan])
    # Its outcome does not matter, but it has to be read, or the loop reports an error that was never retrieved.
    if not scan.cancelled():
        scan.exception()

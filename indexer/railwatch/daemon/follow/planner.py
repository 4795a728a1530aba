"""Plans one step of a rail: asks the node what the core wants to know, and scans the blocks that the core chooses.

Planning commits nothing, so the next step is planned while the last one is being committed.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import structlog

from railwatch.core.chain_sync import DeepReorg, Idle, Limits, NodeView, Probe, Rewind, Scan, Step, next_step
from railwatch.core.sync_state import SyncState
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.steadiness import NodeLagging, Streak, Tip
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import BlockGone, BlockRef, Heads, RailAdapter, Scanned, Span, Traits

PLAN_QUERIES_MAX = 200
"""Answers that one plan may use: enough to halve any chain many times over."""

HEADS_RETRIES_MAX = 2
"""How often one plan requests heads again after the node reported a higher one before."""

SPAN_INITIAL, SPAN_GROWTH = 64, 4
"""Heights of a span at first, and the factor by which fast answers extend it, up to the trait's limit."""

SCAN_FAST_SECONDS, SCAN_SLOW_SECONDS = 1.0, 5.0
"""Seconds of a scan. The next span may be longer after a faster scan, and is shorter after a slower one."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step that the core chose, with its blocks where it has any.

    ``asked``: when its heads were requested, by the monotonic clock in seconds.
    """

    step: Step
    heads: Heads
    asked: float
    scanned: Scanned | None = None

    @property
    def fork(self) -> BlockRef | None:
        """Return the block that the step rewinds to; None for any other step."""
        return self.step.fork if isinstance(self.step, Rewind) else None


@dataclass(slots=True)
class _Inquiry:
    """What one plan knows so far. ``asked``: when the heads of ``view`` were requested."""

    view: NodeView
    asked: float
    retries_left: int = HEADS_RETRIES_MAX


@dataclass(slots=True)
class StepPlanner:
    """The planner of one rail. ``traits``: the rail's, whichever node answers."""

    node: RailAdapter
    watches: IndexedWatches
    traits: Traits
    log: structlog.stdlib.BoundLogger
    tip: Tip = field(default_factory=Tip)
    _span_limit: int = SPAN_INITIAL
    _prefetched: asyncio.Task[PlannedStep] | None = None
    _deep: Streak = field(default_factory=Streak)
    """For how long each answer has led below the oldest checkpoint."""

    async def next(self, sync: SyncState) -> PlannedStep:
        """Return the prefetched step if it begins at the cursor, else plan one.

        Raises `DeepReorg`, `NodeLagging` and what the node raises.
        """
        ahead, self._prefetched = self._prefetched, None
        if ahead is not None:
            plan = await ahead
            if isinstance(plan.step, Scan) and plan.step.span.after == sync.cursor:
                return plan
        return await self.plan(sync.head, sync.reorg_points)

    def prefetch(self, sync: SyncState, upto: BlockRef) -> None:
        """Plan the step that begins at ``upto`` in the background."""
        # For the step after the next one the cursor is a checkpoint too. Without it a reorg would seem too deep.
        self._prefetched = asyncio.create_task(self.plan(upto, (*sync.reorg_points, sync.head)))

    async def cancel_prefetch(self) -> None:
        """Discard the prefetched step."""
        if self._prefetched is None:
            return
        ahead, self._prefetched = self._prefetched, None
        ahead.cancel()
        # Not `await ahead`: the caller could not distinguish that cancellation from its own, which must go on.
        await asyncio.wait({ahead})
        if not ahead.cancelled():
            ahead.exception()  # Retrieved and discarded: the next plan meets whatever is still wrong.

    def note_progress(self) -> None:
        """Forget deep reorgs that the node reported before the last step."""
        self._deep.end()

    async def plan(self, cursor: BlockRef, checkpoints: Sequence[BlockRef]) -> PlannedStep:
        """Plan the step from ``cursor``. Raises as `next` does."""
        began = time.monotonic()
        inquiry = await self._inquire()
        for _ in range(PLAN_QUERIES_MAX):
            step = self._next_step(cursor, checkpoints, inquiry.view)
            try:
                plan = await self._pursue(step, inquiry, (*checkpoints, cursor))
            except BlockGone as gone:
                self._note_gone(step, gone, began)
                inquiry = await self._inquire(verify_cursor=True, retries_left=inquiry.retries_left)
                continue
            if plan is not None:
                return plan
        raise NodeLagging(f"the chain at {cursor.height} would not hold still for {PLAN_QUERIES_MAX} answers")

    async def _inquire(self, *, verify_cursor: bool = False, retries_left: int = HEADS_RETRIES_MAX) -> _Inquiry:
        asked = time.monotonic()
        return _Inquiry(NodeView(await self._heads(), verify_cursor=verify_cursor), asked, retries_left)

    async def _pursue(self, step: Step, inquiry: _Inquiry, known: Sequence[BlockRef]) -> PlannedStep | None:
        """Return the plan, or None once ``inquiry`` holds one more answer and the core has to decide again."""
        view = inquiry.view
        if isinstance(step, Idle) and inquiry.retries_left and self.tip.is_above(view.heads.latest):
            # Another node may have answered. Where two nodes alternate, each plan would meet the lower one.
            inquiry.retries_left -= 1
            inquiry.view = replace(view, heads=await self._heads())
            return None
        if isinstance(step, Probe):
            suspect = {point.hash for point in known} if view.verify_cursor else set[str]()
            inquiry.view = replace(view, probed={**view.probed, step.height: await self._probe(step.height, suspect)})
            return None
        scanned = None
        if not isinstance(step, Idle):
            scanned = await self._scan(step.span if isinstance(step, Scan) else step.branch)
        return PlannedStep(step, view.heads, inquiry.asked, scanned)

    def _note_gone(self, step: Step, gone: BlockGone, began: float) -> None:
        self.log.info("chain.replanned", step=type(step).__name__.lower(), reason=str(gone))
        if time.monotonic() - began > steadiness.LAG_MAX_SECONDS:
            raise NodeLagging(
                f"for {steadiness.LAG_MAX_SECONDS:.0f} s the node withdrew blocks that it had reported: {gone}"
            ) from gone
        # Where several nodes answer behind one address, they agree on few blocks sooner than on many.
        self._span_limit = 1

    async def _probe(self, height: int, suspect: Collection[str]) -> BlockRef:
        """Return the node's block at ``height``; request it once more if its hash is ``suspect``.

        Behind one address, one node may be on a branch that another one has left. Where they alternate, each plan would
        send this request to the node that lags, and the rail would never find the fork.
        """
        block = await self.node.block_at(height)
        return block if block.hash not in suspect else await self.node.block_at(height)

    async def _heads(self) -> Heads:
        heads = await self.node.heads()
        self.tip.note(heads.latest)
        return self.tip.claimed(heads)

    def _next_step(self, cursor: BlockRef, checkpoints: Sequence[BlockRef], view: NodeView) -> Step:
        """Ask the core. A `DeepReorg` halts the rail only after `DEEP_SECONDS` in which every answer led to one.

        One node of several behind an address may be on a branch of its own. That is its fault, and not the rail's.
        """
        try:
            return next_step(cursor, checkpoints, view, self._limits)
        except DeepReorg as deep:
            if self._deep.seconds() >= steadiness.DEEP_SECONDS:
                raise
            raise NodeLagging(f"{deep}; asked again before the rail is halted") from deep

    async def _scan(self, span: Span) -> Scanned:
        started = time.monotonic()
        scanned = await self.node.scan(span, self.watches)
        self._adapt_span(len(span), time.monotonic() - started)
        if not is_linked(span, scanned.blocks):
            raise BlockGone(f"blocks {span.after.height} to {span.upto.height} do not follow one another")
        return scanned

    def _adapt_span(self, heights: int, seconds: float) -> None:
        if seconds > SCAN_SLOW_SECONDS:
            self._span_limit = max(1, heights // 2)
        elif seconds < SCAN_FAST_SECONDS and heights >= self._span_limit:
            self._span_limit = min(self.traits.span_max, self._span_limit * SPAN_GROWTH)

    @property
    def _limits(self) -> Limits:
        span_max = self.traits.span_max
        return Limits(min(self._span_limit, span_max), self.traits.horizon, span_max)


def is_linked(span: Span, blocks: Sequence[BlockRef]) -> bool:
    """Return True if ``blocks`` lead from ``span.after`` to ``span.upto`` by their parents' hashes, without a gap."""
    parent = span.after.hash
    for block in blocks:
        if block.parent != parent:
            return False
        parent = block.hash
    return bool(blocks) and parent == span.upto.hash

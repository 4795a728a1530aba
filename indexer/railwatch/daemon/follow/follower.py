"""Follows one rail: asks its node, lets the core decide, and commits one step at a time.

Pushes only wake it; a poll stands beside them. It holds no transaction while it asks, and nothing that it keeps in
memory is needed after a crash: cursor and checkpoints are read back from the last committed step.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from railwatch.core.chain_sync import (
    DeepReorg,
    Idle,
    Limits,
    NodeView,
    Probe,
    Rewind,
    Scan,
    Step,
    final_height,
    next_step,
)
from railwatch.core.policy import Progress
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.committer import BlockBatch, Committer
from railwatch.daemon.follow.health import CaughtUp, Reach, Rhythm, followed_pace, fresh_within, trouble
from railwatch.daemon.follow.mempool_poller import MempoolPoller
from railwatch.daemon.follow.second_look import SecondLook
from railwatch.daemon.follow.steadiness import Branches, NodeLagging, Tip
from railwatch.daemon.server_clock import ServerClock
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import (
    BlockGone,
    BlockRef,
    Heads,
    RailAdapter,
    RailFault,
    Scanned,
    Span,
    Transfer,
)
from railwatch.store.rails import ResumePoint
from railwatch.store.steps import Acceptance, Position

PLAN_QUERIES_MAX = 200
"""Answers that one plan may take: enough to halve any chain many times over."""

HEADS_MAX_AGE_SECONDS = 2
"""How often one plan asks for heads again where the node told of a higher one before."""

SPAN_INITIAL, SPAN_GROWTH = 64, 4
"""Heights of a span, at first, and the factor by which quick answers stretch it, up to the trait's limit."""

SCAN_FAST_SECONDS, SCAN_SLOW_SECONDS = 1.0, 5.0
"""Seconds of a scan: a quicker one may reach farther, a slower one may not, so that every step ends before long."""

EXPIRY_CHECK_SECONDS = 0.5
"""Seconds between two looks at windows that may have closed."""

HELD_POLL_SECONDS = 0.2
"""Seconds between two looks while one node is ahead of the others, for up to `steadiness.LAG_MAX_SECONDS`: most often
it is a block that reaches them within moments."""

OUTAGE_SECONDS = 60.0
"""Seconds without progress after which the stored inclusions are compared with the chain again."""

HEARTBEAT_INTERVAL = 5.0
"""Seconds of rest after which a long one shows that it is one."""


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How a rail is followed, in seconds.

    ``poll_interval`` None: as the node's traits have it. ``stall_after``: the age of a head that no healthy chain lets
    happen; None: as the chain's own rhythm shows, 0: never. ``finality_stall_after``: how much older than the head a
    finalized block never is; None: not looked at.
    """

    poll_interval: float | None = None
    stall_after: float | None = None
    start_height: int | None = None
    finality_stall_after: float | None = None


@dataclass(slots=True)
class PlannedStep:
    """A step that was decided and, where it takes blocks, scanned. ``asked`` is when its heads were asked for."""

    step: Step
    heads: Heads
    asked: float
    scanned: Scanned | None = None


@dataclass(slots=True)
class ChainFollower:
    """The loop of one rail, under one lease."""

    node: RailAdapter
    committer: Committer
    watches: IndexedWatches
    resume_point: ResumePoint
    options: FollowOptions
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    pending_watch_keys: list[tuple[list[bytes], asyncio.Event]] = field(default_factory=list)
    cursor: BlockRef | None = None
    finalized: BlockRef | None = None
    checkpoints: list[BlockRef] = field(default_factory=list)
    rewinds: int = 0
    state: str = "starting"
    reason: str | None = None
    tip_height: int = 0
    progressed_at: float = field(default_factory=time.monotonic)
    asking_since: float | None = None
    """Since when the node has been asked for one step; None while it is not asked."""
    told_beside: int = 0
    """How often somebody else has written the rail's state, so that the row may not say what the last step told."""
    _known_beside: int = 0
    """The same, when the last step began that told of it anew."""
    _prefetch: asyncio.Task[PlannedStep] | None = None
    _span_limit: int = SPAN_INITIAL
    _lagging_since: float | None = None
    _expiry_checked_at: float = 0.0
    _caught_up_at: float | None = None
    """The moment, by the monotonic clock, up to which all that the nodes told has been taken in; None: not known."""
    second_look: SecondLook | None = None
    verify: Callable[[BlockRef | None], Awaitable[bool]] | None = None
    """Compares stored inclusions with the chain, up to the fork that is about to be rewound to, or to the cursor.
    False: the cursor must be on the chain first. None: nothing is compared."""
    _server_clock: ServerClock = field(default_factory=ServerClock)
    _reached: Reach = field(default_factory=Reach)
    _node_caught_up: CaughtUp = field(default_factory=CaughtUp)
    _rhythm: Rhythm = field(default_factory=Rhythm)
    _branches: Branches = field(default_factory=Branches)
    _tip: Tip = field(default_factory=Tip)
    _deep_since: float | None = None
    """Since when each answer has led below the oldest checkpoint."""
    _fault_since: float | None = None
    """Since when no node can tell the next block in a form that can be read."""
    mempool: MempoolPoller = field(init=False)
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self.mempool = MempoolPoller(self.node, self.committer, self.watches)
        self.log = structlog.get_logger().bind(rail=self.committer.rail)
        self.reload(self.resume_point)

    async def run_once(self) -> bool:
        """One plan and what follows from it; True if there is more to do at once.

        Raises what the node and the store raise, and `DeepReorg`. Whatever it raises, nothing half is committed.
        """
        try:
            return await self._run_once()
        except RailFault as fault:
            raise self._patient(fault) from fault

    async def _run_once(self) -> bool:
        if self.cursor is None:
            await self._load_or_start()
        await self._admit_watch_keys()
        if time.monotonic() - self.progressed_at > OUTAGE_SECONDS:
            self.invalidate()
        self.asking_since = time.monotonic()
        try:
            plan = await self._next_plan()
            if self.verify is not None and not self.committer.verification.done:
                fork = plan.step.fork if isinstance(plan.step, Rewind) else None
                self.committer.verification.done = await self.verify(fork)
        finally:
            self.asking_since = None
        more = await self._perform(plan)
        self.progressed_at, self._deep_since, self._fault_since = time.monotonic(), None, None
        if (
            not more
            and self.node.traits.has_pending
            and not await self.mempool.poll(self._require_cursor, self.rewinds)
        ):
            # Blocks are followed meanwhile, but no window ends: what pays in time may be waiting, unread.
            self._caught_up_at = None
        await self._expire_invoices()
        return more

    def reload(self, resume_point: ResumePoint) -> None:
        """Believe the database again, after a commit whose answer was lost (HAZARDS P1)."""
        self.cursor, self.finalized = resume_point.cursor, resume_point.finalized
        self.checkpoints, self.rewinds = list(resume_point.checkpoints), resume_point.rewinds
        if self.cursor is not None:
            self._prune()
        self.mempool.forget()
        self.invalidate()

    def invalidate(self) -> None:
        """Promote nothing until the stored inclusions have been compared with the chain."""
        self.committer.verification.done = self.verify is None

    def stall(self, reason: str) -> None:
        """The node cannot be followed now. What is told next, and what time may be covered, begins anew."""
        self.state, self.reason, self._caught_up_at = "stalled", reason, None
        self._lagging_since = None
        self._reached.forget()
        self._node_caught_up.forget()

    def _patient(self, fault: RailFault) -> RailFault | NodeLagging:
        """What to raise for ``fault``: itself, once it has been told for `FAULT_SECONDS` with no step in between.

        Until then the rail is stalled by name, and its nodes are entered and asked anew. No block is passed meanwhile.
        """
        now = time.monotonic()
        self._fault_since = self._fault_since or now
        if now - self._fault_since >= steadiness.FAULT_SECONDS:
            return fault
        return NodeLagging(
            f"{fault}; it is asked for again, and after {steadiness.FAULT_SECONDS:.0f} s the rail is halted. Add "
            "another node to the rail's `nodes`, or upgrade this one"
        )

    async def wait_for_work(self, alive: Callable[[], None] = lambda: None) -> None:
        """Sleep until a push, a registration or the poll's turn. ``alive`` is called now and then meanwhile."""
        held = self._reached.waits and self._reached.held_for < steadiness.LAG_MAX_SECONDS
        interval = self.options.poll_interval or self.node.traits.poll_interval
        ends = time.monotonic() + (min(interval, HELD_POLL_SECONDS) if held else interval)
        while not self.wake.is_set() and (left := ends - time.monotonic()) > 0:
            # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, HEARTBEAT_INTERVAL)):
                    await self.wake.wait()
            alive()
        self.wake.clear()

    async def cancel_prefetch(self) -> None:
        """Forget the span that is being fetched ahead."""
        if self._prefetch is not None:
            ahead, self._prefetch = self._prefetch, None
            ahead.cancel()
            # Not `await ahead`: its cancellation could not be told from our own, which must go on.
            await asyncio.wait({ahead})
            if not ahead.cancelled():
                ahead.exception()  # Looked at and dropped: what is still wrong is met again by the next plan.

    async def accept_chain(self, acceptance: Acceptance) -> None:
        """Follow another chain, as a person has decided. Raises `DeepReorg` if the node does not hold the fork."""
        heads = await self.node.heads()
        fork = await self.node.block_at(acceptance.fork_height)
        if fork.hash != acceptance.fork_hash:
            raise DeepReorg(BlockRef(acceptance.fork_height, acceptance.fork_hash, "", fork.time), heads.latest)
        left, self.finalized = self._require_cursor, None
        position = self._position(fork, heads, reached=False)
        await self.committer.accept_chain(left, position, acceptance)
        self._advance_memory(BlockBatch(left, Span(fork, fork), (), (), fork), position, [fork])
        self.log.critical("chain.accepted", height=fork.height, hash=fork.hash, left_height=left.height)

    async def _load_or_start(self) -> None:
        """A rail without a past starts at finality, and takes the unfinalized window as its first blocks."""
        heads = await self.node.heads()
        first = await self._first(heads)
        position = self._position(first, heads, reached=False)
        batch = BlockBatch(None, Span(first, first, finalized=True), (first,), ())
        self._advance_memory(batch, position, await self.committer.commit_blocks(batch, position, None))
        self.log.info("rail.started", height=first.height, hash=first.hash)

    async def _first(self, heads: Heads) -> BlockRef:
        """The block below the first one to follow: the cursor that a rail without a past begins with."""
        settled = final_height(heads, self.committer.traits.horizon)
        start = max(0, settled if self.options.start_height is None else self.options.start_height - 1)
        return await self.node.block_at(min(start, heads.latest.height))

    async def preview(self) -> tuple[str, str | None]:
        """Plan the next step as `run_once` does, and commit nothing. Returns the state and the reason that it would
        tell.

        Raises what `run_once` raises of the node's: above all `DeepReorg`, `RailFault` and `RailUnavailable`.
        """
        cursor = self.cursor or await self._first(await self.node.heads())
        plan = await self._plan(cursor, self._reorg_checkpoints() if self.cursor else ())
        if isinstance(plan.step, Idle) and plan.step.lagging:
            raise self._behind(plan.heads)
        return self._health(plan.heads, caught_up=True)

    async def _admit_watch_keys(self) -> None:
        """Take new addresses into the watch: between blocks, and with nothing in flight that has not seen them."""
        if self.pending_watch_keys:
            await self.cancel_prefetch()
            joining, self.pending_watch_keys = self.pending_watch_keys, []
            for keys, joined in joining:
                for key in keys:
                    self.watches.index.add(key)
                joined.set()

    async def _next_plan(self) -> PlannedStep:
        ahead, self._prefetch = self._prefetch, None
        if ahead is not None:
            plan = await ahead
            if isinstance(plan.step, Scan) and plan.step.span.after == self.cursor:
                return plan
        return await self._plan(self._require_cursor, self._reorg_checkpoints())

    async def _plan(self, cursor: BlockRef, checkpoints: Sequence[BlockRef]) -> PlannedStep:
        """Decide and fetch; asks the node as often as the core wants to know more, within bounds."""
        began = asked = time.monotonic()
        heads = await self._heads()
        view, again = NodeView(heads), HEADS_MAX_AGE_SECONDS
        for _ in range(PLAN_QUERIES_MAX):
            step = self._next_step(cursor, checkpoints, view)
            try:
                if isinstance(step, Idle):
                    if again and self._tip.is_above(heads.latest):
                        # Another node may have answered. Where two take turns, it would do so in each plan.
                        again, heads = again - 1, await self._heads()
                        view = replace(view, heads=heads)
                        continue
                    return PlannedStep(step, heads, asked)
                if isinstance(step, Probe):
                    known = {point.hash for point in (*checkpoints, cursor)} if view.verify_cursor else set()
                    view = replace(view, probed={**view.probed, step.height: await self._probe(step.height, known)})
                    continue
                span = step.span if isinstance(step, Scan) else step.branch
                return PlannedStep(step, heads, asked, await self._scan(span))
            except BlockGone as gone:
                self.log.info("chain.replanned", step=type(step).__name__.lower(), reason=str(gone))
                if time.monotonic() - began > steadiness.LAG_MAX_SECONDS:
                    raise NodeLagging(
                        f"for {steadiness.LAG_MAX_SECONDS:.0f} s the node took back what it had told: {gone}"
                    ) from gone
                # Where several nodes answer behind one address, few blocks are found together sooner than many.
                self._span_limit = 1
                asked, heads = time.monotonic(), await self._heads()
                view = NodeView(heads, verify_cursor=True)
        raise NodeLagging(f"the chain at {cursor.height} would not hold still for {PLAN_QUERIES_MAX} answers")

    async def _probe(self, height: int, known: Collection[str]) -> BlockRef:
        """Ask for the block at ``height``; once more if it is one of ``known``, of which the node has said otherwise.

        Behind one address, one node may stand on a branch that another one has left. Where they take turns, each plan
        would put this question to the one that stands still, and the rail would never find where the other one left.
        """
        told = await self.node.block_at(height)
        return told if told.hash not in known else await self.node.block_at(height)

    async def _heads(self) -> Heads:
        heads = await self.node.heads()
        self._tip.told(heads.latest)
        return self._tip.claimed(heads)

    def _next_step(self, cursor: BlockRef, checkpoints: Sequence[BlockRef], view: NodeView) -> Step:
        """Ask the core; a `DeepReorg` halts the rail only when it is told again and again, with nothing in between.

        One node of several behind an address may be on a branch of its own: that is its fault, and not the rail's.
        """
        try:
            return next_step(cursor, checkpoints, view, self._limits)
        except DeepReorg as deep:
            now = time.monotonic()
            self._deep_since = self._deep_since or now
            if now - self._deep_since >= steadiness.DEEP_SECONDS:
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
            self._span_limit = min(self.committer.traits.span_max, self._span_limit * SPAN_GROWTH)

    async def _perform(self, plan: PlannedStep) -> bool:
        self.tip_height = plan.heads.latest.height
        if isinstance(plan.step, Idle):
            await self._idle(plan, plan.step)
            return False
        assert not isinstance(plan.step, Probe)
        assert plan.scanned is not None
        fork = plan.step.fork if isinstance(plan.step, Rewind) else None
        span = plan.step.branch if isinstance(plan.step, Rewind) else plan.step.span
        if fork is not None:
            self._branches.check(self._require_cursor, plan.scanned.blocks)
        # A chain goes on while a slow node answers: heads of long ago say nothing of the tip.
        reached = span.upto == plan.heads.latest and time.monotonic() - plan.asked <= steadiness.LAG_MAX_SECONDS
        if not reached and fork is None and not self.pending_watch_keys:
            # Seen from the span's end, the cursor is a checkpoint too: without it a reorg would look too deep.
            self._prefetch = asyncio.create_task(
                self._plan(span.upto, [*self._reorg_checkpoints(), self._require_cursor])
            )
        await self._commit(
            BlockBatch(self.cursor, span, plan.scanned.blocks, plan.scanned.transfers, fork), plan, reached
        )
        return not reached

    async def _commit(self, batch: BlockBatch, plan: PlannedStep, reached: bool) -> None:
        """Commit, and only then believe it: memory follows the database, never the other way round."""
        seen = self._seen(plan, batch.span.upto) if reached else None
        position = self._position(batch.span.upto, plan.heads, reached=reached, seen=seen)
        if batch.fork is None:
            await self._run_second_looks(position)
        kept = await self.committer.commit_blocks(batch, position, self._anchor_height())
        self._advance_memory(batch, position, kept)
        self._caught_up_at = seen if position.state == "live" else None
        self._lagging_since = None
        self.mempool.forget()
        line = self.log.info if batch.transfers or batch.fork else self.log.debug
        line(
            "step.reorg" if batch.fork else "step.committed",
            height=position.cursor.height,
            hash=position.cursor.hash,
            blocks=len(batch.blocks),
            transfers=len(batch.transfers),
            tx=[transfer.tx_id for transfer in batch.transfers[:5]],
            fork=batch.fork.height if batch.fork else None,
        )

    def _advance_memory(self, batch: BlockBatch, position: Position, kept: Sequence[BlockRef]) -> None:
        if batch.fork is not None:
            fork = batch.fork.height
            self._branches.leave([each for each in (*self.checkpoints, self._require_cursor) if each.height > fork])
            self._tip.forget()
            self.rewinds += 1
            self.checkpoints = [point for point in self.checkpoints if point.height <= batch.fork.height]
        self.cursor, self.finalized = position.cursor, position.finalized
        self.state, self.reason = position.state, position.reason
        self.checkpoints = [*self.checkpoints, *kept]
        self.watches.spends.add_transfers(batch.transfers)
        self._prune()

    def admit(self, transfers: Sequence[Transfer], points: Sequence[BlockRef], *, above: int | None = None) -> None:
        """Take in what a look-back or a rescan has committed, at the cursor or below, as a scan of ours would have.

        ``points`` became checkpoints; those from height ``above`` on, inclusive, replace all that were known there.
        What the transfers consume is claimed, so that a rival of theirs is recognised.
        """
        left = [point for point in self.checkpoints if above is None or point.height < above]
        known = {point.height: point for point in (*left, *points)}
        self.checkpoints = [known[height] for height in sorted(known) if height <= self._require_cursor.height]
        self.watches.spends.add_transfers(transfers)
        # A snapshot of the mempool that was recorded before may concern whom this look-back was for.
        self.mempool.forget()

    def anchor(self) -> BlockRef:
        """Return the highest block that no reorg may pass: what is final, else the oldest checkpoint."""
        return next(iter(self._reorg_checkpoints()), self._require_cursor)

    async def _idle(self, plan: PlannedStep, idle: Idle) -> None:
        """Nothing new. Finality may have moved, the head may be too old, the node may be behind."""
        now = time.monotonic()
        if idle.lagging:
            self._lagging_since = self._lagging_since or now
            self._caught_up_at = None
            if now - self._lagging_since > steadiness.LAG_MAX_SECONDS:
                raise self._behind(plan.heads)
            return
        self._lagging_since = None
        if missing := self._tip.missing(self._require_cursor.height):
            raise NodeLagging(_reversal_reason(missing))
        seen = self._seen(plan, self._require_cursor)
        position = self._position(self._require_cursor, plan.heads, reached=True, seen=seen)
        await self._run_second_looks(position)
        moved, beside = position.finalized != self.finalized, self.told_beside
        if moved or beside != self._known_beside or (position.state, position.reason) != (self.state, self.reason):
            batch = BlockBatch(self.cursor, Span(self._require_cursor, self._require_cursor), (), ())
            self._advance_memory(batch, position, await self.committer.commit_blocks(batch, position, None))
            self._known_beside = beside
        self._caught_up_at = seen if position.state == "live" else None

    def _behind(self, heads: Heads) -> NodeLagging:
        behind = self._require_cursor.height - heads.latest.height
        return NodeLagging(f"the node is {behind} blocks behind what it, or another node, had told before")

    async def _run_second_looks(self, position: Position) -> None:
        """Read once more what this position makes final, so that the step which reaches it can tell so."""
        if self.second_look is not None and not position.is_blind and self.committer.verification.done:
            finalized = position.finalized.height if position.finalized else -1
            await self.second_look.check(self.rewinds, Progress(position.cursor.height, finalized))

    async def _expire_invoices(self) -> None:
        """Expire windows that have been covered to their end; only while the rail is known to be at its tip."""
        if self._caught_up_at is None or time.monotonic() - self._expiry_checked_at < EXPIRY_CHECK_SECONDS:
            return
        self._expiry_checked_at = time.monotonic()
        await self.read_server_clock(self._caught_up_at)
        if await self.committer.steps.any_closed_window():
            await self.committer.commit_expiries(self.rewinds)

    async def read_server_clock(self, seen: float | None = None) -> None:
        """Read the database's clock, and write that the rail was watched up to ``seen`` (monotonic clock, seconds)."""
        shown = await self.committer.steps.extend_coverage(None if seen is None else self._server_clock.at(seen))
        self._server_clock.note(shown, time.monotonic())

    def position(self) -> Position:
        """Where the last committed step left the rail."""
        return Position(self._require_cursor, self.tip_height, self.finalized, None, self.state, self.reason)

    def _position(self, cursor: BlockRef, heads: Heads, *, reached: bool, seen: float | None = None) -> Position:
        """Where a step leaves the rail. ``seen``: up to when all that the nodes told has been taken in."""
        state, reason = self._health(heads, caught_up=reached)
        if missing := self._tip.missing(cursor.height):
            state, reason = "stalled", _reversal_reason(missing)
        is_known = seen is not None and state == "live" and self.mempool.gap is None
        seen_at = self._server_clock.at(seen) if seen is not None and is_known else None
        return Position(cursor, heads.latest.height, self._finalized(cursor, heads), seen_at, state, reason)

    @property
    def _block_seconds(self) -> float | None:
        """Seconds between two blocks, as the node's own blocks or those that were followed show it."""
        followed = [*self.checkpoints, self.cursor] if self.cursor else self.checkpoints
        return self.node.traits.block_seconds or followed_pace(followed)

    def _seen(self, plan: PlannedStep, cursor: BlockRef) -> float | None:
        """Return up to when (monotonic clock) the tables hold all that was mined; None: it is not known."""
        seen = self._reached.seen(plan.asked, cursor.height, plan.heads)
        within = fresh_within(self.options.stall_after, self._block_seconds)
        now = datetime.fromtimestamp(time.time(), UTC)
        return seen if self._node_caught_up.check(plan.heads, now, within) else None

    def _health(self, heads: Heads, *, caught_up: bool) -> tuple[str, str | None]:
        """Whether what the node tells can be believed now, whatever it answers (HAZARDS E22, "Nodes")."""
        self._rhythm.block_seconds = self._block_seconds
        self._rhythm.note(heads.latest)
        if self._branches.flaps:
            return "stalled", self._branches.reason
        if self._reached.held_for > steadiness.LAG_MAX_SECONDS and heads.claimed_height is not None:
            return "stalled", (
                f"too few of the rail's nodes have reached block {heads.claimed_height}; more than half stand at "
                f"{heads.latest.height}. Run `railwatch check`: one of the nodes is stuck, or makes blocks up"
            )
        finality = self.options.finality_stall_after if self.committer.traits.has_finalized else None
        now = datetime.fromtimestamp(time.time(), UTC)
        if why := trouble(heads, now, self.options.stall_after, finality, self._rhythm):
            return "stalled", why
        traits = self.node.traits
        gaps = [gap for gap in (None if traits.native_complete else traits.native_gap, self.mempool.gap) if gap]
        return ("live" if caught_up else "syncing"), "; ".join(gaps) or None

    def _finalized(self, cursor: BlockRef, heads: Heads) -> BlockRef | None:
        """The highest final block at or below ``cursor``. It never goes back, whatever a node says."""
        told = heads.finalized
        if told is None:
            return self.finalized
        reached = told if told.height <= cursor.height else cursor
        if self.finalized is not None and self.finalized.height >= reached.height:
            return self.finalized
        return reached

    def _reorg_checkpoints(self) -> list[BlockRef]:
        """Checkpoints below the cursor, the anchor first: what is final, else the oldest within the horizon."""
        cursor = self._require_cursor
        points = [point for point in self.checkpoints if point.height < cursor.height]
        if self.finalized is not None and self.finalized.height < cursor.height:
            return [self.finalized, *(point for point in points if point.height > self.finalized.height)]
        return points

    def _anchor_height(self) -> int | None:
        anchored = self._reorg_checkpoints()
        return anchored[0].height if anchored else None

    def _prune(self) -> None:
        """Forget what no reorg may pass: below finality, else below the highest checkpoint that is final by depth.

        Everything that was told as final lies at or below that anchor, so that if the anchor stands, all of it does.
        """
        if self.finalized is not None:
            self.checkpoints = [point for point in self.checkpoints if point.height > self.finalized.height]
            return
        final = self._require_cursor.height - self.committer.traits.horizon + 1
        beyond = [point for point in self.checkpoints if point.height <= final]
        self.checkpoints = self.checkpoints[max(0, len(beyond) - 1) :]

    @property
    def _limits(self) -> Limits:
        traits = self.committer.traits
        return Limits(min(self._span_limit, traits.span_max), traits.horizon, traits.span_max)

    @property
    def _require_cursor(self) -> BlockRef:
        if self.cursor is None:
            raise RuntimeError("the rail has not begun")
        return self.cursor


def _reversal_reason(missing: int) -> str:
    return f"the node told of {missing} more blocks, and takes them back whenever it is asked for them"


def is_linked(span: Span, blocks: Sequence[BlockRef]) -> bool:
    """Whether ``blocks`` lead from ``span.after`` to ``span.upto`` by their parents' hashes, without a gap."""
    parent = span.after.hash
    for block in blocks:
        if block.parent != parent:
            return False
        parent = block.hash
    return bool(blocks) and parent == span.upto.hash

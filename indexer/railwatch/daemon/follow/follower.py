"""Follows one rail: plans a step with its node, commits it, and only then remembers it.

Pushes only wake the follower, and it also polls. No transaction is open while it asks the node. A crash loses
nothing that it remembers: the cursor and the checkpoints are read back from the last committed step.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import InitVar, dataclass, field

import structlog

from railwatch.core.chain_sync import DeepReorg, Idle, Probe, Rewind, final_height
from railwatch.core.step import BlockBatch, Position
from railwatch.core.sync_state import SyncState
from railwatch.daemon.follow import steadiness
from railwatch.daemon.follow.boundary import Boundary
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.follow.expiry import ExpiryChecker
from railwatch.daemon.follow.mempool_poller import MempoolPoller
from railwatch.daemon.follow.options import FollowOptions
from railwatch.daemon.follow.planner import PlannedStep, StepPlanner
from railwatch.daemon.follow.position import Health, PositionBuilder
from railwatch.daemon.follow.second_look import SecondLook
from railwatch.daemon.follow.status import FollowStatus
from railwatch.daemon.follow.steadiness import NodeLagging, Streak
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import BlockRef, Heads, RailAdapter, RailFault, Span, Transfer
from railwatch.store.rails import ResumePoint
from railwatch.store.steps import Acceptance

HELD_POLL_SECONDS = 0.2
"""Seconds between two polls while one node is ahead of the others: most often a block reaches them within moments."""

OUTAGE_SECONDS = 60.0
"""Seconds without progress after which the stored inclusions are compared with the chain again."""

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two heartbeats of a follower that waits."""


@dataclass(slots=True)
class ChainFollower:
    """The loop of one rail, under one lease.

    ``verify`` compares stored inclusions with the chain, up to the fork that the next step rewinds to, or to the
    cursor. It returns False while the chain does not hold the cursor. None: nothing is compared.
    """

    node: RailAdapter
    committer: Committer
    watches: IndexedWatches
    resume_point: InitVar[ResumePoint]
    options: FollowOptions
    second_look: SecondLook | None = None
    verify: Callable[[BlockRef | None], Awaitable[bool]] | None = None
    sync: SyncState = field(default_factory=SyncState)
    status: FollowStatus = field(default_factory=FollowStatus)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    planner: StepPlanner = field(init=False)
    positions: PositionBuilder = field(init=False)
    mempool: MempoolPoller = field(init=False)
    expiry: ExpiryChecker = field(init=False)
    _joining: list[tuple[Collection[bytes], asyncio.Event]] = field(default_factory=list)
    _lagging: Streak = field(default_factory=Streak)
    _faulty: Streak = field(default_factory=Streak)
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self, resume_point: ResumePoint) -> None:
        traits = self.committer.traits
        self.log = structlog.get_logger().bind(rail=self.committer.rail)
        self.mempool = MempoolPoller(self.node, self.committer, self.watches)
        self.planner = StepPlanner(self.node, self.watches, traits, self.log)
        self.positions = PositionBuilder(self.node, traits, self.options, self.planner.tip, self.mempool)
        self.expiry = ExpiryChecker(self.committer, self.positions.clock)
        self.reload(resume_point)

    async def run_once(self) -> bool:
        """Plan and perform one step. Return True if there is more to do at once.

        Raises what the node and the store raise, and `DeepReorg`. Whatever it raises, no part of a step is committed.
        """
        try:
            return await self._run_once()
        except RailFault as fault:
            raise self._tolerate(fault) from fault

    async def _run_once(self) -> bool:
        if self.sync.cursor is None:
            await self._start()
        await self._admit_joining()
        if time.monotonic() - self.status.progressed_at > OUTAGE_SECONDS:
            self.invalidate()
        with self._asking():
            plan = await self.planner.next(self.sync)
            await self._verify(plan.fork)
        more = await self._perform(plan)
        self._note_progress()
        if not more:
            await self._poll_mempool()
        await self.expiry.check(self.sync.rewinds)
        return more

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self.status.asking_since = time.monotonic()
        try:
            yield
        finally:
            self.status.asking_since = None

    async def _verify(self, fork: BlockRef | None) -> None:
        verification = self.committer.verification
        if self.verify is not None and not verification.done:
            verification.done = await self.verify(fork)

    def _note_progress(self) -> None:
        self.status.progressed_at = time.monotonic()
        self.planner.note_progress()
        self._faulty.end()

    async def _poll_mempool(self) -> None:
        if self.node.traits.has_pending and not await self.mempool.poll(self.sync.head, self.sync.rewinds):
            # Blocks are followed meanwhile, but no window ends: a payment that is in time may wait unread.
            self.expiry.caught_up_at = None

    def reload(self, resume_point: ResumePoint) -> None:
        """Adopt the state of the database, also after a commit whose answer was lost (HAZARDS P1)."""
        sync = SyncState(
            resume_point.cursor, resume_point.finalized, tuple(resume_point.checkpoints), resume_point.rewinds
        )
        self.sync = sync if sync.cursor is None else sync.prune(self.committer.traits.horizon)
        self.mempool.forget()
        self.invalidate()

    def invalidate(self) -> None:
        """Promote nothing until the stored inclusions have been compared with the chain."""
        self.committer.verification.done = self.verify is None

    def stall(self, reason: str) -> None:
        """Mark the rail as stalled, and start its coverage anew."""
        self.status.stall(reason)
        self.expiry.caught_up_at = None
        self._lagging.end()
        self.positions.forget()

    def _tolerate(self, fault: RailFault) -> RailFault | NodeLagging:
        """Return what to raise for ``fault``: itself, once it has repeated for `FAULT_SECONDS` without a step.

        Until then the rail is stalled by name, and its nodes are connected and asked anew. No block is passed.
        """
        if self._faulty.seconds() >= steadiness.FAULT_SECONDS:
            return fault
        return NodeLagging(
            f"{fault}; the daemon asks again, and halts the rail after {steadiness.FAULT_SECONDS:.0f} s. Add another "
            "node to the rail's `nodes`, or upgrade this one"
        )

    async def wait_for_work(self, alive: Callable[[], None] = lambda: None) -> None:
        """Sleep until a push, a registration or the next poll. ``alive`` is called every few seconds meanwhile."""
        interval = self.options.poll_interval or self.node.traits.poll_interval
        ends = time.monotonic() + (min(interval, HELD_POLL_SECONDS) if self.positions.is_held else interval)
        while not self.wake.is_set() and (left := ends - time.monotonic()) > 0:
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, HEARTBEAT_INTERVAL)):
                    await self.wake.wait()
            alive()
        self.wake.clear()

    async def accept_chain(self, acceptance: Acceptance) -> None:
        """Follow another chain, as a person has decided. Raises `DeepReorg` if the node does not hold the fork."""
        heads = await self.node.heads()
        fork = await self.node.block_at(acceptance.fork_height)
        if fork.hash != acceptance.fork_hash:
            raise DeepReorg(BlockRef(acceptance.fork_height, acceptance.fork_hash, "", fork.time), heads.latest)
        left = self.sync.head
        self.sync = self.sync.without_finality()
        position = self.positions.build(self.sync, fork, heads, reached=False)
        await self.committer.accept_chain(left, position, acceptance)
        self._remember(BlockBatch(left, Span(fork, fork), (), (), fork), position, [fork])
        self.log.critical("chain.accepted", height=fork.height, hash=fork.hash, left_height=left.height)

    async def _start(self) -> None:
        """Commit the first cursor of a rail. Its first steps then scan the window that is not final."""
        heads = await self.node.heads()
        first = await self._first(heads)
        position = self.positions.build(self.sync, first, heads, reached=False)
        batch = BlockBatch(None, Span(first, first, finalized=True), (first,), ())
        self._remember(batch, position, await self.committer.commit_blocks(batch, position, None))
        self.log.info("rail.started", height=first.height, hash=first.hash)

    async def _first(self, heads: Heads) -> BlockRef:
        """Return the block below the first one to follow: the first cursor of a rail."""
        final, wanted = final_height(heads, self.committer.traits.horizon), self.options.start_height
        start = max(0, final if wanted is None else wanted - 1)
        return await self.node.block_at(min(start, heads.latest.height))

    async def preview(self) -> Health:
        """Plan the next step, commit nothing, and return the state and reason that the rail would have.

        Raises what `run_once` raises for its node: above all `DeepReorg`, `RailFault` and `RailUnavailable`.
        """
        cursor = self.sync.cursor or await self._first(await self.node.heads())
        plan = await self.planner.plan(cursor, self.sync.reorg_points if self.sync.cursor else ())
        if isinstance(plan.step, Idle) and plan.step.lagging:
            raise self._behind(plan.heads)
        return self.positions.health(self.sync, plan.heads, caught_up=True)

    async def admit(self, keys: Collection[bytes]) -> None:
        """Add address keys to the live watch. Returns at a block boundary, from which on each block is searched."""
        joined = asyncio.Event()
        self._joining.append((list(keys), joined))
        self.wake.set()
        await joined.wait()

    def boundary(self) -> Boundary:
        """Return the current block boundary."""
        return Boundary(self.sync, self.status.is_followed, self.committer, self)

    async def _admit_joining(self) -> None:
        """Add the keys that wait, while no prefetched step is in flight that was scanned without them."""
        if not self._joining:
            return
        await self.planner.cancel_prefetch()
        joining, self._joining = self._joining, []
        for keys, joined in joining:
            for key in keys:
                self.watches.index.add(key)
            joined.set()

    async def _perform(self, plan: PlannedStep) -> bool:
        self.status.tip_height = plan.heads.latest.height
        if isinstance(plan.step, Idle):
            await self._idle(plan, plan.step)
            return False
        assert not isinstance(plan.step, Probe)
        assert plan.scanned is not None
        span = plan.step.branch if isinstance(plan.step, Rewind) else plan.step.span
        batch = BlockBatch(self.sync.cursor, span, plan.scanned.blocks, plan.scanned.transfers, plan.fork)
        if batch.fork is not None:
            self.positions.branches.check(self.sync.head, batch.blocks)
        # A chain goes on while a slow node answers: heads of long ago say nothing of the tip.
        reached = span.upto == plan.heads.latest and time.monotonic() - plan.asked <= steadiness.LAG_MAX_SECONDS
        if not reached and batch.fork is None and not self._joining:
            self.planner.prefetch(self.sync, span.upto)
        await self._commit(batch, plan, reached)
        return not reached

    async def _commit(self, batch: BlockBatch, plan: PlannedStep, reached: bool) -> None:
        seen = self.positions.seen(self.sync, plan, batch.span.upto) if reached else None
        position = self.positions.build(self.sync, batch.span.upto, plan.heads, reached=reached, seen=seen)
        if batch.fork is None:
            await self._run_second_looks(position)
        kept = await self.committer.commit_blocks(batch, position, self.sync.anchor_height)
        self._remember(batch, position, kept)
        self.expiry.note(position, seen)
        self._lagging.end()
        self.mempool.forget()
        self._log_step(batch)

    def _log_step(self, batch: BlockBatch) -> None:
        log = self.log.info if batch.transfers or batch.fork else self.log.debug
        log(
            "step.reorg" if batch.fork else "step.committed",
            height=batch.span.upto.height,
            hash=batch.span.upto.hash,
            blocks=len(batch.blocks),
            transfers=len(batch.transfers),
            tx=[transfer.tx_id for transfer in batch.transfers[:5]],
            fork=batch.fork.height if batch.fork else None,
        )

    def _remember(self, batch: BlockBatch, position: Position, kept: Sequence[BlockRef]) -> None:
        """Adopt a committed step. Memory follows the database, never the reverse."""
        sync = self.sync
        if batch.fork is not None:
            self.positions.branches.leave(sync.orphaned_by(batch.fork))
            self.planner.tip.forget()
            sync = sync.rewind(batch.fork)
        self.sync = sync.advance(position.cursor, position.finalized, kept, self.committer.traits.horizon)
        self.status.note(position)
        self.watches.spends.add_transfers(batch.transfers)

    def merge(self, transfers: Sequence[Transfer], points: Sequence[BlockRef], *, above: int | None = None) -> None:
        """Adopt what a look-back, a rescan or an inclusion check has committed, at the cursor or below.

        ``points`` became checkpoints; they replace all others from height ``above`` on, inclusive. What the transfers
        spend is indexed, so that the follower recognises their rivals.
        """
        self.sync = self.sync.admit(points, above)
        self.watches.spends.add_transfers(transfers)
        # A snapshot of the mempool that was committed before may concern those whom this look-back was for.
        self.mempool.forget()

    async def _idle(self, plan: PlannedStep, idle: Idle) -> None:
        """Handle a head that is no news: finality may have moved, the head may be too old, the node may be behind."""
        if idle.lagging:
            self.expiry.caught_up_at = None
            if self._lagging.seconds() > steadiness.LAG_MAX_SECONDS:
                raise self._behind(plan.heads)
            return
        self._lagging.end()
        cursor = self.sync.head
        if missing := self.positions.missing_reason(cursor):
            raise NodeLagging(missing)
        seen = self.positions.seen(self.sync, plan, cursor)
        position = self.positions.build(self.sync, cursor, plan.heads, reached=True, seen=seen)
        await self._run_second_looks(position)
        writes = self.status.external_writes
        if position.finalized != self.sync.finalized or self.status.is_stale(position):
            batch = BlockBatch(cursor, Span(cursor, cursor), (), ())
            self._remember(batch, position, await self.committer.commit_blocks(batch, position, None))
            self.status.answer_writes(writes)
        self.expiry.note(position, seen)

    def _behind(self, heads: Heads) -> NodeLagging:
        behind = self.sync.head.height - heads.latest.height
        return NodeLagging(
            f"the node is {behind} blocks behind a height that a node reported before; check its sync and its peers"
        )

    async def _run_second_looks(self, position: Position) -> None:
        """Read again what this position makes final, so that the step which reaches it can emit `final`."""
        if self.second_look is not None and not position.is_blind and self.committer.verification.done:
            await self.second_look.check(self.sync.rewinds, position.progress)

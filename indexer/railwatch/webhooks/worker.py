"""One endpoint's work: read the feed for it, post what is due, and write down how that ended. Nobody waits for it.

What is owed is in the database; here is only what is on its way. A *lane* is one invoice's events: of each lane one
event at most is here at a time, from its being read until its end is recorded, so that no later one can overtake it.
"""

import asyncio
import time
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol
from uuid import UUID

import structlog

from railwatch.config import WebhookConfig
from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable
from railwatch.store.webhooks import FailedAttempt, PendingDelivery, due_deliveries, queue_events, record_attempts
from railwatch.webhooks.backoff import pause_after
from railwatch.webhooks.leadership import Leadership
from railwatch.webhooks.sender import Attempt, Sender

PAGE = 500
"""Lines of the feed that are read at a time."""
READY_MAX = 1000
"""Lanes that may be due before reading waits. What failed and rests until its next attempt does not count."""
PENDING_MAX = 100_000
"""Events that an endpoint may be owed in all. What it does not read yet is safe in the feed."""
PREFETCH = 4
"""Events read ahead for each post that may be on its way, so that senders need not wait for the database."""
POLL_SECONDS = 1.0
STOP_TIMEOUT_SECONDS = 4.0
"""Seconds that posts on their way get to end, once told to stop. A cut one is posted again, under the same id."""


class DeliveryMetrics(Protocol):
    """Whoever counts."""

    def delivered(self, endpoint: str, seconds: float) -> None:
        """An event was accepted, so long after it was recorded."""

    def failed(self, endpoint: str, *, dead: bool) -> None:
        """An attempt failed; ``dead``: it was the last."""


class EndpointWorker:
    """Delivers to one endpoint until it is stopped."""

    def __init__(
        self,
        webhook: WebhookConfig,
        sender: Sender,
        database: Database,
        leadership: Leadership,
        metrics: DeliveryMetrics,
    ) -> None:
        self.name = webhook.name
        self._webhook = webhook
        self._sender = sender
        self._database = database
        self._leadership = leadership
        self._metrics = metrics
        self._log = structlog.get_logger().bind(endpoint=webhook.name)
        self._ready: asyncio.Queue[PendingDelivery] = asyncio.Queue()  # bounded by what `_refill` reads
        self._ended: list[tuple[PendingDelivery, Attempt]] = []
        self._lanes: set[UUID] = set()
        self._retrying: set[UUID] = set()
        self._retries: list[float] = []  # a heap: when what has failed is due again, by the monotonic clock
        self._posting = 0
        self._term = 0
        self._feed_has_more = True
        self._wakeup = asyncio.Event()
        self._stopping = False
        self._store_unavailable = False

    def wake(self) -> None:
        """The feed may have grown, or an operator changed something."""
        self._feed_has_more = True
        self._wakeup.set()

    def stop(self) -> None:
        """End in order, soon."""
        self._stopping = True
        self._wakeup.set()

    async def run(self, *, once: bool = False) -> None:
        """Deliver until stopped; ``once``: until nothing is due any more."""
        async with asyncio.TaskGroup() as tasks:
            senders = [tasks.create_task(self._send()) for _ in range(self._webhook.concurrency)]
            while not self._stopping:
                progress = await self._run_turn()
                if once and not progress and self._is_idle:
                    break
                if not progress:
                    await self._wait()
            await self._drain()
            for sender in senders:
                sender.cancel()

    @property
    def _is_idle(self) -> bool:
        return not self._lanes and not self._store_unavailable and self._leadership.held

    async def _run_turn(self) -> bool:
        try:
            progress = await self._turn()
        except StoreUnavailable as away:
            if not self._store_unavailable:
                self._log.warning("webhook.store_unavailable", reason=str(away))
            self._store_unavailable = True
            return False
        self._store_unavailable = False
        return progress

    async def _turn(self) -> bool:
        """Record what has ended, read what is new, make ready what is due; whether that came to anything."""
        self._drop_retries_until(time.monotonic())  # before looking: what is due by now is found by this turn
        await self._record()
        if not self._leadership.held or self._leadership.term != self._term:
            self._requeue()
            self._term = self._leadership.term
        if not self._leadership.held:
            return False
        return await self._read() + await self._refill() > 0

    async def _read(self) -> int:
        if not self._feed_has_more:
            return 0
        # Cleared first: a wake-up that comes during the query must not be lost.
        self._feed_has_more = False
        queued = await queue_events(self._database, self.name, self._webhook.events, PAGE, READY_MAX, PENDING_MAX)
        self._feed_has_more = self._feed_has_more or queued.looked_at == queued.room
        if not queued.reading:
            self._requeue()  # paused: what was read ahead stays here
        return queued.looked_at

    async def _refill(self) -> int:
        slots = self._webhook.concurrency
        if self._ready.qsize() >= slots:
            return 0
        # What has failed before may be slow to fail again: one slot in two at the most, so that news always finds one.
        retries = max(1, slots // 2) - len(self._retrying)
        due = await due_deliveries(self._database, self.name, self._lanes, slots * PREFETCH, max(0, retries))
        for each in due:
            self._lanes.add(each.lane)
            if each.attempts:
                self._retrying.add(each.lane)
            self._ready.put_nowait(each)
        return len(due)

    async def _send(self) -> None:
        while True:
            delivery = await self._ready.get()
            if self._stopping or not self._leadership.held:
                self._release_lanes([delivery.lane])
                continue
            self._posting += 1
            try:
                self._ended.append((delivery, await self._attempt(delivery)))
            finally:
                self._posting -= 1
                self._wakeup.set()

    async def _attempt(self, delivery: PendingDelivery) -> Attempt:
        """Post it. What nobody foresaw of one event, or of one answer, is a failure like any, and stops no other."""
        try:
            return await self._sender.post(delivery)
        except Exception as defect:  # noqa: BLE001 - the one place where an attempt's unknown failure ends
            self._log.error(
                "webhook.attempt_crashed", seq=delivery.seq, webhook_id=str(delivery.event_id), exc_info=defect
            )
            return Attempt(
                f"the attempt failed here ({type(defect).__name__}); the log has it as webhook.attempt_crashed"
            )

    async def _record(self) -> None:
        """What cannot be written down now stays here until it can."""
        ended = list(self._ended)
        if not ended:
            return
        failed = [self._failed(delivery, attempt) for delivery, attempt in ended if attempt.failure is not None]
        delivered = [(delivery.seq, delivery.event_id) for delivery, attempt in ended if attempt.failure is None]
        await record_attempts(self._database, self.name, delivered, failed)
        del self._ended[: len(ended)]
        self._release_lanes([delivery.lane for delivery, _ in ended])
        for each in failed:
            if each.pause is not None:
                heappush(self._retries, time.monotonic() + each.pause)
        self._log_attempts(ended, {each.seq: each for each in failed})

    def _failed(self, delivery: PendingDelivery, attempt: Attempt) -> FailedAttempt:
        attempts = delivery.attempts + 1
        pause = pause_after(attempts, self._webhook.attempts, self._webhook.first_pause, asked=attempt.retry_after)
        return FailedAttempt(delivery.seq, delivery.event_id, attempts, pause, attempt.failure or "")

    def _release_lanes(self, lanes: Sequence[UUID]) -> None:
        self._lanes.difference_update(lanes)
        self._retrying.difference_update(lanes)

    def _log_attempts(self, ended: list[tuple[PendingDelivery, Attempt]], failed: dict[int, FailedAttempt]) -> None:
        now = time.time()
        for delivery, _ in ended:
            what = {"seq": delivery.seq, "type": delivery.facts["type"], "webhook_id": str(delivery.event_id)}
            fate = failed.get(delivery.seq)
            if fate is None:
                self._metrics.delivered(self.name, max(0.0, now - delivery.facts["recorded_at"].timestamp()))
                self._log.debug("webhook.delivered", **what)
                continue
            self._metrics.failed(self.name, dead=fate.pause is None)
            if fate.pause is None:
                self._log.error("webhook.dead", **what, attempts=fate.attempts, reason=fate.failure)
            else:
                retry = round(fate.pause, 1)
                self._log.warning("webhook.failed", **what, attempts=fate.attempts, reason=fate.failure, retry_in=retry)

    def _requeue(self) -> None:
        """Forget what has not gone out yet; it is still owed."""
        while not self._ready.empty():
            self._release_lanes([self._ready.get_nowait().lane])

    def _drop_retries_until(self, now: float) -> None:
        while self._retries and self._retries[0] <= now:
            heappop(self._retries)

    async def _wait(self) -> None:
        """Until something stirs, or is due again. What another deliverer left for later is found by looking."""
        until_retry = self._retries[0] - time.monotonic() if self._retries else POLL_SECONDS
        try:
            async with asyncio.timeout(min(until_retry, POLL_SECONDS)):
                await self._wakeup.wait()
        except TimeoutError:
            self._feed_has_more = True  # a notification may have been lost (HAZARDS P4)
        self._wakeup.clear()

    async def _drain(self) -> None:
        """Let what is on its way arrive, and write it down."""
        self._requeue()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                while self._posting:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                await self._record()
        except (TimeoutError, StoreUnavailable) as error:
            left = self._posting + len(self._ended)
            self._log.warning("webhook.stop_timeout", posts=left, reason=str(error) or "no answer yet")

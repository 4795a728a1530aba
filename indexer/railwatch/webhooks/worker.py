"""The worker of one endpoint: it queues events from the feed, sends those that are due, and records the results.

Pending deliveries are in the database; the worker holds only those in flight. A *lane* is the events of one invoice.
The worker holds at most one event of a lane, from its reading until its result is recorded, so no later one overtakes.
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
"""Transitions of the feed to read at a time."""
READY_MAX = 1000
"""Due lanes at which reading waits. Events that wait for a retry do not count."""
PENDING_MAX = 100_000
"""Pending events of one endpoint at which reading waits. Later events stay in the feed."""
PREFETCH = 4
"""Events to read ahead for each concurrent request, so that senders do not wait for the database."""
POLL_SECONDS = 1.0
STOP_TIMEOUT_SECONDS = 4.0
"""Seconds that requests in flight have to end at a stop. A cut request is sent again with the same id."""


class DeliveryMetrics(Protocol):
    """The receiver of delivery counts."""

    def delivered(self, endpoint: str, seconds: float) -> None:
        """Count an event that was accepted ``seconds`` after its transition."""

    def failed(self, endpoint: str, *, dead: bool) -> None:
        """Count a failed attempt; ``dead``: it was the last one."""


class EndpointWorker:
    """The delivery to one endpoint, until it is stopped."""

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
        self._retries: list[float] = []  # a heap of the monotonic times of the next retries
        self._posting = 0
        self._term = 0
        self._feed_has_more = True
        self._wakeup = asyncio.Event()
        self._stopping = False
        self._store_unavailable = False

    def wake(self) -> None:
        """Wake the worker: the feed may have grown, or an operator may have changed the endpoint."""
        self._feed_has_more = True
        self._wakeup.set()

    def stop(self) -> None:
        """Stop in order, within `STOP_TIMEOUT_SECONDS`."""
        self._stopping = True
        self._wakeup.set()

    async def run(self, *, once: bool = False) -> None:
        """Deliver until stopped; ``once``: until no event is due."""
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
        except StoreUnavailable as failure:
            if not self._store_unavailable:
                self._log.warning("webhook.store_unavailable", reason=str(failure))
            self._store_unavailable = True
            return False
        self._store_unavailable = False
        return progress

    async def _turn(self) -> bool:
        """Record results, queue new events, and fetch due ones; return True if there was any."""
        self._drop_retries_until(time.monotonic())  # first: this turn finds the events that are due by now
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
        # Clear the flag first, so that a wake-up during the query is not lost.
        self._feed_has_more = False
        queued = await queue_events(self._database, self.name, self._webhook.events, PAGE, READY_MAX, PENDING_MAX)
        self._feed_has_more = self._feed_has_more or queued.looked_at == queued.room
        if not queued.reading:
            self._requeue()  # paused: return the prefetched events
        return queued.looked_at

    async def _refill(self) -> int:
        slots = self._webhook.concurrency
        if self._ready.qsize() >= slots:
            return 0
        # Retries may be slow to fail again: they use at most half of the slots, so new events always find one.
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
        """Send one event. An unexpected error of one event or answer is a failed attempt, and stops no other event."""
        try:
            return await self._sender.post(delivery)
        except Exception as defect:  # noqa: BLE001 - the one place where an attempt's unknown failure ends
            self._log.error(
                "webhook.attempt_crashed", seq=delivery.seq, webhook_id=str(delivery.event_id), exc_info=defect
            )
            return Attempt(f"the deliverer failed ({type(defect).__name__}); see its log event webhook.attempt_crashed")

    async def _record(self) -> None:
        """Record the ended attempts. If Postgres is unavailable they stay here for the next turn."""
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
            facts = {"seq": delivery.seq, "type": delivery.facts["type"], "webhook_id": str(delivery.event_id)}
            result = failed.get(delivery.seq)
            if result is None:
                self._metrics.delivered(self.name, max(0.0, now - delivery.facts["recorded_at"].timestamp()))
                self._log.debug("webhook.delivered", **facts)
                continue
            self._metrics.failed(self.name, dead=result.pause is None)
            if result.pause is None:
                self._log.error("webhook.dead", **facts, attempts=result.attempts, reason=result.failure)
            else:
                retry = round(result.pause, 1)
                self._log.warning(
                    "webhook.failed", **facts, attempts=result.attempts, reason=result.failure, retry_in=retry
                )

    def _requeue(self) -> None:
        """Drop prefetched events that were not sent yet; they are still pending in the database."""
        while not self._ready.empty():
            self._release_lanes([self._ready.get_nowait().lane])

    def _drop_retries_until(self, now: float) -> None:
        while self._retries and self._retries[0] <= now:
            heappop(self._retries)

    async def _wait(self) -> None:
        """Wait for a wake-up or the next retry. Polling finds retries that another deliverer has left."""
        until_retry = self._retries[0] - time.monotonic() if self._retries else POLL_SECONDS
        try:
            async with asyncio.timeout(min(until_retry, POLL_SECONDS)):
                await self._wakeup.wait()
        except TimeoutError:
            self._feed_has_more = True  # a notification may have been lost (HAZARDS P4)
        self._wakeup.clear()

    async def _drain(self) -> None:
        """Wait for requests in flight, and record their results."""
        self._requeue()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                while self._posting:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                await self._record()
        except (TimeoutError, StoreUnavailable) as error:
            unrecorded = self._posting + len(self._ended)
            self._log.warning("webhook.stop_timeout", posts=unrecorded, reason=str(error) or "no answer yet")

"""The deliverer: one worker for each endpoint, woken by the feed, while this process is the leader."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn, Protocol, TypeAlias

import structlog

from railwatch.config import Config, WebhookConfig
from railwatch.store.database import Database
from railwatch.store.deliverer_lock import DelivererLock
from railwatch.store.endpoints import CHANNEL, list_endpoints
from railwatch.store.errors import StoreUnavailable
from railwatch.store.feed import note_generation
from railwatch.store.notifications import Listener
from railwatch.store.read_models import Record
from railwatch.store.webhooks import EndpointMirror, mirror_endpoints
from railwatch.supervision import keep_running, run_to_end
from railwatch.webhooks.leadership import Leadership
from railwatch.webhooks.sender import Sender
from railwatch.webhooks.worker import POLL_SECONDS, DeliveryMetrics, EndpointWorker

FEED = "railwatch"
REPORT_INTERVAL = 2.0
RETRY_INTERVAL = 1.0
"""Seconds between two attempts to store the endpoints while Postgres is unavailable."""

Workers: TypeAlias = dict[str, EndpointWorker]
"""The worker of each endpoint, by its name; a new one replaces one that failed."""


class Reporter(DeliveryMetrics, Protocol):
    """The receiver of the deliverer's reports: service manager, metrics, health pages."""

    def ready(self) -> None:
        """Report that the deliverer has started, as leader or standby."""

    def heartbeat(self, endpoints: Sequence[Record], *, held: bool) -> None:
        """Report every two seconds the newest rows of `list_endpoints`. ``held``: this process is the leader."""

    def worker_crashed(self, task: str) -> None:
        """Count an unexpected failure of ``task``, which restarts."""

    def stopping(self) -> None:
        """Report that the deliverer is stopping."""


async def run_deliverer(config: Config, database: Database, reporter: Reporter, *, once: bool = False) -> list[Record]:
    """Deliver until SIGTERM or SIGINT; ``once``: until no event is due. Return the endpoints after ``once``.

    Raises `AnotherLeaderActive` with ``once``, and `StoreUnavailable` at the start; later it waits for Postgres.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    leadership = Leadership(DelivererLock(database.dsn))
    try:
        if once:
            await leadership.acquire_nowait()
        await deliver(config, database, leadership, reporter, stopping, once=once)
        return await list_endpoints(database) if once else []
    finally:
        leadership.release()
        structlog.get_logger().info("deliver.stopped")


async def deliver(
    config: Config,
    database: Database,
    leadership: Leadership,
    reporter: Reporter,
    stopping: asyncio.Event,
    *,
    once: bool,
) -> None:
    """Deliver until ``stopping`` is set: `run_deliverer` without the signals."""
    seen: list[Record] = []
    errands: dict[str, Callable[[], Awaitable[None]]] = {
        "deliver.lock": leadership.maintain,
        "deliver.beat": lambda: _heartbeat(seen, leadership, reporter),
        "deliver.endpoints": lambda: _read_endpoints(database, seen),
    }
    async with asyncio.TaskGroup() as tasks:
        background = _keep_all_running(tasks, errands, reporter)
        work = tasks.create_task(_deliver_in_turn(config, database, leadership, reporter, stopping, once=once))
        reporter.ready()
        await asyncio.wait({work})
        reporter.stopping()
        for each in background:
            each.cancel()


def _keep_all_running(
    tasks: asyncio.TaskGroup, errands: Mapping[str, Callable[[], Awaitable[None]]], reporter: Reporter
) -> list[asyncio.Task[NoReturn]]:
    return [
        tasks.create_task(keep_running(name, errand, reporter.worker_crashed), name=name)
        for name, errand in errands.items()
    ]


async def _deliver_in_turn(
    config: Config,
    database: Database,
    leadership: Leadership,
    reporter: Reporter,
    stopping: asyncio.Event,
    *,
    once: bool,
) -> None:
    """Wait for the lock, then deliver. Only the leader stores the endpoints: a standby must not overrule it."""
    if not await _acquired_before(leadership, stopping) or not await _synced_before(
        config, database, stopping, once=once
    ):
        return
    structlog.get_logger().info("deliver.started", endpoints=[each.name for each in config.webhooks])
    workers: Workers = {}
    errands: dict[str, Callable[[], Awaitable[None]]] = {
        "deliver.wake": lambda: _wake(database, workers),
        "deliver.stop": lambda: _stop(stopping, workers),
    }
    async with asyncio.TaskGroup() as tasks:
        background = _keep_all_running(tasks, errands, reporter)
        work = []
        for each in config.webhooks:
            act = partial(_work, each, config, database, leadership, reporter, workers, stopping, once=once)
            name = f"webhook.{each.name}"
            running = run_to_end(name, act, stopping, reporter.worker_crashed, endpoint=each.name)
            work.append(tasks.create_task(running, name=name))
        await asyncio.wait(work)
        for task in background:
            task.cancel()


async def _synced_before(config: Config, database: Database, stopping: asyncio.Event, *, once: bool) -> bool:
    """Store the endpoints; return False if ``stopping`` is set before Postgres answers.

    Raises `StoreUnavailable` with ``once``.
    """
    while not stopping.is_set():
        try:
            await mirror_endpoints(database, [_mirror(each) for each in config.webhooks])
        except StoreUnavailable as failure:
            if once:
                raise
            structlog.get_logger().warning("deliver.store_unavailable", reason=str(failure), retry_in=RETRY_INTERVAL)
        else:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_INTERVAL):
                await stopping.wait()
    return False


async def _work(
    webhook: WebhookConfig,
    config: Config,
    database: Database,
    leadership: Leadership,
    metrics: DeliveryMetrics,
    workers: Workers,
    stopping: asyncio.Event,
    *,
    once: bool,
) -> None:
    """Run an endpoint's worker once. A failed worker loses nothing: its state is in the database."""
    async with Sender(webhook, config.deliver) as sender:
        workers[webhook.name] = worker = EndpointWorker(webhook, sender, database, leadership, metrics)
        if stopping.is_set():
            worker.stop()  # `_stop` has run already and missed this worker
        await worker.run(once=once)


async def _acquired_before(leadership: Leadership, stopping: asyncio.Event) -> bool:
    """Wait for the lock; return False if ``stopping`` is set first."""
    either = [asyncio.create_task(leadership.acquired.wait()), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in either:
            each.cancel()
    return leadership.acquired.is_set()


async def _wake(database: Database, workers: Workers) -> None:
    async with Listener(database.dsn, (FEED, CHANNEL)) as listener:
        while True:
            await listener.wait(POLL_SECONDS)
            for each in workers.values():
                each.wake()


async def _stop(stopping: asyncio.Event, workers: Workers) -> None:
    """Stop every worker. A worker that fails meanwhile does not restart."""
    await stopping.wait()
    structlog.get_logger().info("deliver.stopping")
    for each in workers.values():
        each.stop()
    await asyncio.Event().wait()


async def _heartbeat(seen: Sequence[Record], leadership: Leadership, reporter: Reporter) -> None:
    """Report the last known state of every endpoint, also while Postgres is unavailable: the loop is alive."""
    while True:
        reporter.heartbeat(seen, held=leadership.held)
        await asyncio.sleep(REPORT_INTERVAL)


async def _read_endpoints(database: Database, seen: list[Record]) -> None:
    """Read the state of every endpoint at intervals."""
    while True:
        with suppress(StoreUnavailable):
            await note_generation(database)
            seen[:] = await list_endpoints(database)
        await asyncio.sleep(REPORT_INTERVAL)


def _mirror(webhook: WebhookConfig) -> EndpointMirror:
    return EndpointMirror(webhook.name, webhook.place, webhook.events, from_start=webhook.begin == "start")

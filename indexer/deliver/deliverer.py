"""The deliverer: one worker for each endpoint, woken by the feed, as long as this process is the one that posts."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

import structlog

from indexer.cancellation import in_own_task
from indexer.config import Config, WebhookConfig
from indexer.deliver.sender import Sender
from indexer.deliver.standing import Standing
from indexer.deliver.worker import POLL_SECONDS, EndpointWorker, Meter
from indexer.store.database import Database
from indexer.store.endpoints import CHANNEL, list_endpoints
from indexer.store.errors import StoreUnavailable
from indexer.store.feed import note_generation
from indexer.store.listen import Listener
from indexer.store.reads import Record
from indexer.store.sole import DelivererLock
from indexer.store.webhooks import EndpointMirror, mirror_endpoints

FEED = "railwatch"
REPORT_EVERY = 2.0
BROKEN_RESTS = 5.0
"""Seconds before an endpoint whose worker broke is tried again."""

Workers: TypeAlias = dict[str, EndpointWorker]
"""The worker of each endpoint, by its name; another one takes the place of one that broke."""


class Reporter(Meter, Protocol):
    """Whoever outside wants to know how the deliverer is: the service manager, metrics, health checks."""

    def ready(self) -> None:
        """Everything is started; perhaps as a standby."""

    def beat(self, endpoints: Sequence[Record], *, held: bool) -> None:
        """Called every two seconds or so, with the rows of `list_endpoints` as they were last seen."""

    def stopping(self) -> None:
        """The end has begun."""


async def run_deliverer(config: Config, database: Database, reporter: Reporter, *, once: bool = False) -> list[Record]:
    """Deliver until SIGTERM or SIGINT; ``once``: until nothing is due. Returns the endpoints as they are left.

    Raises `HeldElsewhere` with ``once``, and `StoreUnavailable` before it has begun; later it waits for Postgres.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    standing = Standing(DelivererLock(database.dsn))
    try:
        if once:
            await standing.take_at_once()
        await deliver(config, database, standing, reporter, stopping, once=once)
        return await list_endpoints(database) if once else []
    finally:
        standing.drop()
        structlog.get_logger().info("deliver.stopped")


async def deliver(
    config: Config, database: Database, standing: Standing, reporter: Reporter, stopping: asyncio.Event, *, once: bool
) -> None:
    """`run_deliverer` without the signals: until ``stopping`` is set."""
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(standing.keep()), tasks.create_task(_report(database, standing, reporter))]
        work = tasks.create_task(_deliver_in_turn(config, database, standing, reporter, stopping, once=once))
        reporter.ready()
        await asyncio.wait({work, *beside}, return_when=asyncio.FIRST_COMPLETED)
        reporter.stopping()
        for each in beside:
            each.cancel()


async def _deliver_in_turn(
    config: Config, database: Database, standing: Standing, meter: Meter, stopping: asyncio.Event, *, once: bool
) -> None:
    """Wait for the lock, then work. Endpoints are mirrored only then: a standby must not overrule the holder."""
    if not await _taken_before(standing, stopping):
        return
    await mirror_endpoints(database, [_mirror(each) for each in config.webhooks])
    structlog.get_logger().info("deliver.started", endpoints=[each.name for each in config.webhooks])
    workers: Workers = {}
    async with Listener(database.dsn, (FEED, CHANNEL)) as listener, asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(_wake(listener, workers)), tasks.create_task(_stop(stopping, workers))]
        work = [
            tasks.create_task(
                _supervise(each, partial(_work, each, config, database, standing, meter, workers, once=once), stopping),
                name=f"webhook.{each.name}",
            )
            for each in config.webhooks
        ]
        await asyncio.wait(work)
        for each in beside:
            each.cancel()


async def _supervise(webhook: WebhookConfig, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    """Let one endpoint be worked for. A defect ends that loudly, leaves the others alone, and is tried again."""
    while not stopping.is_set():
        try:
            await in_own_task(work())
            break
        except Exception:  # noqa: BLE001 - the one place where an endpoint's unknown failure ends
            structlog.get_logger().exception("webhook.broken", endpoint=webhook.name, again_in=BROKEN_RESTS)
        with suppress(TimeoutError):
            async with asyncio.timeout(BROKEN_RESTS):
                await stopping.wait()


async def _work(
    webhook: WebhookConfig,
    config: Config,
    database: Database,
    standing: Standing,
    meter: Meter,
    workers: Workers,
    *,
    once: bool,
) -> None:
    """Nothing is lost with a worker that breaks: what it knew is in the database."""
    async with Sender(webhook, config.deliver) as sender:
        workers[webhook.name] = worker = EndpointWorker(webhook, sender, database, standing, meter)
        await worker.run(once=once)


async def _taken_before(standing: Standing, stopping: asyncio.Event) -> bool:
    """Whether the lock is ours; False: told to stop while it was not."""
    either = [asyncio.create_task(standing.taken.wait()), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in either:
            each.cancel()
    return standing.taken.is_set()


async def _wake(listener: Listener, workers: Workers) -> None:
    while True:
        await listener.wait(POLL_SECONDS)
        for each in workers.values():
            each.wake()


async def _stop(stopping: asyncio.Event, workers: Workers) -> None:
    await stopping.wait()
    structlog.get_logger().info("deliver.stopping")
    for each in workers.values():
        each.stop()


async def _report(database: Database, standing: Standing, reporter: Reporter) -> None:
    """Tell how every endpoint is. While Postgres is away, or hangs, nothing is new, and the loop lives all the same."""
    seen: list[Record] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_look(database, seen))
        while True:
            reporter.beat(seen, held=standing.held)
            await asyncio.sleep(REPORT_EVERY)


async def _look(database: Database, seen: list[Record]) -> None:
    while True:
        with suppress(StoreUnavailable):
            await note_generation(database)
            seen[:] = await list_endpoints(database)
        await asyncio.sleep(REPORT_EVERY)


def _mirror(webhook: WebhookConfig) -> EndpointMirror:
    return EndpointMirror(webhook.name, webhook.place, webhook.events, from_start=webhook.begin == "start")

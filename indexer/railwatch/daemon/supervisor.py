"""The daemon: a checked database, one task for each configured rail, and an orderly stop."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from railwatch.allocator import give_large_blocks_back
from railwatch.config import Config, RailConfig
from railwatch.core.model import DelayLimits
from railwatch.daemon.demand import with_assets_in_demand
from railwatch.daemon.exception_monitor import ExceptionMonitor
from railwatch.daemon.follow.options import FollowOptions
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.daemon.open_database import open_database, reached
from railwatch.daemon.rail_runner import RailRunner
from railwatch.daemon.registry import open_rail
from railwatch.daemon.watch.watchlist import Family
from railwatch.known_chains import default_tiers
from railwatch.rail import AssetId, ChainId, Traits
from railwatch.store.clock import ClockStore
from railwatch.store.config_sync import PolicyRow, RailMirror, asset_id, sync_config
from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable
from railwatch.store.read_models import OpenCounts, read_counts
from railwatch.store.watches import Closing, WatchStore
from railwatch.supervision import keep_running

STOP_TIMEOUT_SECONDS = 4.0
"""Seconds that rails have to commit their last step at a stop."""

GC_THRESHOLDS = (100_000, 50, 100)
"""Garbage collection: a step creates many objects and no cycles; Python's defaults take a third of its time."""

HEARTBEAT_INTERVAL = 1.0
HEARTBEAT_TIMEOUT_SECONDS = 25.0
"""Seconds without a heartbeat of a rail after which systemd's watchdog gets none either."""

CLOSE_INTERVAL = 30.0
COUNT_INTERVAL = 15.0
"""Seconds between two counts for the monitoring system, which queries about as often."""


class Reporter(Protocol):
    """The receiver of the daemon's reports: service manager, metrics, health pages."""

    def ready(self) -> None:
        """Report that every task has started. Rails may still be catching up, or waiting for their nodes."""

    def heartbeat(self, runners: Sequence[RailRunner], *, alive: bool) -> None:
        """Report all rails about once a second. ``alive``: every rail that is not halted has had a recent heartbeat."""

    def counted(self, counts: OpenCounts) -> None:
        """Report counts four times a minute, while Postgres answers."""

    def failed(self, task: str) -> None:
        """Count an unexpected failure of ``task``, which restarts."""

    def stopping(self) -> None:
        """Report that the daemon is stopping."""


@dataclass(frozen=True, slots=True)
class NullReporter:
    """A `Reporter` that discards all reports."""

    def ready(self) -> None:
        """Discard the report."""

    def heartbeat(self, runners: Sequence[RailRunner], *, alive: bool) -> None:
        """Discard the report."""

    def counted(self, counts: OpenCounts) -> None:
        """Discard the report."""

    def failed(self, task: str) -> None:
        """Discard the report."""

    def stopping(self) -> None:
        """Discard the report."""


def tune_process() -> None:
    """Set garbage collector and allocator for a daemon. Call this once, before any work."""
    gc.set_threshold(*GC_THRESHOLDS)
    give_large_blocks_back()


async def run_daemon(config: Config, *, only_rail: str | None = None, reporter: Reporter | None = None) -> int:
    """Follow the configured rails (or ``only_rail``) until SIGTERM or SIGINT; return the exit code.

    Raises `SchemaMismatch`, `EmbeddedPostgresError`, `StoreError` or ValueError for a cause that an operator must fix.
    """
    log = structlog.get_logger()
    tune_process()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    work = asyncio.create_task(serve(config, only_rail, reporter or NullReporter()))
    end = asyncio.create_task(stopping.wait())
    await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if not work.done():
        log.info("daemon.stopping")
        (reporter or NullReporter()).stopping()
        work.cancel()
        await asyncio.wait({work}, timeout=STOP_TIMEOUT_SECONDS)
    if not work.done():
        # Every step is a transaction, so leaving one that hangs (in a frozen Postgres, for example) is safe.
        log.warning("daemon.stop_timeout", waited=STOP_TIMEOUT_SECONDS)
        os._exit(0)
    with suppress(asyncio.CancelledError):
        await work
    log.info("daemon.stopped")
    return 0


async def serve(config: Config, only_rail: str | None, reporter: Reporter) -> None:
    """Follow until cancelled: `run_daemon` without the signals."""
    async with open_database(config) as database:
        await reached(lambda: mirror_rails(database, config, only_rail))
        await follow(database, config, only_rail, reporter)


async def follow(
    database: Database,
    config: Config,
    only_rail: str | None,
    reporter: Reporter,
    arrange: Callable[[RailRunner], None] = lambda _: None,
) -> None:
    """Follow the rails that `mirror_rails` stored, until cancelled. ``arrange`` receives each runner first."""
    rails = await reached(lambda: with_assets_in_demand(database, _rails(config, only_rail)))
    nodes = [open_rail(rail) for rail in rails]  # again, with all wanted assets; no node has been queried yet
    families = await reached(lambda: _load_families(database, {node.traits.family for node in nodes}))
    runners = [
        _runner(database, families[node.traits.family], rail, node, reporter)
        for rail, node in zip(rails, nodes, strict=True)
    ]
    for runner in runners:
        arrange(runner)
    structlog.get_logger().info("daemon.started", rails=[rail.name for rail in rails])
    async with asyncio.TaskGroup() as tasks:
        errands: dict[str, Callable[[], Awaitable[None]]] = {
            **{f"rail.{runner.name}": runner.run for runner in runners},
            "closing": lambda: _close_watches(database),
            "alarms": ExceptionMonitor(ClockStore(database), reporter.failed).run,
            "beat": lambda: _heartbeat(runners, reporter),
            "counting": lambda: _report_counts(database, reporter),
        }
        for name, errand in errands.items():
            tasks.create_task(keep_running(name, errand, reporter.failed), name=name)
        reporter.ready()


def _rails(config: Config, only: str | None) -> list[RailConfig]:
    return [rail for rail in config.rails if only in (None, rail.name)]


async def mirror_rails(database: Database, config: Config, only_rail: str | None) -> None:
    """Store the configured rails (or ``only_rail``) for services. Queries no node."""
    rails = _rails(config, only_rail)
    nodes = [open_rail(rail) for rail in rails]
    await _sync_config(database, config, rails, nodes, only=only_rail is not None)


async def _sync_config(
    database: Database, config: Config, rails: Sequence[RailConfig], nodes: Sequence[NodeSet], *, only: bool
) -> None:
    mirrors = [rail_mirror(config, rail, node.traits) for rail, node in zip(rails, nodes, strict=True)]
    async with database.connection() as connection:
        await sync_config(
            connection, mirrors, mirror_settings(config), only=only, unfollowed=config.invoices.unfollowed_rails
        )


def mirror_settings(config: Config) -> dict[str, int]:
    """Return the other stored settings: ``closes_in``, seconds of watching after an invoice's window."""
    return {"closes_in": config.invoices.keep_watching}


def rail_mirror(config: Config, rail: RailConfig, traits: Traits) -> RailMirror:
    """Return a rail as services see it: its assets, and configured policies before default ones."""
    configured = [
        PolicyRow(each.asset, each.up_to, each.policy, "configuration")
        for each in config.policies
        if each.rail == rail.name
    ]
    defaults = [
        PolicyRow(None, tier.up_to, tier.policy, "default")
        for tier in default_tiers(rail.chain_id, traits.has_finalized)
    ]
    assets = tuple(each.spec for each in rail.assets)
    delay_limits = DelayLimits(
        *(timedelta(seconds=each) for each in (rail.stuck_after, rail.blind_after, rail.time_margin))
    )
    stall_after = timedelta(seconds=rail.stall_after) if rail.stall_after else None
    least = {each.contract: each.min_amount for each in rail.assets}
    policies = (*configured, *defaults)
    return RailMirror(rail.name, ChainId(rail.chain_id), traits, assets, policies, delay_limits, least, stall_after)


async def _load_families(database: Database, names: Iterable[str]) -> dict[str, Family]:
    families = {name: Family(name, WatchStore(database, name)) for name in names}
    for family in families.values():
        await family.caught_up()
    return families


def _runner(database: Database, family: Family, rail: RailConfig, node: NodeSet, reporter: Reporter) -> RailRunner:
    traits = node.traits
    ids = {each.contract: asset_id(rail.chain_id, traits, each.contract) for each in rail.assets}
    return RailRunner(
        name=rail.name,
        node=node,
        database=database,
        family=family,
        assets=assets_by_contract(rail, traits),
        follow_options=follow_options(rail),
        configured={ids[each.contract]: each.min_amount for each in rail.assets},
        unallocated_min={ids[each.contract]: each.unallocated_min for each in rail.assets},
        reconcile_every=rail.reconcile_every,
        failed=reporter.failed,
    )


def assets_by_contract(rail: RailConfig, traits: Traits) -> dict[str, AssetId]:
    """Return the rail's assets by contract in its own notation, the native one at ``""`` (`railwatch.rail.Watches`)."""
    return {
        "" if each.contract is None else each.contract.lower() if traits.fold_case else each.contract: asset_id(
            rail.chain_id, traits, each.contract
        )
        for each in rail.assets
    }


def follow_options(rail: RailConfig) -> FollowOptions:
    """Return the options of the follower from a rail's configuration."""
    return FollowOptions(rail.poll_interval, rail.stall_after, rail.start_height, rail.finality_stall_after)


async def _close_watches(database: Database) -> None:
    """Close invoices whose watch has ended and is covered to its end.

    Their addresses stay in the index until the next start. The index is only a filter, and the store ignores closed
    destinations. A removal could race with a new registration of the address, and miss a payment.
    """
    closing = Closing(database)
    while True:
        await asyncio.sleep(CLOSE_INTERVAL)
        with suppress(StoreUnavailable):
            await closing.turn()


async def _report_counts(database: Database, reporter: Reporter) -> None:
    """Report open exceptions and the lag of consumers at intervals."""
    while True:
        with suppress(StoreUnavailable):
            reporter.counted(await read_counts(database))
        await asyncio.sleep(COUNT_INTERVAL)


async def _heartbeat(runners: Sequence[RailRunner], reporter: Reporter) -> None:
    """Report at intervals whether every rail has had a recent heartbeat."""
    while True:
        now = time.monotonic()
        alive = all(runner.halted or now - runner.last_heartbeat < HEARTBEAT_TIMEOUT_SECONDS for runner in runners)
        reporter.heartbeat(runners, alive=alive)
        await asyncio.sleep(HEARTBEAT_INTERVAL)

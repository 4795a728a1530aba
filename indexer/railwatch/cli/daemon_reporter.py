"""Reports of the daemon to the outside: systemd, a monitoring system, a load balancer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from railwatch.cli.errors import UnusableConfig
from railwatch.config import Config
from railwatch.daemon.rail_runner import RailRunner
from railwatch.daemon.supervisor import run_daemon
from railwatch.ops.http import CannotListen, serve
from railwatch.ops.logs import configure_logging, warn_of_exposed
from railwatch.ops.metrics import Metrics
from railwatch.ops.sd_notify import notify
from railwatch.store.read_models import OpenCounts


@dataclass(slots=True)
class DaemonReporter:
    """The daemon's `Reporter`, and the source of its health pages."""

    metrics: Metrics
    alive: bool = True
    unready: dict[str, str] = field(default_factory=lambda: {"daemon": "starting"})

    def ready(self) -> None:
        """Notify systemd that every rail has started."""
        notify(READY=1)

    def heartbeat(self, runners: Sequence[RailRunner], *, alive: bool) -> None:
        """Report all rails, and feed the watchdog while ``alive``: systemd restarts a daemon that hangs."""
        self.alive = alive
        self.unready = {each.name: f"{_state(each)}: {_reason(each)}" for each in runners if _state(each) != "live"}
        status = ", ".join(f"{each.name} {_state(each)} at {_height(each)}" for each in runners)
        notify(STATUS=status, **({"WATCHDOG": 1} if alive else {}))
        for each in runners:
            self._measure(each)

    def counted(self, counts: OpenCounts) -> None:
        """Report open exceptions, quarantined invoices, and the lag of consumers."""
        self.metrics.waiting(counts.exceptions, counts.lag, counts.quarantine)

    def failed(self, task: str) -> None:
        """Count an unexpected failure of a task."""
        self.metrics.failed(task)

    def stopping(self) -> None:
        """Notify systemd that the daemon is stopping."""
        notify(STOPPING=1)

    def _measure(self, runner: RailRunner) -> None:
        follower = runner.follower
        self.metrics.rail(
            runner.name,
            state=_state(runner),
            height=_height(runner),
            tip=follower.status.tip_height if follower else None,
            finalized=follower.sync.finalized.height if follower and follower.sync.finalized else None,
            watched=len(runner.family),
        )


def _state(runner: RailRunner) -> str:
    if runner.halted is not None:
        return "halted"
    if runner.standby is not None:
        return "standby"
    return runner.follower.status.state if runner.follower else "starting"


def _reason(runner: RailRunner) -> str:
    reason = runner.halted or runner.standby or (runner.follower.status.reason if runner.follower else None)
    return reason or "no reason given"


def _height(runner: RailRunner) -> int | None:
    return runner.follower.sync.cursor.height if runner.follower and runner.follower.sync.cursor else None


async def serve_daemon(config: Config, only_rail: str | None) -> int:
    """Run the daemon with logs, metrics and the service manager; return the exit code.

    Raises `UnusableConfig` when ``[http] listen`` cannot be used, and as `run_daemon` does.
    """
    configure_logging(config.log.format, config.log.level, config.secrets())
    warn_of_exposed(config)
    reporter = DaemonReporter(Metrics())
    if config.http.address is None:
        return await run_daemon(config, only_rail=only_rail, reporter=reporter)
    pages = asyncio.create_task(serve(reporter.metrics, config.http.address, reporter, failed=reporter.failed))
    daemon = asyncio.create_task(run_daemon(config, only_rail=only_rail, reporter=reporter))
    try:
        # The pages end by themselves only if they cannot listen, which the operator must see.
        await asyncio.wait({pages, daemon}, return_when=asyncio.FIRST_COMPLETED)
        if pages.done():
            pages.result()
        return await daemon
    except CannotListen as error:
        raise UnusableConfig(str(error)) from error
    finally:
        for task in (pages, daemon):
            task.cancel()
        await asyncio.gather(pages, daemon, return_exceptions=True)

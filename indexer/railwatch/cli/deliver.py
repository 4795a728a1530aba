"""`railwatch deliver`: the delivery of the feed's events to the configured webhooks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from railwatch.cli.errors import Exit, InvalidInput, UnusableConfig
from railwatch.cli.options import config_option
from railwatch.cli.output import complain
from railwatch.config import Config
from railwatch.ops.webhook_metrics import DeliveryMetrics
from railwatch.store.read_models import Record


@click.command()
@config_option
@click.option("--once", is_flag=True, help="Stop once no event is due, instead of running on.")
def deliver(config: Config, once: bool) -> None:
    """Post the feed's events to the configured webhooks, until SIGTERM or Ctrl-C.

    With --once, exit code 0 means that every event was accepted, and 1 that some are left: failed, dead or paused.
    """
    if not config.webhooks:
        raise UnusableConfig("the configuration has no webhook endpoint; add a [[webhook]] table (docs/webhooks.md)")
    left = asyncio.run(_serve(config, once))
    pending = {each["name"]: each["pending"] + each["dead"] for each in left if each["configured"]}
    behind = {each["name"]: each["lag"] for each in left if each["configured"]}
    if any(pending.values()) or any(behind.values()):
        rest = ", ".join(f"{name} {count} (and {behind[name]} not queued yet)" for name, count in pending.items())
        complain(f"railwatch: some events are not accepted yet: {rest}; see railwatch webhook list")
        click.get_current_context().exit(Exit.REJECTED)


@dataclass(slots=True)
class DelivererReporter:
    """The deliverer's `Reporter`, and the source of its health pages."""

    metrics: DeliveryMetrics
    alive: bool = True
    unready: dict[str, str] = field(default_factory=lambda: {"deliver": "starting"})

    def ready(self) -> None:
        """Notify systemd that the deliverer has started."""
        _notify(READY=1)

    def heartbeat(self, endpoints: Sequence[Record], *, held: bool) -> None:
        """Report every endpoint, and feed the watchdog: a stuck loop does not reach this."""
        ours = [each for each in endpoints if each["configured"]]
        self.unready = {} if held else {"deliver": "standby: another deliverer is active, or Postgres is unavailable"}
        self.metrics.endpoints(ours, held=held)
        status = ", ".join(f"{each['name']}: {each['pending']} pending" for each in ours)
        _notify(STATUS=status if held else "standby", WATCHDOG=1)

    def worker_crashed(self, task: str) -> None:
        """Count an unexpected failure of a task."""
        self.metrics.broke(task)

    def stopping(self) -> None:
        """Notify systemd that the deliverer is stopping."""
        _notify(STOPPING=1)

    def delivered(self, endpoint: str, seconds: float) -> None:
        """Count an accepted event."""
        self.metrics.delivered(endpoint, seconds)

    def failed(self, endpoint: str, *, dead: bool) -> None:
        """Count a failed attempt."""
        self.metrics.failed(endpoint, dead=dead)


def _notify(**fields: object) -> None:
    from railwatch.ops.sd_notify import notify

    notify(**fields)


async def _serve(config: Config, once: bool) -> list[Record]:
    """Deliver with logs, metrics and the service manager; return the endpoints after ``once``."""
    from railwatch.ops.database import open_database
    from railwatch.ops.http import CannotListen, serve
    from railwatch.ops.logs import configure_logging, warn_of_exposed
    from railwatch.webhooks.deliverer import run_deliverer
    from railwatch.webhooks.leadership import AnotherLeaderActive

    configure_logging(config.log.format, config.log.level, config.secrets())
    warn_of_exposed(config)
    reporter = DelivererReporter(DeliveryMetrics())
    async with open_database(config, lasting=not once, size=CONNECTIONS) as database:
        work = asyncio.create_task(run_deliverer(config, database, reporter, once=once))
        pages = None
        if config.deliver.address is not None and not once:
            serving = serve(reporter.metrics, config.deliver.address, reporter, failed=reporter.worker_crashed)
            pages = asyncio.create_task(serving)
        tasks = {work} if pages is None else {work, pages}
        try:
            # The pages end by themselves only if they cannot listen, which the operator must see.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if pages is not None and pages.done():
                pages.result()
            return await work
        except AnotherLeaderActive as error:
            raise InvalidInput(str(error)) from error
        except CannotListen as error:
            raise UnusableConfig(str(error).replace("[http]", "[deliver]")) from error
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


CONNECTIONS = 8
"""Connections to Postgres, which all endpoints share; each needs one for some milliseconds at a time."""

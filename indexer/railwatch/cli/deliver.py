"""`railwatch deliver`: posts the feed's events to the configured webhooks."""

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
@click.option("--once", is_flag=True, help="End when nothing is due any more, instead of going on.")
def deliver(config: Config, once: bool) -> None:
    """Post the feed's events to the configured webhooks, until SIGTERM or Ctrl-C.

    With --once it ends with 0 if every event was accepted, and with 1 if some are left: failed, given up, or paused.
    """
    if not config.webhooks:
        raise UnusableConfig(
            "there is nothing to deliver to; add a [[webhook]] table to the configuration (docs/webhooks.md)"
        )
    left = asyncio.run(_serve(config, once))
    owed = {each["name"]: each["pending"] + each["dead"] for each in left if each["configured"]}
    behind = {each["name"]: each["lag"] for each in left if each["configured"]}
    if any(owed.values()) or any(behind.values()):
        told = ", ".join(f"{name} {count} (and {behind[name]} not read)" for name, count in owed.items())
        complain(f"railwatch: not everything was accepted; still owed: {told}")
        click.get_current_context().exit(Exit.REJECTED)


@dataclass(slots=True)
class DelivererReporter:
    """`railwatch.webhooks.deliverer.Reporter`, and what the health pages ask."""

    metrics: DeliveryMetrics
    alive: bool = True
    unready: dict[str, str] = field(default_factory=lambda: {"deliver": "starting"})

    def ready(self) -> None:
        """Everything is started."""
        _notify(READY=1)

    def heartbeat(self, endpoints: Sequence[Record], *, held: bool) -> None:
        """Say how every endpoint is. Only a loop that turns comes here, and so feeds the watchdog."""
        ours = [each for each in endpoints if each["configured"]]
        self.unready = {} if held else {"deliver": "another deliverer is at work, or Postgres is away"}
        self.metrics.endpoints(ours, held=held)
        told = ", ".join(f"{each['name']} owed {each['pending']}" for each in ours)
        _notify(STATUS=told if held else "standby", WATCHDOG=1)

    def worker_crashed(self, task: str) -> None:
        """A task failed for a reason that nobody foresaw."""
        self.metrics.broke(task)

    def stopping(self) -> None:
        """The end has begun."""
        _notify(STOPPING=1)

    def delivered(self, endpoint: str, seconds: float) -> None:
        """An event was accepted."""
        self.metrics.delivered(endpoint, seconds)

    def failed(self, endpoint: str, *, dead: bool) -> None:
        """An attempt failed."""
        self.metrics.failed(endpoint, dead=dead)


def _notify(**fields: object) -> None:
    from railwatch.ops.sd_notify import notify

    notify(**fields)


async def _serve(config: Config, once: bool) -> list[Record]:
    """Deliver with logs, metrics and the service manager; returns the endpoints as ``once`` leaves them."""
    from railwatch.ops.database import open_database
    from railwatch.ops.http import CannotListen, serve
    from railwatch.ops.logs import configure_logging, warn_of_exposed
    from railwatch.webhooks.deliverer import run_deliverer
    from railwatch.webhooks.leadership import AnotherLeaderActive

    configure_logging(config.log.format, config.log.level, config.secrets())
    warn_of_exposed(config)
    outside = DelivererReporter(DeliveryMetrics())
    async with open_database(config, lasting=not once, size=CONNECTIONS) as database:
        work = asyncio.create_task(run_deliverer(config, database, outside, once=once))
        pages = None
        if config.deliver.address is not None and not once:
            serving = serve(outside.metrics, config.deliver.address, outside, failed=outside.worker_crashed)
            pages = asyncio.create_task(serving)
        tasks = {work} if pages is None else {work, pages}
        try:
            # The pages end by themselves only when they cannot listen, and then the operator has to know.
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
"""Endpoints take turns on them; each needs one for some milliseconds at a time."""

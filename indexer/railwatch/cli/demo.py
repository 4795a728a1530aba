"""`railwatch demo`: scenarios of a shop, run on real development nodes with a real Postgres."""

import asyncio
import signal
from collections.abc import Coroutine
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

import click

from railwatch.cli.errors import Exit, InvalidInput
from railwatch.cli.options import json_option
from railwatch.cli.output import console, emit
from railwatch.rail.demo import DemoError

if TYPE_CHECKING:
    from railwatch.demo.report import Outcome

Result = TypeVar("Result")

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@json_option
@click.option(
    "--keep", is_flag=True, help="Leave node, Postgres and daemon running, and print how to query and to stop them."
)
@click.option(
    "--rail", "rails", multiple=True, metavar="NAME", help="Only this rail's scenarios; repeatable. Default: all rails."
)
def demo(as_json: bool, keep: bool, rails: tuple[str, ...]) -> None:
    """Run payments, reorgs and mistakes on development nodes, and compare the feed with the expected one.

    The command starts all that it needs, and stops it at its end. Exit code 0: every scenario matched.

    It needs the distribution railwatch-dev.

    Example: railwatch demo --rail evm
    """
    _require_demo()
    from railwatch.demo.report import outcome_json, print_outcome

    try:
        outcome = asyncio.run(run_until_signal(_run(rails, keep, as_json)))
    except DemoError as error:
        raise InvalidInput(f"the demo failed: {error}") from error
    if as_json:
        emit(outcome_json(outcome))
    else:
        print_outcome(console(), outcome)
    click.get_current_context().exit(Exit.OK if outcome.agrees else Exit.REJECTED)


def _require_demo() -> None:
    """Raise `InvalidInput` with the command that installs the demo, where it is not installed."""
    if find_spec("railwatch.demo") is None:
        raise InvalidInput(
            "the demo is not installed: it is part of the distribution railwatch-dev. "
            f"Run: pip install railwatch-dev=={version('railwatch')}"
        )


async def _run(rails: tuple[str, ...], keep: bool, as_json: bool) -> "Outcome":
    from railwatch.demo.progress_view import make_view
    from railwatch.demo.runner import open_demos, run_demo
    from railwatch.terminal import make_console

    # With --json stdout holds only JSON.
    with make_view(make_console(stderr=as_json)) as view:
        return await run_demo(open_demos(rails, view.say), view, keep=keep)


async def run_until_signal(work: Coroutine[None, None, Result]) -> Result:
    """Return the result of ``work``. A signal cancels it in order, and raises SystemExit with the shells' code.

    Only the first signal counts: a second one must not interrupt the cleanup, whose time is bounded.
    """
    task = asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in ENDINGS:
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise

"""`railwatch demo`: stories that happen to shops, lived on real development nodes with a real Postgres."""

import asyncio
import signal
from collections.abc import Coroutine
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
@click.option("--keep", is_flag=True, help="Leave node, Postgres and daemon running, and say how to look and to stop.")
@click.option("--rail", "rails", multiple=True, metavar="NAME", help="Only this rail's stories; may be given again.")
def demo(as_json: bool, keep: bool, rails: tuple[str, ...]) -> None:
    """Live through payments, reorgs and mistakes, and compare what the feed tells with what it should.

    Starts everything that it needs and ends it again. Exits with 0 only if every story is told as expected.
    """
    from railwatch.demo.report import outcome_json, print_outcome

    try:
        outcome = asyncio.run(until_told(_run(rails, keep, as_json)))
    except DemoError as error:
        raise InvalidInput(f"the demo could not be told: {error}") from error
    if as_json:
        emit(outcome_json(outcome))
    else:
        print_outcome(console(), outcome)
    click.get_current_context().exit(Exit.OK if outcome.agrees else Exit.REJECTED)


async def _run(rails: tuple[str, ...], keep: bool, as_json: bool) -> "Outcome":
    from railwatch.demo.progress_view import make_view
    from railwatch.demo.runner import open_demos, run_demo
    from railwatch.terminal import make_console

    # With --json nothing but JSON may be on stdout.
    with make_view(make_console(stderr=as_json)) as view:
        return await run_demo(open_demos(rails, view.say), view, keep=keep)


async def until_told(work: Coroutine[None, None, Result]) -> Result:
    """Do ``work``, or end it in order when a signal comes; then raises SystemExit with the code that shells use.

    Only the first signal counts: a second one must not interrupt the end of what was started, which is bounded.
    """
    task = asyncio.ensure_future(work)
    told: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        if not told:
            told.append(number)
            task.cancel()

    for number in ENDINGS:
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            raise SystemExit(128 + told[0]) from None
        raise

"""What a demo leaves to read: the closing table, what went wrong, how to inspect what was kept; also as JSON."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from railwatch.demo.processes import Ended
from railwatch.demo.progress_view import mark_text, told_text
from railwatch.demo.scenario_run import ScenarioRun


@dataclass(frozen=True, slots=True)
class LeftRunning:
    """What runs on after ``--keep``. ``pids`` by name, in the order in which to end them."""

    dsn: str
    config: Path
    pids: dict[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A demo that ran to its end. ``log_tail`` is empty if all went well; ``stopped`` is None if it was kept."""

    tellings: Sequence[ScenarioRun]
    seconds: float
    log: Path
    log_tail: str
    stopped: Ended | None
    stop_problem: str | None
    kept: LeftRunning | None

    @property
    def agrees(self) -> bool:
        """Return True if every story went as expected, and the daemon ended as it should."""
        return all(each.agrees for each in self.tellings) and self.stop_problem is None


def print_outcome(console: Console, outcome: Outcome) -> None:
    """For people: tables fit into 80 columns; what is to be copied, and logs, keep their lines."""
    console.print(_table(outcome.tellings))
    for each in outcome.tellings:
        if not each.agrees:
            console.print(_failure(each), soft_wrap=True)
    if outcome.stop_problem:
        console.print(Text(f"{outcome.stop_problem}\n", "bold red"))
    if outcome.log_tail:
        console.print(Text(f"The end of the daemon's log, {outcome.log}:", "bold"), soft_wrap=True)
        console.print(Text(f"{outcome.log_tail}\n", "dim"), soft_wrap=True)
    if outcome.kept:
        console.print(_how_to_look(outcome.kept, outcome.tellings), soft_wrap=True)
    console.print(_summary(outcome))


def _table(tellings: Sequence[ScenarioRun]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold", show_lines=False)
    table.add_column("", width=1)
    for name, ratio in (("story", 4), ("expected", 5), ("seen", 5)):
        table.add_column(name, ratio=ratio)
    table.add_column("to paid", justify="right", no_wrap=True)
    for each in tellings:
        expected = told_text(each.scenario.path, each.scenario.exceptions)
        table.add_row(
            mark_text(each), each.scenario.name, expected, told_text(each.path, each.exceptions), _timing(each)
        )
    return table


def _timing(telling: ScenarioRun) -> Text:
    """Seconds since the payment's block and, under it, since the block that made it deep enough."""
    if telling.timing is None:
        return Text("-", "dim")
    text = Text(f"{telling.timing.since_block:.2f} s")
    if telling.timing.since_enough is not None:
        text.append(f"\n{telling.timing.since_enough * 1000:.0f} ms*", "dim")
    return text


def _failure(telling: ScenarioRun) -> Text:
    story = telling.scenario
    lines = [
        Text(f"{story.name} (on {telling.rail}) is not as expected", "bold red"),
        Text.assemble("  expected  ", told_text(story.path, story.exceptions, "  ")),
        Text.assemble("  seen      ", told_text(telling.path, telling.exceptions, "  ")),
        Text(f"  invoice   {telling.invoice or 'was never registered'} at {telling.address or '-'}"),
    ]
    if telling.problem:
        lines.append(Text(f"  problem   {telling.problem}"))
    return Text("\n").join([*lines, Text()])


def _how_to_look(kept: LeftRunning, tellings: Sequence[ScenarioRun]) -> Text:
    config = shlex.quote(str(kept.config))
    example = next((each.invoice for each in tellings if each.exceptions and each.invoice), "INVOICE")
    return Text.assemble(
        ("It keeps running. To inspect it:\n", "bold"),
        f"  psql {shlex.quote(kept.dsn)}\n",
        f"  railwatch status --config {config}\n",
        f"  railwatch explain --config {config} {example}\n",
        f"  railwatch feed --follow --config {config}\n",
        ("To end it:\n", "bold"),
        f"  kill {' '.join(map(str, kept.pids.values()))}   # {', '.join(kept.pids)}; Postgres goes with the daemon\n",
        f"  rm -r {shlex.quote(str(kept.config.parent))}\n",
    )


def _summary(outcome: Outcome) -> Text:
    good = sum(each.agrees for each in outcome.tellings)
    text = Text(f"{good} of {len(outcome.tellings)} stories as expected, in {outcome.seconds:.0f} s", "bold")
    text.stylize("green" if outcome.agrees else "red")
    if outcome.stopped:
        text.append(f"; the daemon ended with {outcome.stopped.code} after {outcome.stopped.seconds:.1f} s", "not bold")
    if any(each.timing for each in outcome.tellings):
        text.append(
            "\nto paid: from ordering the payment's block to reading `paid` in the feed; "
            "* from ordering the block that made it deep enough",
            "not bold dim",
        )
    return text


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """For programs: times in seconds, pids by name."""
    return {
        "ok": outcome.agrees,
        "seconds": round(outcome.seconds, 3),
        "stories": [_telling_json(each) for each in outcome.tellings],
        "daemon": {
            "exit_code": outcome.stopped.code if outcome.stopped else None,
            "seconds_to_stop": round(outcome.stopped.seconds, 3) if outcome.stopped else None,
            "problem": outcome.stop_problem,
            "log": str(outcome.log),
            "log_tail": outcome.log_tail.splitlines(),
        },
        "kept": {"dsn": outcome.kept.dsn, "config": str(outcome.kept.config), "pids": outcome.kept.pids}
        if outcome.kept
        else None,
    }


def _telling_json(telling: ScenarioRun) -> dict[str, Any]:
    timing = telling.timing
    return {
        "rail": telling.rail,
        "story": telling.scenario.name,
        "agrees": telling.agrees,
        "expected": {"path": telling.scenario.path, "exceptions": sorted(telling.scenario.exceptions)},
        "seen": {"path": telling.path, "exceptions": sorted(telling.exceptions)},
        "problem": telling.problem,
        "invoice": str(telling.invoice) if telling.invoice else None,
        "address": telling.address,
        "seconds_from_block_to_paid": round(timing.since_block, 4) if timing else None,
        "seconds_from_deep_enough_to_paid": round(timing.since_enough, 4)
        if timing and timing.since_enough is not None
        else None,
    }

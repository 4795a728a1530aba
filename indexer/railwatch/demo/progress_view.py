"""Progress of the stories: a table that moves on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from railwatch.demo.scenario_run import Phase, ScenarioRun
from railwatch.terminal import Escaped

REFRESHES = 8
"""A second. More only costs the machine that the daemon runs on."""

STATE_STYLES = {
    "paid": "green",
    "overpaid": "yellow",
    "underpaid": "yellow",
    "late_paid": "yellow",
    "confirming": "cyan",
    "detected": "cyan",
}


class View(AbstractContextManager["View"], Protocol):
    """Shows a demo while it runs. Leaving the context ends it; what is said stays readable."""

    def say(self, text: str) -> None:
        """Show what the demo itself does: it starts, waits, stops."""

    def show_plan(self, tellings: Sequence[ScenarioRun]) -> None:
        """Show all stories that will run, once they are known."""

    def show_progress(self, telling: ScenarioRun) -> None:
        """Show that the invoice or the phase of a story has changed."""


@dataclass(slots=True)
class Shown:
    """What has been printed of a story: lines of its path, and the exceptions of that time."""

    lines: int = 0
    exceptions: frozenset[str] = frozenset()


class Lines:
    """A `NodeView` of one line for each thing that happens, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._shown: dict[int, Shown] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have nothing to remove."""

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(Text(f"{self._clock()}  {text}"))

    def show_plan(self, tellings: Sequence[ScenarioRun]) -> None:
        """How many there are."""
        self.say(f"{len(tellings)} stories")

    def show_progress(self, telling: ScenarioRun) -> None:
        """Print a line for each new transition, for each exception, and for the end."""
        shown = self._shown.setdefault(id(telling), Shown())
        news = [step_text(line) for line in telling.path[shown.lines :]]
        news += [exception_text(each) for each in sorted(telling.exceptions - shown.exceptions)]
        if telling.phase is Phase.DONE:
            news.append(verdict_text(telling))
        for text in news:
            self._console.print(Text.assemble(f"{self._clock()}  {telling.scenario.name}: ", text))
        shown.lines, shown.exceptions = len(telling.path), telling.exceptions

    def _clock(self) -> str:
        return f"{time.monotonic() - self._begun:6.2f} s"


class Moving:
    """A `NodeView` that is one table, drawn again and again on a terminal, and gone at the end: the report follows."""

    def __init__(self, console: Console) -> None:
        self._begun = time.monotonic()
        self._tellings: Sequence[ScenarioRun] = ()
        self._spinner = Spinner("dots", "starting")
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=REFRESHES, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Show ``text`` on the line under the table."""
        self._spinner.update(text=Text(text))

    def show_plan(self, tellings: Sequence[ScenarioRun]) -> None:
        """Set the rows of the table."""
        self._tellings = tellings

    def show_progress(self, telling: ScenarioRun) -> None:
        """Nothing to do: the next drawing shows it."""

    def _draw(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", width=1)
        table.add_column("story", ratio=2)
        table.add_column("transitions", ratio=3)
        for each in self._tellings:
            table.add_row(mark_text(each), each.scenario.name, told_text(each.path, each.exceptions, "  "))
        seconds = Text(f"{time.monotonic() - self._begun:.0f} s", "dim")
        below = Group(self._spinner, seconds)
        return Escaped(Group(table, Text(), below) if self._tellings else below)


def make_view(console: Console) -> View:
    """Return the view that fits the output: a moving table on a terminal, lines elsewhere."""
    return Moving(console) if console.is_terminal else Lines(console)


def step_text(line: str) -> Text:
    """One line of a path, in its state's colour; what was reversed, in red."""
    state, _, remark = line.partition(" ")
    return Text(line, "red" if remark == "(reversed)" else STATE_STYLES.get(state, ""))


def path_text(path: Sequence[str]) -> Text:
    """Render a path as ``created → confirming → paid``."""
    return Text(" → ").join(step_text(line) for line in path) if path else Text("-", "dim")


def exception_text(words: str) -> Text:
    """``!overpaid``, in its severity's colour."""
    return Text(f"!{words}", "red" if "critical" in words else "yellow")


def told_text(path: Sequence[str], exceptions: Iterable[str], between: str = "\n") -> Text:
    """Render the path, and the exceptions after it."""
    return Text(between).join([path_text(path), *(exception_text(each) for each in sorted(exceptions))])


def mark_text(telling: ScenarioRun) -> Text:
    """Return one character for the phase of a story."""
    if telling.phase is Phase.WAITING:
        return Text("·", "dim")
    if telling.phase is Phase.RUNNING:
        return Text("▸", "cyan")
    return Text("✓", "green") if telling.agrees else Text("✗", "bold red")


def verdict_text(telling: ScenarioRun) -> Text:
    """Return how a finished story ended."""
    return Text("as expected", "green") if telling.agrees else Text("NOT as expected", "bold red")

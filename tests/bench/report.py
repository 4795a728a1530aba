"""A table for people, the same for docs/benchmarks.md, and JSON to compare runs. A missed budget fails nothing."""

import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One budget: what was measured, its floor, and its limit."""

    name: str
    ours: str
    floor: str
    budget: str
    met: bool | None


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which ``share`` (0 to 1) of them lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(samples: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(samples)


def show(rows: Sequence[Row], folder: Path) -> None:
    """Print the table, and keep the rows."""
    table = Table(
        title="railwatch bench", caption=f"{platform.processor() or platform.machine()}, {time.strftime('%F')}"
    )
    for heading in ("what", "ours", "floor", "budget", "met"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.name, row.ours, row.floor, row.budget, {True: "yes", False: "NO", None: "-"}[row.met])
    Console(width=150).print(table)
    folder.mkdir(exist_ok=True)
    name = time.strftime("%Y%m%dT%H%M%S")
    (folder / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    (folder / f"{name}.md").write_text(markdown(rows))


def markdown(rows: Sequence[Row]) -> str:
    """The rows as docs/benchmarks.md shows them."""
    words = {True: "yes", False: "**no**", None: ""}
    lines = [f"| {row.name} | {row.ours} | {row.floor} | {row.budget} | {words[row.met]} |\n" for row in rows]
    return "".join(["| what | ours | floor | budget | met |\n|---|---|---|---|---|\n", *lines])

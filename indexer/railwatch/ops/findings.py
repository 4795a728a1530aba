"""What `railwatch check` has to say: findings, and a table of abilities for each node."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from railwatch.config import NodeConfig, RailConfig
from railwatch.ops.formatting import STYLES, printable_text
from railwatch.rail import Ability, RailAdapter
from railwatch.store.config_sync import RailMirror
from railwatch.store.rails import ResumePoint


@dataclass(frozen=True, slots=True)
class Daemon:
    """What `railwatch run` does at its start, for `railwatch check` to do as well, without anything that lasts.

    ``open_node`` and ``mirror_of`` raise ValueError where an adapter refuses a table. ``preview`` returns the state
    and the reason that a rail would have, and raises ValueError likewise. ``settings``: what is mirrored besides rails.
    """

    open_node: Callable[[RailConfig, NodeConfig], RailAdapter]
    named_nodes: Callable[[RailConfig], Mapping[str, NodeConfig]]
    mirror_of: Callable[[RailConfig], RailMirror]
    preview: Callable[[RailConfig, ResumePoint | None], Awaitable[tuple[str, str | None]]]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. ``hint`` is empty where there is nothing to do."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What one node serves of the methods that its rail asks."""

    rail: str
    node: str
    abilities: Sequence[Ability]


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found."""

    findings: Sequence[Finding]
    nodes: Sequence[NodeReport] = ()

    @property
    def failed(self) -> bool:
        """Whether anything stands in the daemon's way."""
        return any(each.level == "fail" for each in self.findings)


def render_report(report: Report) -> RenderableType:
    """Return the tables of abilities, and then a line for each finding, and what to do below it."""
    table = Table.grid(padding=(0, 2))
    for each in report.findings:
        table.add_row(
            Text(each.level, STYLES[each.level]), Text(f"{printable_text(each.subject)}: {printable_text(each.text)}")
        )
        if each.hint:
            table.add_row("", Text(printable_text(each.hint), "dim"))
    return Group(*(_abilities(node) for node in report.nodes if node.abilities), table)


WORDS = {True: Text("served", "green"), False: Text("refused", "yellow"), None: Text("unknown", "cyan")}


def _abilities(node: NodeReport) -> RenderableType:
    """One node's table; what is refused says in the last column what happens instead, and what to change."""
    table = Table(
        title=f"{printable_text(node.rail)} at {printable_text(node.node)}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column, share in (("method", 3), ("needed for", 3), ("answer", 1), ("without it; to have it", 4)):
        table.add_column(column, ratio=share, overflow="fold")
    for ability in node.abilities:
        told = WORDS[ability.served]
        without = ""
        if not ability.served:
            answer = f"{ability.answer}. " if ability.answer else ""
            without = f"{answer}{ability.fallback or 'the rail cannot use this node'}. {ability.remedy}"
        table.add_row(
            printable_text(ability.method), printable_text(ability.needed_for), told, Text(printable_text(without))
        )
    return Group(table, Text())

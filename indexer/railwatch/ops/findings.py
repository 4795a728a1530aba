"""The report of `railwatch check`: findings, and a table of methods for each node."""

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
    """The start of `railwatch run` as functions, which `railwatch check` calls without a lasting effect.

    ``open_node`` and ``mirror_of`` raise ValueError if an adapter refuses a table. ``preview`` returns the state and
    the reason that a rail would have, and raises ValueError likewise. ``settings``: the other stored settings.
    """

    open_node: Callable[[RailConfig, NodeConfig], RailAdapter]
    named_nodes: Callable[[RailConfig], Mapping[str, NodeConfig]]
    mirror_of: Callable[[RailConfig], RailMirror]
    preview: Callable[[RailConfig, ResumePoint | None], Awaitable[tuple[str, str | None]]]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. ``hint``: the fix; empty if there is none to make."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The methods that a rail needs, and whether one node serves them."""

    rail: str
    node: str
    abilities: Sequence[Ability]


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one `railwatch check`."""

    findings: Sequence[Finding]
    nodes: Sequence[NodeReport] = ()

    @property
    def failed(self) -> bool:
        """True if a finding prevents the daemon from starting or following a rail."""
        return any(each.level == "fail" for each in self.findings)


def render_report(report: Report) -> RenderableType:
    """Return each node's table of methods, and then a line for each finding with its hint below."""
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
    """Return one node's table. The last column says what replaces a refused method, and how to enable it."""
    table = Table(
        title=f"{printable_text(node.rail)} at {printable_text(node.node)}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column, share in (("method", 3), ("needed for", 3), ("answer", 1), ("without it; to enable it", 4)):
        table.add_column(column, ratio=share, overflow="fold")
    for ability in node.abilities:
        answer_text = WORDS[ability.served]
        without = ""
        if not ability.served:
            answer = f"{ability.answer}. " if ability.answer else ""
            without = f"{answer}{ability.fallback or 'the rail cannot use this node'}. {ability.remedy}"
        table.add_row(
            printable_text(ability.method),
            printable_text(ability.needed_for),
            answer_text,
            Text(printable_text(without)),
        )
    return Group(table, Text())

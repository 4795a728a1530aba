"""Whatever a text holds, no terminal, log or page obeys it: it is shown, escaped, and not without end."""

import ast
import copy
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import structlog
from rich.console import Console

from railwatch.cli.errors import format_error
from railwatch.cli.evidence import feed_line
from railwatch.cli.output import complain, emit, emit_line, say, show
from railwatch.config import ConfigError, Problem
from railwatch.ops.explain import render_dossier, render_invoice
from railwatch.ops.http import HealthServer
from railwatch.ops.list_tables import render_exceptions, render_invoices, render_rescans
from railwatch.ops.logs import configure_logging
from railwatch.ops.metrics import Metrics
from railwatch.ops.status import render_status
from railwatch.ops.webhooks import render_dead, render_endpoints
from railwatch.rail.printable import escaped_json, is_visible, printable
from railwatch.reasons import describe, one_line
from railwatch.store.database import Database
from railwatch.store.errors import Refused, StoreUnavailable
from railwatch.store.read_models import read_dossier, read_status
from railwatch.terminal import Escaped, make_console
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "[red]x[/red]",
    "[link=https://evil.example]x[/link]",
    "[/nothing] [bold",
    "\x1b[2J\x1b[31mred\x1b]8;;https://evil.example\x07x\x1b]8;;\x07",
    "\x9b31m\x85\x90",
    "a\u202eb\u2066c\u200bd\ufeffe\u2028f\u2029g\u00adh\u3164i\ufe0fj",
    "nul\0\b\b\b\r\nfalse line of a log\t\x7f",
    "\ud800 half",
    ":skull: {x} %s {0} \\x1b",
    "=cmd|' /C calc'!A0",
    "x" * 10_000,
)
SGR = re.compile(r"\x1b\[[0-9;]*m")
"""The colours that rich writes itself."""


def is_harmless(text: str) -> bool:
    return all(each == "\n" or is_visible(each) for each in SGR.sub("", text)) and "\ufffd" not in text


@pytest.mark.parametrize("text", HOSTILE)
def test_printable_shows_everything_in_one_line_within_its_bound(text: str) -> None:
    shown = printable(text, 200)
    assert is_harmless(shown)
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert len(shown) <= 200
    assert printable(shown, 200) == shown  # it may pass more than once on its way


def test_printable_names_what_it_escapes_and_leaves_what_people_write() -> None:
    assert printable("\x1b[31m\u202e\0\n") == r"\x1b[31m\u202e\x00\n"
    for text in ("Grüße, Zoë & 李小龍 — 5 €", "заказ №7", "طلب ٧", "naïve ♥ 🍕", "C:\\x1b"):
        assert printable(text) == text
    assert printable(10**5000) == "a number of thousands of digits"


@pytest.mark.parametrize("text", HOSTILE)
def test_json_on_a_terminal_is_harmless_and_loses_nothing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    emit({text: [text]})
    emit_line({text: text})
    whole, line, *rest = re.split(r"(?<=^\})\n|(?<=\})\n", capsys.readouterr().out)
    assert rest in ([""], [])
    assert is_harmless(whole + line)
    assert json.loads(whole) == {text: [text]}
    assert json.loads(line) == {text: text}
    assert json.loads(escaped_json(json.dumps([text], ensure_ascii=False))) == [text]


@pytest.mark.parametrize("text", HOSTILE)
def test_reasons_and_errors_are_one_harmless_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for made in (
        one_line(text),
        describe(ValueError(text)),
        format_error(StoreUnavailable(text)),
        format_error(Refused(text, "RW001", None)),
        str(Problem(text, text, text)),
    ):
        assert is_harmless(made)
        assert "\n" not in made
        assert len(made) <= 4_100
    assert is_harmless(format_error(ConfigError(None, [Problem(text, text)])))
    say(text)
    complain(text)
    captured = capsys.readouterr()
    assert is_harmless(captured.out + captured.err)


@pytest.fixture
def quiet_again() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize("output", ["json", "console"])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_line_is_harmless_in_either_form(
    text: str, output: Any, capsys: pytest.CaptureFixture[str], quiet_again: None
) -> None:
    configure_logging(output)
    log = structlog.get_logger().bind(rail=text)
    log.warning(text, hash=text, table={text: [text]}, reason=ValueError(text))
    try:
        raise RuntimeError(text)  # noqa: TRY301 - it is its traceback that is checked
    except RuntimeError:
        log.exception("failed")
    logging.getLogger("library").error("could not use %s", text)
    lines = capsys.readouterr().err.splitlines()
    assert all(map(is_harmless, lines))
    if output == "json":
        assert [json.loads(each)["level"] for each in lines] == ["warning", "error", "error"]
    # A traceback is moved to the right: no text within it passes for an event of its own.
    events = [each for each in lines if re.match(r"(\x1b\[\d+m)*\d{4}-", each)]
    assert output == "json" or len(events) == 3
    assert len("".join(lines)) < 150_000


KEPT = frozenset(
    {
        *(
            "state",
            "to_state",
            "subject",
            "kind",
            "severity",
            "time_basis",
            "rail_state",
            "watch_state",
            "invoice_state",
        ),
        *("policy_origin", "policy", "least", "most", "seen", "confirmed", "late", "rule", "from_state", "outcome"),
    }
)
"""Values of ours that CHECKs bound, that renderers use as keys."""


def poisoned(value: Any, text: str, key: str = "") -> Any:
    """The same, with every text that an outsider can have written replaced."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for each in fields(value):
            object.__setattr__(changed, each.name, poisoned(getattr(value, each.name), text, each.name))
        return changed
    if isinstance(value, dict):
        return {name: poisoned(each, text, str(name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(each, text, key) for each in value]
    if key in KEPT or not (isinstance(value, str) or (value is None and key in NULLABLE)):
        return value
    return text


NULLABLE = frozenset({"held", "watch_error", "rail_reason", "reference", "reason", "error", "notes", "owner", "node"})

RESCAN = {"id": uuid4(), "rail": "", "from_height": 1, "to_height": None, "next_height": 1, "found": 0}
NOW = datetime(2026, 11, 28, tzinfo=UTC)
ENDPOINT = {
    "name": "",
    "configured": True,
    "enabled": True,
    "lag": 1,
    "pending": 1,
    "dead": 1,
    "delivered": 0,
    "last_delivered_at": None,
    "last_failed_at": NOW,
    "last_failure": "",
}
DEAD = {"endpoint": "", "seq": 1, "type": "", "merchant_id": "", "order_id": "", "attempts": 1, "failure": ""}


async def test_no_foreign_text_reaches_a_terminal_raw(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows of a real story, with every text of them poisoned: an older row may hold what is refused today."""
    async with DaemonHarness(database, [chain_named()]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice, 150)
        await stage.mine(2)
        found = await read_dossier(database, invoice.id)
        status = await read_status(database)
    assert found is not None
    listed = {**found.invoice, "exceptions": 1}
    for text in HOSTILE:
        dossier = poisoned(found, text)
        odd = [poisoned({**each, **dict(dossier.invoice), "invoice_state": "paid"}, text) for each in found.exceptions]
        for renderable in (
            render_dossier(dossier),
            render_invoice(dossier),
            render_invoices([poisoned(listed, text)]),
            render_exceptions([{**each, "id": uuid4(), "kind": "reversed", "severity": "critical"} for each in odd]),
            render_rescans([poisoned({**RESCAN, "error": text, "outcome": "open"}, text)]),
            render_status(poisoned(status, text)),
            render_endpoints([poisoned(ENDPOINT, text)]),
            render_dead([poisoned(DEAD, text)]),
        ):
            for colour in (False, True):
                out = io.StringIO()
                console = make_console()
                console.file, console._force_terminal, console._color_system = out, colour, None
                console.print(renderable)
                assert is_harmless(out.getvalue()), ascii(out.getvalue())
                assert "evil.example\x07" not in out.getvalue()
            show(renderable)
        for row in dossier.transitions:
            say(feed_line(row))
    assert is_harmless(capsys.readouterr().out)


@pytest.mark.parametrize("text", [each for each in HOSTILE if "\ud800" not in each])
def test_pages_of_the_listener_are_harmless(text: str) -> None:
    metrics = Metrics()
    metrics.waiting({(text, text): 1}, {text: 1}, {text: 1})
    pages = HealthServer(metrics, SimpleNamespace(alive=False, unready={text: f"stalled: {text}"}))
    for path in ("/metrics", "/healthz", "/readyz", f"/{text}"):
        assert is_harmless(pages.answer(path).body.decode()), path
    series = pages.answer("/metrics").body.decode()
    assert len([line for line in series.splitlines() if line.startswith("railwatch_consumer_lag{")]) == 1, series


def test_the_console_parses_no_markup_and_escapes_what_a_renderer_forgot() -> None:
    out = io.StringIO()
    console = make_console()
    console.file = out
    for text in HOSTILE[:-1]:
        console.print(text, Escaped(text), soft_wrap=True)
    assert is_harmless(out.getvalue())
    assert "[red]x[/red]" in out.getvalue()
    assert ":skull:" in out.getvalue()


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_there_is_one_way_to_a_terminal() -> None:
    """One console, whose markup is off; no `print`; `click.echo` in one file; no markup is ever parsed."""
    for path in sorted((ROOT / "indexer/railwatch").rglob("*.py")):
        for name, call in _calls(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            assert name != "print", where
            assert not name.endswith(("from_markup", "render_markup", "from_ansi")), where
            if name == "Console":
                assert path.name == "terminal.py", where
                given = {each.arg: ast.unparse(each.value) for each in call.keywords}
                assert (given["markup"], given["emoji"], given["highlight"]) == ("False", "False", "False"), where
            if name == "click.echo":
                assert path.name in ("output.py", "audit.py"), where
            if name == "Live":
                drawn = next(ast.unparse(each.value) for each in call.keywords if each.arg == "console")
                assert drawn in ("console", "console()"), where
    assert isinstance(make_console(), Console)

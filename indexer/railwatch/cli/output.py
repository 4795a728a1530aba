"""The two ways in which commands answer: for people through rich, for programs as JSON."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from railwatch.rail.printable import escaped_json, printable
from railwatch.redaction import hidden
from railwatch.store.read_models import AMOUNTS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LINE_MOST, LINES_MOST = 8_000, 500
"""Characters of a line, and lines of one complaint."""


def emit(data: Any) -> None:
    """One JSON document."""
    click.echo(to_json(data, indent=2))


def emit_line(data: Any) -> None:
    """One line of JSON lines."""
    click.echo(to_json(data, separators=(",", ":")))


def to_json(data: Any, **options: Any) -> str:
    """Return ``data`` as JSON in which nothing is lost and nothing is invisible."""
    return escaped_json(json.dumps(jsonable(data), ensure_ascii=False, **options))


def say(text: object, *, err: bool = False) -> None:
    """Print one line for people, whatever is in it."""
    click.echo(printable(text, LINE_MOST), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print several lines for people, whatever is in each."""
    for line in text.split("\n"):
        say(line, err=err)


def show_progress(text: str) -> None:
    """Write ``text`` on stderr over what was written there before."""
    click.echo(f"\r{printable(text, LINE_MOST)}", nl=False, err=True)


def complain(text: str) -> None:
    """Print an error of one or several lines on stderr, each without a secret."""
    for line in hidden(text).split("\n")[:LINES_MOST]:
        say(line, err=True)


def jsonable(value: Any, key: str = "") -> Any:
    """``value`` in JSON's types. Amounts become strings: most readers of JSON would round them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: jsonable(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): jsonable(each, str(name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID | Decimal) or (key in AMOUNTS and isinstance(value, int)):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    return value


def console() -> "Console":
    """Where people read. Rich is imported only now, since most commands of a service never need it."""
    from railwatch.terminal import make_console

    return make_console()


def show(renderable: "RenderableType") -> None:
    """Print for people."""
    console().print(renderable)

"""The two output formats of commands: text for people through rich, JSON for programs."""

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
"""Maximum characters of a line, and lines of one error."""


def emit(data: Any) -> None:
    """Print one JSON document."""
    click.echo(to_json(data, indent=2))


def emit_line(data: Any) -> None:
    """Print one line of JSON lines."""
    click.echo(to_json(data, separators=(",", ":")))


def to_json(data: Any, **options: Any) -> str:
    """Return ``data`` as JSON without loss, and with invisible characters escaped."""
    return escaped_json(json.dumps(jsonable(data), ensure_ascii=False, **options))


def say(text: object, *, err: bool = False) -> None:
    """Print one line for people, with control characters escaped."""
    click.echo(printable(text, LINE_MOST), err=err)


def write_document(text: str) -> None:
    """Print a text that this version ships, as it is: a page of the manual, or the annotated configuration."""
    click.echo(text, nl=False)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print several lines for people, with control characters escaped."""
    for line in text.split("\n"):
        say(line, err=err)


def show_progress(text: str) -> None:
    """Write ``text`` on stderr over the previous progress."""
    click.echo(f"\r{printable(text, LINE_MOST)}", nl=False, err=True)


def complain(text: str) -> None:
    """Print an error of one or several lines on stderr, without secrets."""
    for line in hidden(text).split("\n")[:LINES_MOST]:
        say(line, err=True)


def jsonable(value: Any, key: str = "") -> Any:
    """Return ``value`` in JSON's types. Amounts become strings, because most JSON readers would round them."""
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
    """Return the console. This imports rich, which most commands of a service never need."""
    from railwatch.terminal import make_console

    return make_console()


def show(renderable: "RenderableType") -> None:
    """Print a page for people."""
    console().print(renderable)

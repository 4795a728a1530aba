"""The errors of a configuration: every problem at once, each with its key, its cause and the fix."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from railwatch.rail.printable import printable, quoted

KeyPath = tuple[int | str, ...]
"""A key within the tables: ``("rail", 0, "asset", 1, "decimals")``."""

NAME_SHOWN = 60
"""Characters of a name or a key that a path shows."""

CONFIDENTIAL = ("nodes", "options", "database")
"""Tables whose values no error repeats, because any of them may be a password."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. ``where`` is a path such as ``rail[local-evm].asset[USDC].decimals``."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.what}." + (f" {self.hint}" if self.hint else ""))


class ConfigError(Exception):
    """An invalid configuration. The text is a line with the file, and a line for each problem."""

    def __init__(self, path: Path | None, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = "1 error" if len(self.problems) == 1 else f"{len(self.problems)} errors"
        lines = [f"{path or 'configuration'} has {count}:", *(f"  {each}" for each in self.problems)]
        super().__init__("\n".join(lines))


def format_path(place: KeyPath, tables: Mapping[str, Any]) -> str:
    """Return a path as text: list items by their name or symbol if they have one, else by number from 1."""
    words: list[str] = []
    here: Any = tables
    for step in place:
        here = _inside(here, step)
        if isinstance(step, int):
            words[-1] += f"[{printable(_name_of(here) or step + 1, NAME_SHOWN)}]"
        else:
            words.append(printable(step, NAME_SHOWN))
    return ".".join(words) or "the file"


def _name_of(table: Any) -> str | None:
    """Return a table's name or symbol."""
    names = (table.get(key) for key in ("name", "symbol")) if isinstance(table, dict) else ()
    return next((each for each in names if isinstance(each, str) and each), None)


def _inside(here: Any, step: int | str) -> Any:
    if isinstance(here, dict):
        return here.get(step)
    if isinstance(here, list) and isinstance(step, int) and step < len(here):
        return here[step]
    return None


def problems_of(error: ValidationError, model: type[BaseModel], tables: Mapping[str, Any]) -> list[Problem]:
    """Return pydantic's findings about ``tables`` as problems."""
    found = error.errors(include_url=False)
    # Pydantic also reports a list with invalid items as too short, because none of them is left.
    echoes = {
        each["loc"]
        for each in found
        if each["type"] == "too_short" and any(_is_within(other["loc"], each["loc"]) for other in found)
    }
    return [_problem(each, model, tables) for each in found if each["loc"] not in echoes]


def _is_within(place: KeyPath, table: KeyPath) -> bool:
    return len(place) > len(table) and place[: len(table)] == table


def _problem(error: ErrorDetails, model: type[BaseModel], tables: Mapping[str, Any]) -> Problem:
    place = error["loc"]
    where = format_path(place, tables)
    if error["type"] == "extra_forbidden":
        return Problem(where, "unknown key", _known_keys(model, place))
    field = _field(model, place)
    hint = f"Give {field.description}." if field is not None and field.description else ""
    if error["type"] == "missing":
        return Problem(where, "is missing", hint)
    # The validators of `models` raise ValueError with a predicate that follows the path.
    own = error.get("ctx", {}).get("error")
    what = str(own) if isinstance(own, ValueError) else error["msg"].replace("Input should", "should")
    secret = set(CONFIDENTIAL) & set(place) or (field is not None and _is_secret(field.annotation))
    shown = isinstance(error["input"], str | int | float) and not secret
    return Problem(where, f"{quoted(error['input'])} {what}" if shown else what, hint)


def _known_keys(model: type[BaseModel], place: KeyPath) -> str:
    table = _model_at(model, place[:-1])
    keys = [field.alias or name for name, field in table.model_fields.items()] if table else []
    close = get_close_matches(str(place[-1]), keys, n=1)
    return f'Did you mean "{close[0]}"?' if close else f"Known here: {', '.join(keys)}."


def _field(model: type[BaseModel], place: KeyPath) -> FieldInfo | None:
    """Return the field at a path, or the nearest one above it."""
    steps = [step for step in place if isinstance(step, str)]
    table: type[BaseModel] | None = model
    found: FieldInfo | None = None
    for step in steps:
        fields = {field.alias or name: field for name, field in table.model_fields.items()} if table else {}
        if step not in fields:
            break
        found = fields[step]
        table = _nested(found.annotation)
    return found


def _model_at(model: type[BaseModel], place: KeyPath) -> type[BaseModel] | None:
    field = _field(model, place)
    return model if field is None else _nested(field.annotation)


def _is_secret(annotation: Any) -> bool:
    """Return True if a field may hold a `SecretStr`, the type of every field with a credential."""
    return annotation is SecretStr or any(_is_secret(each) for each in get_args(annotation))


def _nested(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside ``Model``, ``Model | None`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, UnionType):
        return next((found for each in get_args(annotation) if (found := _nested(each))), None)
    return None

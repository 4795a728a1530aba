"""Secrets by reference: ``password_file``, ``password_env`` and ``password_credential`` instead of ``password``.

The value replaces the reference, as a `SecretStr`, which no repr shows.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from railwatch.config.errors import KeyPath, Problem, format_path

SIZE_MAX = 65_536
"""Maximum bytes of a secret. A longer file is a mistaken path."""

SUFFIXES = ("_file", "_env", "_credential")


class Unresolved(ValueError):
    """A reference without a value; the text is "cause. Fix"."""


def resolve_references(tables: dict[str, Any], folder: Path, files: list[Path] | None = None) -> Iterator[Problem]:
    """Replace every reference within ``tables`` in place; relative paths start from ``folder``.

    Adds the files of ``_file`` references to ``files``.
    """
    for place, table in _tables_with_secrets(tables):
        for key in [key for key in table if key.endswith(SUFFIXES)]:
            plain = key[: -len(next(suffix for suffix in SUFFIXES if key.endswith(suffix)))]
            if plain not in _may_be_secret(place, plain):
                continue
            where = format_path((*place, key), tables)
            try:
                reference = table.pop(key)
                if files is not None and key.endswith("_file") and isinstance(reference, str):
                    files.append(folder / reference)
                value = _look_up(key, reference, folder)
            except Unresolved as error:
                yield Problem(where, *str(error).split(". ", 1))
                # A placeholder avoids a second problem for the missing value.
                value = _stand_in(place, plain)
            if plain in table:
                yield Problem(
                    where, f"{plain} is given twice", f"Keep one of {plain}, {', '.join(map(plain.__add__, SUFFIXES))}."
                )
            elif plain:
                table[plain] = SecretStr(value)


def _may_be_secret(place: KeyPath, plain: str) -> tuple[str, ...]:
    """Return the keys that allow references: any key of a node or of a rail's options, else a fixed list."""
    return {"database": ("url",), "deliver": ("proxy",), "webhook": ("url", "secret", "old_secret")}.get(
        str(place[0]), (plain,)
    )


def _tables_with_secrets(tables: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    if isinstance(tables.get("database"), dict):
        yield ("database",), tables["database"]
    if isinstance(tables.get("deliver"), dict):
        yield ("deliver",), tables["deliver"]
    for number, rail in items(tables, "rail"):
        if isinstance(rail.get("options"), dict):
            yield ("rail", number, "options"), rail["options"]
        for position, node in items(rail, "nodes"):
            yield ("rail", number, "nodes", position), node
            # Many hosted endpoints expect the API key in a header.
            if isinstance(node.get("headers"), dict):
                yield ("rail", number, "nodes", position, "headers"), node["headers"]
    for number, webhook in items(tables, "webhook"):
        yield ("webhook", number), webhook


def items(table: Mapping[str, Any], key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the tables of a list of tables with their positions; the models reject any other item."""
    found = table.get(key)
    for number, each in enumerate(found if isinstance(found, list) else ()):
        if isinstance(each, dict):
            yield number, each


def _look_up(key: str, reference: Any, folder: Path) -> str:
    if not isinstance(reference, str) or not reference:
        raise Unresolved("is not a text. Name a file, a variable or a credential")
    if key.endswith("_env"):
        value = os.environ.get(reference)
        if not value:
            raise Unresolved(
                f"the environment has no variable {reference}, or it is empty. Set it where the daemon starts"
            )
        return value
    if key.endswith("_file"):
        return _read(folder / reference)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if not credentials:
        raise Unresolved("systemd passed no credentials. Add LoadCredential= to the unit, or use a file or a variable")
    if "/" in reference:
        raise Unresolved("is a path. Give the name that LoadCredential= uses")
    return _read(Path(credentials) / reference)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
        value = data.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Unresolved(f"{path} cannot be read: {reason}. Give the path of a readable file") from None
    if not value or len(data) > SIZE_MAX:
        raise Unresolved(f"{path} is {'empty' if not value else 'too large'}. It must contain only the secret")
    return value


def _stand_in(place: KeyPath, key: str) -> str:
    """Return a placeholder that the models accept for ``key``."""
    if place == ("database",):
        return "embedded"
    if key in ("secret", "old_secret"):
        return "whsec_" + "A" * 32
    return {"ws": "ws://unresolved", "zmq": "tcp://unresolved"}.get(key, "http://unresolved")

"""Named queries, read from `sql/queries/*.sql`: one purpose each, in SQL, next to related queries.

A query is a line ``-- name: what_it_is``, a comment that says in one line what it is for, and its text up to the next
name. Each module reads its queries once, at import, so a missing name fails at start.
"""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def _all() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted((files("railwatch.store") / "sql" / "queries").iterdir(), key=lambda each: each.name):
        _, *parts = _NAME.split(file.read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"{file.name}: a query {name} exists already")
            if not text.startswith("-- "):
                raise ValueError(f"{file.name}: query {name} does not say what it is for")
            found[name] = text.strip()
    return found


def query(name: str) -> str:
    """Return the text of a named query. Raises KeyError if there is none."""
    return _all()[name]

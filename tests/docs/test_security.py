"""The tables in docs/security.md are what code and database have: bounds, and what each role may do."""

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from railwatch.store.database import Database

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()
BOUNDS = re.findall(r"^\| [^|]+ \| ([0-9.]+) \| `([\w.]+)\.([A-Z_]+)` \|$", PAGE, re.MULTILINE)


def test_every_row_of_the_table_is_read() -> None:
    table = PAGE.partition("\n## Bounds\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(BOUNDS) == len(rows) > 20


@pytest.mark.parametrize(("value", "module", "name"), BOUNDS)
def test_a_bound_is_what_the_page_says(value: str, module: str, name: str) -> None:
    assert getattr(import_module(module), name) == float(value)


RIGHTS = "select role, object, privileges from railwatch.rights"
READING = {"select", "usage", "execute"}


def role_rows(rights: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the rows of the table: for each role its functions, and what it writes straight into tables."""
    functions: dict[str, set[str]] = {}
    writes: dict[str, dict[str, set[str]]] = {}
    for role, of, given in ((row["role"], row["object"], row["privileges"]) for row in rights):
        functions.setdefault(role, set())
        name = of.removeprefix("function ").removeprefix("railwatch.")
        if given == "execute":
            functions[role].add(name)
        for each in re.findall(r"\w+(?: \([^)]*\))?", given):
            if each.partition(" ")[0] not in READING:
                writes.setdefault(role, {}).setdefault(name, set()).add(each.partition(" ")[0])
    return [
        f"| `{role}` | {', '.join(f'`{each}`' for each in sorted(functions[role])) or 'none'} | "
        + (
            ", ".join(
                f"`{table}` ({', '.join(sorted(kinds))})" for table, kinds in sorted(writes.get(role, {}).items())
            )
            or "none"
        )
        + " |"
        for role in sorted(functions)
    ]


def section(title: str) -> list[str]:
    """Return the rows of the table under a heading, without its head."""
    text = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


async def test_the_page_says_what_each_role_may_do(database: Database) -> None:
    expected = role_rows(await database.rows(RIGHTS))
    assert section("What each role may do") == expected, "\n" + "\n".join(expected)


async def test_the_page_says_what_each_function_lets_a_service_do_to_another_merchant(database: Database) -> None:
    rows = await database.rows(f"{RIGHTS} where role = 'railwatch_service' and privileges = 'execute'")
    listed = {name for line in section("What one service's login can do to another merchant") for name in cells(line)}
    assert listed == {row["object"].removeprefix("function railwatch.") for row in rows}


def cells(line: str) -> list[str]:
    """Return the names in a row's first cell."""
    return re.findall(r"`(\w+)`", line.split("|")[1])

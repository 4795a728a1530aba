"""The table of bounds in docs/security.md is what the code has."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()
BOUNDS = re.findall(r"^\| [^|]+ \| ([0-9.]+) \| `([\w.]+)\.([A-Z_]+)` \|$", PAGE, re.MULTILINE)


def test_every_row_of_the_table_is_read() -> None:
    table = PAGE.partition("\n## Bounds\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(BOUNDS) == len(rows) > 20


@pytest.mark.parametrize(("value", "module", "name"), BOUNDS)
def test_a_bound_is_what_the_page_says(value: str, module: str, name: str) -> None:
    assert getattr(import_module(module), name) == float(value)

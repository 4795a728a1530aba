"""The two ways that docs/architecture.md walks: each stage names a function that exists, and there are few stages."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()


def stages(title: str) -> list[tuple[str, str]]:
    """File and function of each numbered stage of a section."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/.]+)::([\w.]+)`", section, re.M)


def functions(path: Path) -> set[str]:
    """Names of the functions of a Python or SQL file; methods with their class."""
    if path.suffix == ".sql":
        return set(re.findall(r"create function railwatch\.(\w+)\(", path.read_text()))
    names = set()
    for node in ast.parse(path.read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        names |= {prefix + each.name for each in members if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return names


@pytest.mark.parametrize(("title", "most"), [("The way of a transfer", 10), ("The way of an invoice", 7)])
def test_a_way_is_short_and_each_stage_exists(title: str, most: int) -> None:
    found = stages(title)
    assert 5 <= len(found) <= most
    for file, function in found:
        path = ROOT / "indexer/railwatch" / file
        assert path.is_file(), file
        assert function in functions(path), f"{file}::{function}"

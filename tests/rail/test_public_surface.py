"""The names that docs/adapters.md calls public are those that the code exports, and no others."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import railwatch.rail

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adapters.md").read_text()
STABLE = PAGE.partition("### Stable")[2].partition("### Provisional")[0]
PROVISIONAL = PAGE.partition("### Provisional")[2].partition("## The hazards walk")[0]
PROVISIONAL_MODULES = re.findall(r"^\| `(railwatch\.rail\.\w+)` \|", PROVISIONAL, re.MULTILINE)
PARTS = {"abilities", "adapter", "errors", "simulator", "types"}
"""Modules whose names `railwatch.rail` itself exports."""


@pytest.mark.parametrize("package", ["railwatch.rail", "railwatch.conformance"])
def test_the_stable_names_are_those_that_are_exported(package: str) -> None:
    paragraph = re.search(rf"^`{package}`: (.*?)(?:\n\n|\Z)", STABLE, re.MULTILINE | re.DOTALL)
    assert paragraph is not None
    assert re.findall(r"`(\w+)`", paragraph[1]) == importlib.import_module(package).__all__


def test_every_module_is_stable_provisional_or_marked_as_private() -> None:
    (folder,) = railwatch.rail.__path__
    modules = {file.stem for file in Path(folder).glob("*.py") if not file.stem.startswith("_")}
    assert modules == PARTS | {name.rpartition(".")[2] for name in PROVISIONAL_MODULES}


@pytest.mark.parametrize("name", PROVISIONAL_MODULES)
def test_a_provisional_module_exports_what_it_has(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__
    assert all(hasattr(module, exported) for exported in module.__all__)


def test_our_own_adapters_use_only_what_a_third_party_may() -> None:
    used = {
        (node.module, alias.name)
        for file in (ROOT / "adapters").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("railwatch.")
        for alias in node.names
    }
    modules = {f"{module}.{name}" for module, name in used if f"{module}.{name}" in PROVISIONAL_MODULES}
    names = {(module, name) for module, name in used if f"{module}.{name}" not in modules}
    assert {(module, name) for module, name in names if name not in importlib.import_module(module).__all__} == set()

"""The documentation site: each page is in its navigation, and nothing in it comes from another host."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "mkdocs.yml").read_text()
NAVIGATION = re.findall(r"^ +- [^:]+: (\S+(?:\.md|/))$", CONFIG.partition("\nnav:\n")[2], re.MULTILINE)
FOLDERS = ("docs", "adapters", "indexer", "systemd")
PAGES = [
    page.relative_to(ROOT)
    for page in (*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")))
    if not any(part.startswith(".") or part == "node_modules" for part in page.relative_to(ROOT).parts)
]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_page_is_in_the_navigation_of_the_site(page: Path) -> None:
    assert str(page) in NAVIGATION or f"{page.parent}/" in NAVIGATION, "add it to mkdocs.yml"


def test_the_navigation_names_pages_that_are_here() -> None:
    assert [name for name in NAVIGATION if not (ROOT / name).exists()] == []


def test_the_site_fetches_nothing_from_another_host() -> None:
    assert "font: false" in CONFIG
    assert "http" not in CONFIG


def test_each_decision_is_in_the_index_and_short() -> None:
    index = (ROOT / "docs/adr/README.md").read_text()
    decisions = sorted((ROOT / "docs/adr").glob("0*.md"))
    assert len(decisions) >= 10
    for number, page in enumerate(decisions, 1):
        text = page.read_text()
        assert f"({page.name})" in index
        assert text.startswith(f"# {number}. ")
        assert len(text.splitlines()) < 60
        for part in ("Status: ", "## Context", "## Decision", "## Consequences", "## Rejected"):
            assert part in text, f"{page.name} has no {part}"

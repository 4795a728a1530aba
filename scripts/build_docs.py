"""Build the documentation site: collect the pages of the repository, then run mkdocs strictly.

Pages link to files outside of ``docs`` (README, the adapters' pages, a licence). So the site is built from a copy with
the repository's layout, below ``.railwatch/site/pages``. The result is ``.railwatch/site/html``.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.__main__ import cli

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / ".railwatch/site"
PAGES = SITE / "pages"
MERMAID = ROOT / ".dev/mermaid/mermaid.min.js"
FOLDERS = ("docs", "adapters", "indexer", "systemd", "config")
LINKED = {".md", ".sql", ".py", ".toml", ".service", ".conf", ".json"}
"""What a page may link to; of the packages only pages."""


def sources() -> Iterator[Path]:
    """Return the files that the site consists of, or that its pages link to."""
    yield from (*ROOT.glob("*.md"), ROOT / "LICENSE")
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            hidden = any(part.startswith(".") or part == "node_modules" for part in file.relative_to(ROOT).parts)
            wanted = file.suffix in LINKED and (folder not in ("adapters", "indexer") or file.suffix == ".md")
            if file.is_file() and wanted and not hidden:
                yield file


def without_source_links(page: Path, collected: set[Path]) -> str:
    """Return the page's text, in which a link to a file or folder that the site leaves out is only its words."""

    def words(link: re.Match[str]) -> str:
        target = (page.parent / link[2]).resolve()
        return link[1] if target.exists() and target not in collected else link[0]

    return re.sub(r"\[([^\]\n]+)\]\((?![a-z]+:)([^)#\s]+)[^)\s]*\)", words, page.read_text())


def collect() -> None:
    """Copy the pages, and the diagrams' script if it is here."""
    shutil.rmtree(PAGES, ignore_errors=True)
    collected = set(sources())
    for file in collected:
        copy = PAGES / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            copy.write_text(without_source_links(file, collected))
        else:
            shutil.copyfile(file, copy)
    if MERMAID.exists():
        (PAGES / "assets").mkdir()
        shutil.copyfile(MERMAID, PAGES / "assets/mermaid.min.js")
        shutil.copyfile(MERMAID.parent / "mermaid.LICENSE", PAGES / "assets/mermaid.LICENSE.txt")


if __name__ == "__main__":
    collect()
    command = sys.argv[1:] or ["build"]
    cli([*command, "--strict", "--config-file", str(ROOT / "mkdocs.yml")])

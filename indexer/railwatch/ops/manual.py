"""The pages and examples that come with the program: documentation, units of systemd, the configuration to start from.

The wheel carries them below ``railwatch/share`` in the folders of the repository, so that links between them work.
In a checkout, the repository itself is that folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import railwatch

FOLDERS = ("docs", "systemd", "config", "adapters")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")
EXAMPLE = Path("config/railwatch.example.toml")
RAIL_PAGE = "README.md"
SUFFIXES = (".md", ".sql", ".py", ".toml", ".json", ".conf", ".service")
"""Files that a person reads. Pictures and styles belong to the site of the documentation."""


@dataclass(frozen=True, slots=True)
class Page:
    """One file that a person may read. ``path`` is relative to the folder of all."""

    topic: str
    path: Path
    text: str

    @property
    def title(self) -> str:
        """The first heading of a page in Markdown; the path of any other file."""
        heading = next((line for line in self.text.splitlines() if line.startswith("# ")), "")
        return heading.removeprefix("# ") if self.path.suffix == ".md" and heading else str(self.path)


class PageNotFound(LookupError):
    """No page has the topic. The message names similar topics, and the command that lists all."""


class FileDiffers(Exception):
    """A file exists with another content. The message names it."""


def share_folder() -> Path:
    """Return the folder that holds the pages: ``share`` of the installed package, else the checkout."""
    package = Path(railwatch.__file__).parent
    installed = package / "share"
    return installed if installed.is_dir() else package.parents[1]


def pages() -> list[Page]:
    """Return all pages, the general ones first."""
    folder = share_folder()
    return [_page(folder, path) for path in _paths(folder)]


def find_page(topic: str) -> Page:
    """Return the page of ``topic``, in upper or lower case. Raises `PageNotFound`."""
    by_topic = {page.topic.lower(): page for page in pages()}
    page = by_topic.get(topic.lower())
    if page is None:
        similar = ", ".join(get_close_matches(topic.lower(), by_topic, n=3))
        hint = f"similar: {similar}" if similar else "`railwatch docs` lists all"
        raise PageNotFound(f'there is no page "{topic}"; {hint}')
    return page


def example_config() -> str:
    """Return the annotated configuration."""
    return (share_folder() / EXAMPLE).read_text(encoding="utf-8")


def write_pages(selected: Sequence[Page], folder: Path, *, force: bool) -> list[Path]:
    """Write pages below ``folder``, at their paths, and return where. Raises `FileDiffers` before the first write."""
    targets = {folder / page.path: page.text for page in selected}
    for target, text in targets.items():
        _refuse_other_content(target, text, force=force)
    for target, text in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return list(targets)


def write_example(target: Path, *, force: bool) -> None:
    """Write the annotated configuration to ``target``. Raises `FileDiffers` and OSError."""
    text = example_config()
    _refuse_other_content(target, text, force=force)
    target.write_text(text, encoding="utf-8")


def _refuse_other_content(target: Path, text: str, *, force: bool) -> None:
    if not force and target.exists() and (not target.is_file() or target.read_bytes() != text.encode()):
        raise FileDiffers(f"{target} exists and differs")


def _page(folder: Path, path: Path) -> Page:
    topic = str(path).removeprefix("docs/").removesuffix("/README.md").removesuffix(".md")
    return Page(topic, path, (folder / path).read_text(encoding="utf-8"))


def _paths(folder: Path) -> Iterator[Path]:
    """Yield the relative paths of all pages. An adapter has its sources in the same folder: only its page counts."""
    yield from (Path(name) for name in PAGES)
    for name in FOLDERS:
        pattern = f"*/{RAIL_PAGE}" if name == "adapters" else "**/*"
        yield from (path.relative_to(folder) for path in sorted((folder / name).glob(pattern)) if _is_page(path))


def _is_page(path: Path) -> bool:
    return path.is_file() and path.suffix in SUFFIXES

"""A file holds one idea, so no file of ours is above 400 lines (CONTRIBUTING, "House rules")."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 400
STILL_LONGER: dict[str, int] = {}
"""Files that are not split yet, with their length. A bound may only fall, and goes when its file is at the limit."""


def lengths() -> Iterator[tuple[str, int]]:
    """Return each Python and SQL file that we write, with its number of lines."""
    for suffix in ("py", "sql"):
        for file in ROOT.rglob(f"*.{suffix}"):
            path = file.relative_to(ROOT)
            if not any(part.startswith(".") or part == "node_modules" for part in path.parts):
                yield str(path), len(file.read_text().splitlines())


def test_no_file_is_longer_than_it_may_be() -> None:
    found = dict(lengths())
    assert len(found) > 500, "the search goes over the whole repository"
    longer = {path: count for path, count in found.items() if count > STILL_LONGER.get(path, LIMIT)}
    assert not longer, f"split these by idea, at most {LIMIT} lines each"


def test_what_is_split_has_no_bound_of_its_own_any_more() -> None:
    found = dict(lengths())
    over = [path for path in STILL_LONGER if found.get(path, 0) <= LIMIT]
    assert not over, "remove these from STILL_LONGER"

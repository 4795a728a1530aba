"""A house for every test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.demo_runner import DemoRunner
from tests.folders import database_folder


@pytest.fixture
def house(tmp_path: Path) -> Iterator[DemoRunner]:
    """A house with the demos of `tests.demo.others` installed in it."""
    package = tmp_path / "others-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[railwatch.demos]\nbrief = tests.demo.others:open_brief\nliar = tests.demo.others:open_liar\n"
    )
    # Postgres runs as another user when we are root, and pytest's own folders are closed to it.
    with tempfile.TemporaryDirectory(prefix="railwatch-house-", dir=database_folder()) as name:
        Path(name).chmod(0o711)
        yield DemoRunner(Path(name), tmp_path)

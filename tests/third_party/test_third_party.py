"""An outsider's rail, written from docs/adapters.md: the kit passes it, and its type checker sees our types."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent / "project"
WRONG = """
from railwatch.rail import Heads, RailAdapter


async def newest(rail: RailAdapter) -> Heads:
    return await rail.latest_heads()
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a module as an outsider does: in another folder, without our PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, outside our repository."""
    return Path(shutil.copytree(PROJECT, tmp_path_factory.mktemp("outside") / "project"))


def test_the_conformance_kit_passes_it(project: Path) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", "test_tiny.py", cwd=project)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_it_type_checks_against_our_types(project: Path) -> None:
    done = run("mypy", "--strict", "railwatch_tiny", "test_tiny.py", cwd=project)
    assert done.returncode == 0, done.stdout


def test_a_method_that_does_not_exist_is_refused(project: Path) -> None:
    (project / "wrong.py").write_text(WRONG)
    done = run("mypy", "--strict", "wrong.py", cwd=project)
    assert '"RailAdapter" has no attribute "latest_heads"' in done.stdout
    assert done.returncode == 1


def test_it_imports_nothing_of_ours_but_the_seam_and_the_kit() -> None:
    imported = {
        line.split()[1]
        for file in PROJECT.rglob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith(("from railwatch.", "import railwatch."))
    }
    assert {name.split(".")[1] for name in imported} == {"rail", "conformance"}

"""Both distributions as they are built: which files each carries, and that their versions are tied."""

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("railwatch", "railwatch_bitcoin", "railwatch_evm", "railwatch_fake", "railwatch_solana")
DEVELOPMENT = ("railwatch/demo/", "/dev/", "/contracts/", "/devnode/", "simulator.py", "demo.py", ".sol", ".mjs")
"""Parts of paths that only the distribution railwatch-dev has."""
SEAM = ("railwatch/rail/simulator.py", "railwatch/rail/demo.py", "railwatch/cli/demo.py")
"""The types of simulators and demos that a third party implements, and the command that asks for railwatch-dev."""


def build(project: Path, folder: Path) -> ZipFile:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return ZipFile(wheel)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    return build(ROOT, tmp_path_factory.mktemp("production"))


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    return build(ROOT / "dev", tmp_path_factory.mktemp("development"))


def members(wheel: ZipFile) -> set[str]:
    """The files of a wheel without its metadata."""
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def entry_points(wheel: ZipFile) -> str:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    return wheel.read(name).decode()


def sources(suffixes: Iterable[str]) -> set[str]:
    """The files of our packages in the repository, by their paths in a wheel."""
    return {
        str(path.relative_to(root))
        for root in (ROOT / "indexer", ROOT / "adapters")
        for path in root.rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }


def test_the_production_wheel_has_nothing_that_only_development_needs(production: ZipFile) -> None:
    wrong = {name for name in members(production) - set(SEAM) if any(part in name for part in DEVELOPMENT)}
    assert wrong == set()
    assert "railwatch.demos" not in entry_points(production)


def test_the_two_wheels_share_no_file_and_have_every_source_file(production: ZipFile, development: ZipFile) -> None:
    assert members(production) & members(development) == set()
    assert sources((".py", ".sql")) - members(production) - members(development) == set()


def test_the_development_wheel_has_only_development_parts(development: ZipFile) -> None:
    assert [name for name in members(development) if not any(part in name for part in DEVELOPMENT)] == []
    assert "railwatch.demos" in entry_points(development)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_marked_as_typed(production: ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in members(production)


def test_the_production_wheel_has_what_an_operator_reads(production: ZipFile) -> None:
    shipped = {name.removeprefix("railwatch/share/") for name in members(production) if "/share/" in name}
    folders = {
        str(path.relative_to(ROOT))
        for name in ("docs", "systemd", "config")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "adapters").glob("*/README.md")}
    assert shipped == folders | pages | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}


def project(path: str) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((ROOT / path).read_text())["project"]
    return table


def test_the_development_distribution_needs_the_same_version() -> None:
    production, development = project("pyproject.toml"), project("dev/pyproject.toml")
    requirements = development["dependencies"]
    assert isinstance(requirements, list)
    assert development["version"] == production["version"]
    assert requirements[0] == f"railwatch=={production['version']}"
    assert Distribution.from_name("railwatch-dev").version == production["version"]


def test_the_lock_file_of_development_covers_the_development_distribution() -> None:
    """The lock is made from pyproject.toml alone, because no index has railwatch itself."""
    extra, requirements = project("pyproject.toml")["optional-dependencies"], project("dev/pyproject.toml")
    assert isinstance(extra, dict)
    assert isinstance(requirements["dependencies"], list)
    assert set(requirements["dependencies"][1:]) <= set(extra["dev"])

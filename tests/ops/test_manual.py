"""`railwatch docs` and `railwatch config example`: what they print, what they write, and what they never overwrite."""

import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from railwatch.cli import main
from railwatch.cli.errors import Exit
from railwatch.ops import manual

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config/railwatch.example.toml").read_text()


def railwatch(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_docs_lists_every_page_with_its_title() -> None:
    lines = railwatch("docs").output.splitlines()
    titles = dict(line.split(maxsplit=1) for line in lines if line.strip())
    assert titles["runbooks/rail-stalled"] == "A rail is stalled"
    assert titles["systemd"] == "Railwatch under systemd"
    assert titles["adapters/railwatch_evm"] == "The EVM rail"
    assert {"contract", "consumers/fulfil.sql", "config/railwatch.example.toml", "CHANGELOG"} <= set(titles)
    assert not any(topic.startswith(("dev", "tests", "indexer")) for topic in titles)


def test_docs_prints_a_page_as_it_is() -> None:
    page = (ROOT / "docs/runbooks/rail-stalled.md").read_text()
    assert railwatch("docs", "runbooks/rail-stalled").output == page
    assert railwatch("docs", "RUNBOOKS/rail-stalled").output == page


def test_a_page_that_does_not_exist_is_refused_with_similar_ones() -> None:
    result = railwatch("docs", "contrakt")
    assert result.exit_code == Exit.NOT_FOUND
    assert 'there is no page "contrakt"; similar: contract' in result.output
    assert "`railwatch docs` lists all" in railwatch("docs", "zzz").output


def test_docs_writes_all_pages_so_that_links_between_them_work(tmp_path: Path) -> None:
    assert railwatch("docs", "--write", str(tmp_path)).exit_code == Exit.OK
    for path in ("README.md", "docs/contract.md", "systemd/railwatch.service", "adapters/railwatch_evm/README.md"):
        assert (tmp_path / path).read_text() == (ROOT / path).read_text()


def test_docs_overwrites_nothing_that_differs_and_then_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    unit = tmp_path / "systemd/railwatch.service"
    unit.write_text("of the operator")
    result = railwatch("docs", "--write", str(tmp_path))
    assert result.exit_code == Exit.REJECTED
    assert f"{unit} exists and differs; nothing is written. Name another place, or add --force" in result.output
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [unit.name]
    assert railwatch("docs", "systemd/railwatch.service", "--write", str(tmp_path), "--force").exit_code == Exit.OK
    assert unit.read_text() == (ROOT / "systemd/railwatch.service").read_text()


def test_config_example_prints_the_annotated_example() -> None:
    result = railwatch("config", "example")
    assert result.output == EXAMPLE
    assert tomllib.loads(result.output)["rail"]


def test_config_example_never_overwrites_silently(tmp_path: Path) -> None:
    file = tmp_path / "railwatch.toml"
    assert f"railwatch check --config {file}" in railwatch("config", "example", "--write", str(file)).output
    assert file.read_text() == EXAMPLE
    assert railwatch("config", "example", "--write", str(file)).exit_code == Exit.OK
    file.write_text("[database]")
    refused = railwatch("config", "example", "--write", str(file))
    assert refused.exit_code == Exit.REJECTED
    assert "exists and differs" in refused.output
    assert file.read_text() == "[database]"
    assert railwatch("config", "example", "--write", str(file), "--force").exit_code == Exit.OK
    assert file.read_text() == EXAMPLE


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    result = railwatch("config", "example", "--write", str(tmp_path / "missing/railwatch.toml"))
    assert result.exit_code == Exit.REJECTED
    assert "missing/railwatch.toml cannot be written: No such file or directory" in result.output


def test_an_installed_package_reads_its_own_share_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "railwatch"
    (package / "share").mkdir(parents=True)
    monkeypatch.setattr("railwatch.__file__", str(package / "__init__.py"))
    assert manual.share_folder() == package / "share"


def test_the_demo_without_its_distribution_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["railwatch.cli.demo"], "find_spec", lambda _: None)
    result = railwatch("demo")
    assert result.exit_code == Exit.REJECTED
    assert "the demo is not installed" in result.output
    assert "pip install railwatch-dev==0.1.0" in result.output

"""The unit is one that systemd accepts, and its promises fit the daemon's."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from railwatch.cli.errors import Exit

UNIT = Path(__file__).parents[2] / "systemd/railwatch.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are not to be lowered
    parser.read(UNIT)
    return parser["Service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_it(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/railwatch/.venv/bin/railwatch run", "/bin/true run")
    (tmp_path / "railwatch.service").write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "railwatch.service"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "railwatch.service" not in result.stderr


def test_it_does_not_restart_what_only_a_person_can_fix(service: configparser.SectionProxy) -> None:
    assert set(map(int, service["RestartPreventExitStatus"].split())) == {Exit.USAGE, Exit.SCHEMA}


def test_the_embedded_server_is_left_to_the_daemon(service: configparser.SectionProxy) -> None:
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 4 + 40


DELIVERER = UNIT.with_name("railwatch-deliver.service")


@pytest.mark.parametrize("unit", [UNIT, DELIVERER], ids=lambda unit: unit.stem)
def test_a_unit_has_bounds(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    for key in ("MemoryHigh", "MemoryMax", "TasksMax", "StartLimitIntervalSec", "StartLimitBurst", "LimitNOFILE"):
        assert sum(line.startswith(f"{key}=") for line in lines) == 1, key


def lines_of(name: str) -> list[str]:
    return UNIT.with_name(name).read_text().splitlines()


def test_the_deliverer_has_an_account_and_folders_that_are_not_the_daemons() -> None:
    keys = ("User", "Group", "StateDirectory", "ConfigurationDirectory", "WorkingDirectory")
    ours = {line for line in lines_of(DELIVERER.name) if line.startswith(keys)}
    assert len(ours) == len(keys) + 1  # and the folder's mode
    assert not ours & set(lines_of(UNIT.name)) - {"StateDirectoryMode=0700"}
    assert set(lines_of(UNIT.name)) >= {
        line for line in lines_of("deliver-embedded.conf") if line.startswith(("User", "Group"))
    }


def test_link_local_addresses_are_denied_only_where_no_name_server_has_one() -> None:
    """Clouds have name servers at 169.254.x.x, and without one no endpoint has an address."""
    assert not any(line.startswith("IPAddressDeny") for line in lines_of(DELIVERER.name))
    assert "IPAddressDeny=link-local" in lines_of("deliver-no-link-local.conf")
    steps = UNIT.with_name("README.md").read_text()
    assert "grep -qE '^nameserver (169\\.254\\.|fe80:)' /etc/resolv.conf ||\n    install" in steps


def test_what_builds_the_package_is_pinned_with_hashes_as_the_rest_is() -> None:
    folder = UNIT.parents[1] / "requirements"
    pins = [line.split()[0] for line in (folder / "build.lock").read_text().splitlines() if "==" in line]
    development = (folder / "dev.lock").read_text()
    assert {"hatchling", "editables"} < {each.partition("==")[0] for each in pins}
    assert all(f"{each} " in development for each in pins), "the same versions as in development"
    steps = (UNIT.with_name("README.md")).read_text()
    assert "--require-hashes -r requirements/build.lock" in steps
    assert "--no-deps --no-build-isolation ." in steps

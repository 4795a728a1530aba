"""`railwatch demo` as people run it: a process of its own, real nodes, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.evm.demo import EvmDemo

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0

pytestmark = pytest.mark.anvil


@dataclass
class House:
    """Where demos run: a temporary folder of their own, and packages that bring more of them."""

    tmp: Path
    site: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`railwatch ...`, its two streams captured."""
        environment = {**os.environ, "TMPDIR": str(self.tmp), "PYTHONPATH": str(self.site), "COLUMNS": "80"}
        return subprocess.Popen(
            [sys.executable, "-m", "indexer", *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The same to its end: exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=2 * PATIENCE)
        return process.returncode, out, err

    @property
    def folders(self) -> list[Path]:
        """What demos have left."""
        return list(self.tmp.glob("railwatch-demo-*"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house with the demos of `tests.demo.others` installed in it."""
    package = tmp_path / "others-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[railwatch.demos]\nbrief = tests.demo.others:open_brief\nliar = tests.demo.others:open_liar\n"
    )
    # Postgres runs as another user when we are root, and pytest's own folders are closed to it.
    with tempfile.TemporaryDirectory(prefix="railwatch-house-") as name:
        Path(name).chmod(0o711)
        yield House(Path(name), tmp_path)


def test_every_story_is_told_as_expected_and_nothing_stays(house: House) -> None:
    code, out, err = house.run("demo", "--rail", "evm", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["ok"] is True
    assert told["daemon"]["exit_code"] == 0
    assert [each["story"] for each in told["stories"]] == [each.name for each in EvmDemo().stories]
    assert all(each["seen"] == each["expected"] for each in told["stories"])
    assert {each["seconds_from_block_to_paid"] is None for each in told["stories"] if "exactly" in each["story"]} == {
        False
    }
    assert told["seconds"] < 120
    assert house.folders == []
    assert [pid for pid in pids_in(err) if is_alive(pid)] == []


def test_a_wrong_expectation_fails_and_the_table_says_which(house: House) -> None:
    code, out, err = house.run("demo", "--rail", "liar")
    assert code == 1, err
    assert "a lie (on local-evm) is not as expected" in out
    assert "expected  created → confirming → overpaid  !overpaid" in out
    assert "seen      created → confirming → paid\n" in out
    assert "1 of 2 stories as expected" in out
    [folder] = house.folders
    assert f"The end of the daemon's log, {folder / 'daemon.log'}:" in out
    assert "step.committed" in out
    assert sorted(each.name for each in folder.iterdir()) == ["anvil.log", "daemon.log", "railwatch.toml"]
    assert [pid for pid in pids_in(out) if is_alive(pid)] == []


def test_what_is_kept_lives_on_until_its_pids_are_killed(house: House) -> None:
    code, out, err = house.run("demo", "--rail", "brief", "--keep", "--json")
    assert code == 0, err
    kept = json.loads(out)["kept"]
    try:
        assert list(kept["pids"]) == ["daemon", "anvil"]
        before = rail_status(house, kept["config"])
        assert before["state"] == "live"
        eventually(lambda: rail_status(house, kept["config"])["cursor_height"] > before["cursor_height"])
    finally:
        for pid in kept["pids"].values():
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not any(is_alive(pid) for pid in kept["pids"].values()))
    postmaster = house.folders[0] / "postgres" / "cluster" / "postmaster.pid"
    eventually(lambda: not postmaster.exists())


def test_ctrl_c_ends_everything_that_was_started(house: House) -> None:
    with house.start("demo", "--rail", "evm") as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "the stories are lived" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    pids = pids_in("".join(lines))
    assert len(pids) == 2
    assert [pid for pid in pids if is_alive(pid)] == []
    assert house.folders == []


def test_a_daemon_that_dies_is_named_with_its_last_words(house: House) -> None:
    with house.start("demo", "--rail", "evm") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "the daemon runs" in line:
                [daemon] = pids_in(line)
            if "the stories are lived" in line:
                os.kill(daemon, signal.SIGKILL)
                break
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "daemon ended by itself with -9" in err
    assert "daemon.started" in err


def rail_status(house: House, config: str) -> dict[str, Any]:
    """The one rail, as `railwatch status` tells it."""
    code, out, err = house.run("status", "--json", "--config", config)
    assert code == 0, err
    [rail] = json.loads(out)["rails"]
    assert isinstance(rail, dict)
    return rail


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def pids_in(text: str) -> list[int]:
    """What the demo said that it had started."""
    return [int(pid) for pid in re.findall(r"\(pid (\d+)\)", text)]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"

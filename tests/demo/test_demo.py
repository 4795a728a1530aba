"""`railwatch demo` as people run it: a process of its own, real nodes, and nothing left behind."""

import json
import os
import signal

import pytest

from railwatch_evm.dev.demo import EvmDemo
from tests.demo.demo_runner import PATIENCE, DemoRunner, eventually, is_alive, pids_in, rail_status

pytestmark = pytest.mark.anvil


@pytest.mark.long
def test_every_story_runs_as_expected_and_nothing_stays(house: DemoRunner) -> None:
    code, out, err = house.run("demo", "--rail", "evm", "--json")
    assert code == 0, err
    outcome = json.loads(out)
    assert outcome["ok"] is True
    assert outcome["daemon"]["exit_code"] == 0
    assert [each["story"] for each in outcome["stories"]] == [each.name for each in EvmDemo().scenarios]
    assert all(each["seen"] == each["expected"] for each in outcome["stories"])
    assert {
        each["seconds_from_block_to_paid"] is None for each in outcome["stories"] if "exactly" in each["story"]
    } == {False}
    assert outcome["seconds"] < 120
    assert house.folders == []
    assert [pid for pid in pids_in(err) if is_alive(pid)] == []


def test_a_wrong_expectation_fails_and_the_table_says_which(house: DemoRunner) -> None:
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


def test_what_is_kept_lives_on_until_its_pids_are_killed(house: DemoRunner) -> None:
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


def test_ctrl_c_ends_everything_that_was_started(house: DemoRunner) -> None:
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


def test_a_daemon_that_dies_is_named_with_its_last_words(house: DemoRunner) -> None:
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

"""The daemon as a process: what it reports to its service manager and its pages, and its errors at a start."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from railwatch.cli.errors import Exit
from tests.folders import database_folder

PATIENCE = 20.0

CONFIG = """
[database]
data_dir = "data"
[[rail]]
name = "away"
adapter = "evm"
chain_id = "eip155:31337"
nodes = [{{ http_file = "url" }}]
[[rail.asset]]
symbol = "ETH"
[http]
listen = "127.0.0.1:{port}"
"""

SECRET = "c0ffee-c0ffee"


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that the embedded server's account can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="railwatch-run-", dir=database_folder()) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def port(place: Path) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = int(probe.getsockname()[1])
    (place / "url").write_text(f"http://127.0.0.1:9/{SECRET}")
    (place / "railwatch.toml").write_text(CONFIG.format(port=free))
    return free


def railwatch(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself, in the folder of its configuration."""
    command = [sys.executable, "-m", "railwatch", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def manager(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(place / "notify"))
        channel.settimeout(PATIENCE)
        yield channel


@pytest.fixture
def daemon(place: Path, port: int, manager: socket.socket) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "NOTIFY_SOCKET": str(place / "notify")}
    command = [sys.executable, "-m", "railwatch", "run"]
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(command, cwd=place, env=environment, stderr=log, text=True) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)


def hear(manager: socket.socket, field: str) -> str:
    """Wait for a field; returns the datagram that it came in."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        message = manager.recv(4096).decode()
        if field in message:
            return message
    raise AssertionError(f"{field} was not sent")


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_daemon_without_its_node_lives_says_so_and_ends_in_order(
    daemon: subprocess.Popen[str], place: Path, port: int, manager: socket.socket
) -> None:
    hear(manager, "READY=1")
    assert "WATCHDOG=1" in hear(manager, "STATUS=away stalled")
    assert page(port, "/healthz") == (200, "ok\n")
    status, text = page(port, "/readyz")
    assert status == 503
    assert text.startswith("away: stalled: ")
    assert 'railwatch_rail_state{rail="away",state="stalled"} 1.0' in page(port, "/metrics")[1]

    attached = railwatch(place, "status", "--json")
    assert attached.returncode == Exit.OK, attached.stderr
    (rail,) = json.loads(attached.stdout)["rails"]
    assert rail["state"] == "stalled"
    assert rail["holder"] is not None

    daemon.send_signal(signal.SIGTERM)
    hear(manager, "STOPPING=1")
    assert daemon.wait(PATIENCE) == Exit.OK
    log = (place / "log").read_text()
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "daemon.stopped"
    assert SECRET not in log
    assert not (place / "data/cluster/postmaster.pid").exists()


def test_commands_start_our_own_database_for_the_while(place: Path, port: int) -> None:
    missing = railwatch(place, "status")
    assert (missing.returncode, missing.stdout) == (Exit.SCHEMA, "")
    assert f"there is no database in {place}/data yet" in missing.stderr
    made = railwatch(place, "migrate", "--json")
    assert json.loads(made.stdout)["applied"][0]["version"] == 1
    assert railwatch(place, "status").returncode == Exit.OK
    assert not (place / "data/cluster/postmaster.pid").exists()


def test_what_lasts_does_not_run_a_database_that_a_daemon_could_come_to_need(place: Path, port: int) -> None:
    railwatch(place, "migrate")
    for words in (["status", "--watch"], ["feed", "--follow"]):
        result = railwatch(place, *words)
        assert result.returncode == Exit.DATABASE
        assert "start the daemon first: railwatch run" in result.stderr


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('"evm"', '"nope"', 'the daemon cannot start: there is no adapter "nope"; installed: '),
        ("{{ http", "{{ htp", "the daemon cannot start: node: unknown key 'htp'"),
    ],
)
def test_a_configuration_that_no_adapter_can_use(place: Path, port: int, was: str, becomes: str, message: str) -> None:
    (place / "railwatch.toml").write_text(CONFIG.replace(was, becomes).format(port=port))
    result = railwatch(place, "run")
    assert result.returncode == Exit.USAGE
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_used_port_ends_the_daemon_with_a_message(place: Path, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        result = railwatch(place, "run")
    assert result.returncode == Exit.USAGE
    assert f"[http] listen = 127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr

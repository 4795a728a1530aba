"""The service manager's socket: a real one, by path and in the abstract namespace."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from railwatch.ops.sd_notify import notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@railwatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(name.replace("@", "\0", 1))
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield channel


def test_fields_arrive_as_lines(manager: socket.socket) -> None:
    assert notify(READY=1, STATUS="following 3 rails")
    assert manager.recv(1000) == b"READY=1\nSTATUS=following 3 rails"


def test_a_value_cannot_begin_another_field(manager: socket.socket) -> None:
    assert notify(STATUS="halted\nSTOPPING=1")
    assert manager.recv(1000) == b"STATUS=halted STOPPING=1"


@pytest.mark.parametrize("name", [None, "", "relative", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert not notify(READY=1)

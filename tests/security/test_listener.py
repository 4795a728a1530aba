"""Clients that ask nothing, too much, too slowly or too often: a proper client is answered all the same."""

import asyncio
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from railwatch.ops import listener
from railwatch.ops.http import Page
from railwatch.ops.listener import CONNECTIONS_MOST, HEAD_MOST, Listening, open_sockets

SERVER = """
import asyncio, resource, sys
from types import SimpleNamespace
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
from railwatch.ops.http import serve
from railwatch.ops.logs import configure_logging
from railwatch.ops.metrics import Metrics
configure_logging("json")
async def main():
    ready = asyncio.Event()
    health = SimpleNamespace(alive=True, unready={})
    serving = asyncio.create_task(serve(Metrics(), ("127.0.0.1", int(sys.argv[1])), health, started=ready))
    await ready.wait()
    held = [open("/dev/null") for _ in range(int(sys.argv[3]))]
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def ask(port: int, request: bytes = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", patience: float = 10.0) -> bytes:
    """The whole answer; what was reset or closed without one is empty."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as client:
            client.sendall(request)
            answer = b""
            while more := client.recv(65_536):
                answer += more
            return answer
    except OSError:
        return b""


def until_answered(port: int, patience: float) -> float:
    """Seconds until /healthz answers."""
    begun = time.monotonic()
    while time.monotonic() - begun < patience:
        if ask(port, patience=1.0).startswith(b"HTTP/1.1 200"):
            return time.monotonic() - begun
    raise AssertionError(f"no answer within {patience} s")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(port: int, tmp_path: Path) -> Iterator[object]:
    """A process with so many file descriptors at most, of which it holds so many itself."""
    with ExitStack() as stack:

        def started(limit: int, held: int) -> Path:
            log = tmp_path / "log"
            process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(port), str(limit), str(held)],
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(log.open("wb")),
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "indexer")},
            )
            stack.callback(process.wait, 10)
            stack.callback(process.send_signal, signal.SIGKILL)
            assert process.stdout is not None
            stack.enter_context(process.stdout)
            assert select.select([process.stdout], [], [], 30)[0]
            assert process.stdout.readline() == b"ready\n"
            return log

        yield started


@pytest.mark.parametrize("held", [0, 215])
def test_250_idle_connections_at_256_descriptors_cost_no_answer_and_no_log(start: object, port: int, held: int) -> None:
    """Also where the process holds nearly all of them itself, so that accepting fails again and again."""
    log = start(256, held)  # type: ignore[operator]
    with ExitStack() as stack:
        for _ in range(250):
            idle = stack.enter_context(socket.socket())
            idle.setblocking(False)
            idle.connect_ex(("127.0.0.1", port))
            select.select([], [idle], [], 0.05)
            with suppress(OSError):
                idle.send(b"GET /healthz HTTP/1.1\r\nX-Half: ")
        assert until_answered(port, 20) < 20
    assert until_answered(port, 10) < 10
    lines = log.read_text().splitlines()
    assert len(lines) <= 2, lines[:5]
    assert all(json.loads(each)["event"] == "http.exhausted" for each in lines)


BIG = 50_000_000
"""Bytes: more than the buffers between two sockets hold."""


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    sockets = await open_sockets("127.0.0.1", 0)
    pages = {"/big": Page(200, b"x" * BIG)}
    task = asyncio.create_task(Listening(lambda path: pages.get(path, Page(200, b"ok"))).run(sockets))
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


BAD = {
    b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (2 * HEAD_MOST) + b"\r\n\r\n": b"HTTP/1.1 431 ",
    b"\r\n" * 9000: b"HTTP/1.1 400 ",
    b"POST /healthz HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 4000: b"HTTP/1.1 405 ",
    b"TRACE / HTTP/1.1\r\n\r\n": b"HTTP/1.1 405 ",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": b"HTTP/1.1 400 ",
    b"GET http://x/ HTTP/1.1\r\n\r\n": b"HTTP/1.1 400 ",
    b"GET / SMTP\r\n\r\n": b"HTTP/1.1 400 ",
    b"\r\n\r\n": b"HTTP/1.1 400 ",
    b"HEAD /healthz HTTP/1.0\r\n\r\n": b"HTTP/1.1 200 ",
}


@pytest.mark.parametrize("request_", BAD)
async def test_what_is_no_request_is_rejected_and_dropped(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as port:
        answer = await asyncio.to_thread(ask, port, request_)
        assert answer.startswith(BAD[request_]) or (len(request_) > HEAD_MOST and answer == b"")
        assert (await asyncio.to_thread(ask, port)).endswith(b"ok")
    assert caplog.records == []


async def test_a_client_that_drips_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.3)
    async with listening() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        begun = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - begun < 5:
                writer.write(b"G")
                await writer.drain()
                await asyncio.sleep(0.02)
        assert 0.2 < time.monotonic() - begun < 3
        writer.close()


async def test_a_client_that_never_reads_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.3)
    async with listening() as port:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            await asyncio.sleep(0.6)
            got = await asyncio.to_thread(_drain, deaf)
    assert got < BIG


def _drain(client: socket.socket) -> int:
    got = 0
    with suppress(OSError):
        while more := client.recv(65_536):
            got += len(more)
    return got


async def test_the_oldest_idle_connection_gives_way_and_the_newest_is_answered() -> None:
    async with listening() as port:
        with ExitStack() as stack:
            for _ in range(3 * CONNECTIONS_MOST):
                stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(b"GET ")
                await asyncio.sleep(0)
            begun = time.monotonic()
            assert (await asyncio.to_thread(ask, port)).endswith(b"ok")
            assert time.monotonic() - begun < 3


def test_this_process_may_open_enough() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 512

"""Hostile clients of a listener, for some seconds: a proper client is answered, and no secret is shown.

The long form is ``make fuzz-clients``: more of them, and a loop that is stuck is a failure too.
"""

import asyncio
import gc
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from railwatch import redaction
from railwatch.allocator import give_large_blocks_back
from railwatch.ops.http import serve
from railwatch.ops.listener import CONNECTIONS_MOST
from railwatch.ops.metrics import Metrics
from tests.fuzz.clients import ACTS, GOOD, reset_after
from tests.fuzz.nodes.monitor import LoopWatch, resident_mib
from tests.webhooks.shop import until

CLIENTS = int(os.environ.get("RAILWATCH_CLIENTS", "600"))
STRICT = "RAILWATCH_CLIENTS" in os.environ
AT_ONCE = 2 * CONNECTIONS_MOST
SEED = 1
SECRET = "S3CRET-of-the-database"
ANSWERED_WITHIN = 30.0
"""Seconds that an honest client asks for before it counts as unanswered; some milliseconds are usual."""
ACT_MOST = 8.0
"""Seconds after which a hostile client leaves; the listener has left it before."""
STALL_MOST, MEMORY_MOST = 0.25, 32.0
"""Seconds without a turn of the loop, and MiB over the start: what all of them may cost in the long form."""


@dataclass(slots=True)
class Health:
    """A daemon with a rail whose reason has a secret in it."""

    alive: bool = True
    unready: dict[str, str] = field(default_factory=lambda: {"story": f"stalled: no, {SECRET}"})


@asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Yield the port of a daemon's pages."""
    monkeypatch.setattr(redaction, "_secrets", set())
    monkeypatch.setattr(redaction, "_pattern", None)
    redaction.hide([SECRET])
    metrics, ready = Metrics(), asyncio.Event()
    for number in range(200):
        metrics.rail(f"rail-{number}", state="live", height=1, tip=1, finalized=1, watched=1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    task = asyncio.create_task(serve(metrics, ("127.0.0.1", port), Health(), started=ready))
    await ready.wait()
    try:
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(port: int) -> bytes:
    """Ask for /readyz as a load balancer does, again until there is an answer; returns that."""
    async with asyncio.timeout(ANSWERED_WITHIN):
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(GOOD)
                    if answer := await reader.read():
                        return answer
                finally:
                    writer.close()
            await asyncio.sleep(0.01)


def judge(answer: bytes) -> None:
    """Check that a response is one answer in HTTP, and holds no secret."""
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert SECRET.encode() not in answer
    assert b"Traceback" not in answer


async def test_a_proper_client_is_answered_among_hostile_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: Counter[str] = Counter()
    numbers = iter(range(CLIENTS))

    async def hostile(number: int) -> None:
        dice = random.Random(f"{SEED}/{number}")
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(ACT_MOST):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    act = dice.choice(ACTS)
                    done[act.__name__] += 1
                    judge(await act(reader, writer, dice))
                finally:
                    writer.transport.abort()

    async def one_after_another() -> None:
        for number in numbers:
            await hostile(number)

    if STRICT:
        give_large_blocks_back()  # as the daemon does at its start
    async with serving(monkeypatch) as port:
        tasks, files = await _resting(port)
        memory = resident_mib()
        async with LoopWatch() as watch, asyncio.TaskGroup() as group:
            clients = [group.create_task(one_after_another()) for _ in range(AT_ONCE)]
            asked = 0
            while not all(each.done() for each in clients):
                answer = await ask(port)
                judge(answer)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"story: stalled" in answer
                asked += 1
                await asyncio.sleep(0.02)
        cost = f"{watch.longest * 1000:.0f} ms without a turn {watch.where}, {resident_mib() - memory:.0f} MiB more"
        print(f"{asked} honest answers next to {dict(done)}; {cost}")
        assert set(done) == {each.__name__ for each in ACTS}
        await _until_left(tasks, files)
        if STRICT:
            assert watch.longest < STALL_MOST, watch.where
            gc.collect()  # the hostile clients' own
            assert resident_mib() - memory < MEMORY_MOST
    assert caplog.records == []


async def test_a_client_that_resets_at_any_byte_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(monkeypatch) as port:
        tasks, files = await _resting(port)
        for sent in range(len(GOOD) + 1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GOOD[:sent])
            await asyncio.sleep(0)
            reset_after(writer)
        judge(await ask(port))
        await _until_left(tasks, files)
    assert caplog.records == []


async def _resting(port: int) -> tuple[int, int]:
    """Tasks and files of a listener that has answered once, and does nothing now."""
    judge(await ask(port))
    await asyncio.sleep(0.1)
    return len(asyncio.all_tasks()), _files()


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until_left(tasks: int, files: int) -> None:
    """Wait until every connection is closed on both sides."""
    await until(lambda: len(asyncio.all_tasks()) <= tasks and _files() <= files, 30)

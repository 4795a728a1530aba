"""Metrics and health pages, asked over a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from railwatch.ops import http
from railwatch.ops.http import CannotListen, HealthServer, serve
from railwatch.ops.metrics import Metrics


@dataclass
class Health:
    alive: bool = True
    unready: dict[str, str] = field(default_factory=dict)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def pages(metrics: Metrics, health: Health) -> AsyncIterator[aiohttp.ClientSession]:
    port, started = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve(metrics, ("127.0.0.1", port), health, started=started))
    await asyncio.wait_for(started.wait(), 5)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def get(pages: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with pages.get(path) as response:
        return response.status, await response.text()


async def test_metrics_show_what_waits_for_people_and_readers(pages: aiohttp.ClientSession, metrics: Metrics) -> None:
    metrics.waiting({("reversed", "critical"): 2}, {"fulfilment": 7, "gone": 1}, {"story": 3, "well": 1})
    metrics.waiting({("late", "warning"): 1}, {"fulfilment": 0}, {"story": 2})
    _, text = await get(pages, "/metrics")
    for line in [
        'railwatch_open_exceptions{kind="reversed",severity="critical"} 0.0',
        'railwatch_open_exceptions{kind="late",severity="warning"} 1.0',
        'railwatch_consumer_lag{consumer="fulfilment"} 0.0',
    ]:
        assert line in text
    assert "gone" not in text


async def test_metrics_show_where_each_rail_is(pages: aiohttp.ClientSession, metrics: Metrics) -> None:
    metrics.rail("shop", state="live", height=7, tip=9, finalized=3, watched=1000)
    status, text = await get(pages, "/metrics")
    assert status == 200
    for line in [
        'railwatch_rail_height{rail="shop"} 7.0',
        'railwatch_rail_tip{rail="shop"} 9.0',
        'railwatch_rail_behind{rail="shop"} 2.0',
        'railwatch_rail_finalized{rail="shop"} 3.0',
        'railwatch_rail_state{rail="shop",state="live"} 1.0',
        'railwatch_rail_state{rail="shop",state="halted"} 0.0',
        'railwatch_rail_watched_addresses{rail="shop"} 1000.0',
    ]:
        assert line in text.splitlines()
    assert "process_resident_memory_bytes" in text


async def test_time_since_progress_grows_until_the_height_changes(metrics: Metrics) -> None:
    def seconds() -> float:
        lines = metrics.text().decode().splitlines()
        return next(float(each.split()[-1]) for each in lines if each.startswith("railwatch_rail_seconds_since_prog"))

    metrics.rail("shop", state="live", height=7, tip=7, finalized=None, watched=0)
    await asyncio.sleep(0.05)
    metrics.rail("shop", state="live", height=7, tip=7, finalized=None, watched=0)
    before = seconds()
    assert before >= 0.05
    metrics.rail("shop", state="live", height=8, tip=8, finalized=None, watched=0)
    assert seconds() < before


async def test_health_is_about_the_process_and_readiness_about_every_rail(
    pages: aiohttp.ClientSession, health: Health
) -> None:
    assert await get(pages, "/healthz") == (200, "ok\n")
    assert await get(pages, "/readyz") == (200, "ok\n")
    health.unready = {"shop": "stalled: the node is unreachable"}
    assert await get(pages, "/readyz") == (503, "shop: stalled: the node is unreachable\n")
    assert (await get(pages, "/healthz"))[0] == 200
    health.alive = False
    assert (await get(pages, "/healthz"))[0] == 503


async def test_a_used_port_is_reported(metrics: Metrics, health: Health) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = ("127.0.0.1", int(other.getsockname()[1]))
        with pytest.raises(CannotListen, match=r"\[http\] listen = 127.0.0.1:.*set another port"):
            await serve(metrics, address, health)


class Counted:
    """Numbers that count how often they are written out."""

    times = 0

    def text(self) -> bytes:
        self.times += 1
        return b"x 1\n"


def test_numbers_are_written_out_once_however_often_they_are_asked_for(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CACHE_SECONDS", 1e9)
    numbers = Counted()
    pages = HealthServer(numbers, health)
    assert {pages.answer("/metrics").body for _ in range(100)} == {b"x 1\n"}
    assert numbers.times == 1

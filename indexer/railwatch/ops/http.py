"""Metrics and health over HTTP: ``/metrics``, ``/healthz`` (the process works), ``/readyz`` (every rail is live)."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from railwatch.ops.listener import Listening, open_sockets
from railwatch.ops.metrics import CONTENT_TYPE
from railwatch.rail.printable import printable
from railwatch.redaction import hidden
from railwatch.supervision import keep_running

PLAIN = "text/plain; charset=utf-8"
PAGE_MOST = 8_000_000
"""Maximum bytes of an answer. A larger page would block the process, and no monitoring system reads it."""

CACHE_SECONDS = 1.0
"""Seconds for which the server reuses the text of the metrics. Rendering blocks the process, and any
client that reaches the listener may ask at any rate."""


class CannotListen(Exception):
    """The address of ``[http] listen`` is unusable."""


class MetricsSource(Protocol):
    """The source of the metrics."""

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""


class HealthSource(Protocol):
    """The source of the health pages."""

    @property
    def alive(self) -> bool:
        """True while every loop of the process makes progress."""

    @property
    def unready(self) -> Mapping[str, str]:
        """Rails that are not live, by name, each with its state and reason."""


@dataclass(frozen=True, slots=True)
class Page:
    """One HTTP answer."""

    status: int
    body: bytes
    kind: str = PLAIN


class HealthServer:
    """The three pages: metrics, liveness and readiness."""

    def __init__(self, metrics: MetricsSource, readiness: HealthSource) -> None:
        self._metrics = metrics
        self._health_source = readiness
        self._text, self._made_at = b"", -CACHE_SECONDS

    def answer(self, path: str) -> Page:
        """Return the page at ``path``, which may hold a query."""
        page = {"/metrics": self._metrics_page, "/healthz": self._healthz, "/readyz": self._readyz}.get(
            path.partition("?")[0]
        )
        return page() if page is not None else Page(404, b"not found; the pages are /metrics, /healthz and /readyz\n")

    def _metrics_page(self) -> Page:
        if monotonic() - self._made_at >= CACHE_SECONDS:
            self._text = self._metrics.text()
            self._made_at = monotonic()
        text = self._text
        return (
            Page(200, text, CONTENT_TYPE)
            if len(text) <= PAGE_MOST
            else Page(500, b"the metrics are too large; the limit is 8 MB\n")
        )

    def _healthz(self) -> Page:
        """Return 503 if a loop is stuck: only a restart of the process helps then."""
        alive = self._health_source.alive
        return (
            Page(200, b"ok\n")
            if alive
            else Page(503, b"a loop of this process is stuck; restart it (docs/runbooks/watchdog-restart.md)\n")
        )

    def _readyz(self) -> Page:
        """Return 503 with a line for each rail that is not live: no news of such a rail is not proof of no payment."""
        unready = self._health_source.unready
        lines = [printable(hidden(f"{rail}: {reason}")) + "\n" for rail, reason in unready.items()]
        return Page(503 if unready else 200, "".join(lines).encode() or b"ok\n")


async def serve(
    metrics: MetricsSource,
    listen: tuple[str, int],
    readiness: HealthSource,
    *,
    started: asyncio.Event | None = None,
    failed: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve on ``listen`` (host, port) until cancelled; set ``started`` once the sockets listen.

    Raises `CannotListen` at the start only. ``failed`` receives the name of a task that fails later and restarts.
    """
    answer, sockets = HealthServer(metrics, readiness).answer, await _listen(listen)
    if started is not None:
        started.set()

    async def act() -> None:
        nonlocal sockets
        ours, sockets = sockets or await _listen(listen), []
        await Listening(answer, failed).run(ours)

    await keep_running("http", act, failed)


async def _listen(listen: tuple[str, int]) -> list[socket.socket]:
    host, port = listen
    try:
        return await open_sockets(host, port)
    except OSError as error:
        raise CannotListen(
            f"[http] listen = {host}:{port}: {error.strerror or error}; set another port there"
        ) from error

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
"""Bytes of an answer. A page that is larger would hold up the process, and no monitoring system reads it."""

NUMBERS_LAST = 1.0
"""Seconds for which the metrics are told again as they were: to write them out holds up the process, and anybody who
reaches the listener may ask as often as they like."""


class CannotListen(Exception):
    """The address of ``[http] listen`` cannot be used."""


class MetricsSource(Protocol):
    """Where the metrics come from."""

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""


class HealthSource(Protocol):
    """What the health pages ask."""

    @property
    def alive(self) -> bool:
        """Whether the daemon's loops turn."""

    @property
    def unready(self) -> Mapping[str, str]:
        """Rails that are not live, each with its state and reason."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    body: bytes
    kind: str = PLAIN


class HealthServer:
    """The three pages."""

    def __init__(self, metrics: MetricsSource, readiness: HealthSource) -> None:
        self._metrics = metrics
        self._health_source = readiness
        self._text, self._made_at = b"", -NUMBERS_LAST

    def answer(self, path: str) -> Page:
        """Return the page at ``path``, which may hold a query."""
        page = {"/metrics": self._metrics_source, "/healthz": self._healthz, "/readyz": self._readyz}.get(
            path.partition("?")[0]
        )
        return page() if page is not None else Page(404, b"there are /metrics, /healthz and /readyz\n")

    def _metrics_source(self) -> Page:
        if monotonic() - self._made_at >= NUMBERS_LAST:
            self._text = self._metrics.text()
            self._made_at = monotonic()
        text = self._text
        return Page(200, text, CONTENT_TYPE) if len(text) <= PAGE_MOST else Page(500, b"the metrics are too large\n")

    def _healthz(self) -> Page:
        """503 asks for a restart: nothing else than that helps against a loop that no longer turns."""
        alive = self._health_source.alive
        return Page(200, b"ok\n") if alive else Page(503, b"a rail's loop has stopped turning\n")

    def _readyz(self) -> Page:
        """503 while any rail is not live, with a line for each: silence of such a rail is no answer."""
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
    """Serve on ``listen`` (host, port) until cancelled; ``started`` is set once it listens. Raises `CannotListen`.

    That is raised at the start alone. What fails later is told to ``failed``, and begins again.
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
        raise CannotListen(f"[http] listen = {host}:{port}: {error.strerror or error}; choose another port") from error

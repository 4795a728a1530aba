"""Metrics and health over HTTP: ``/metrics``, ``/healthz`` (the process works), ``/readyz`` (every rail is live)."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from indexer.ops.metrics import CONTENT_TYPE


class CannotListen(Exception):
    """The address of ``[http] listen`` cannot be used."""


class Numbers(Protocol):
    """Where the metrics come from."""

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""


class Readiness(Protocol):
    """What the health pages ask."""

    @property
    def alive(self) -> bool:
        """Whether the daemon's loops turn."""

    @property
    def unready(self) -> Mapping[str, str]:
        """Rails that are not live, each with its state and reason."""


class Pages:
    """The three pages."""

    def __init__(self, metrics: Numbers, readiness: Readiness) -> None:
        self._metrics = metrics
        self._readiness = readiness

    async def metrics(self, _: web.Request) -> web.Response:
        """In Prometheus' text format."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(self, _: web.Request) -> web.Response:
        """503 asks for a restart: nothing else than that helps against a loop that no longer turns."""
        alive = self._readiness.alive
        return web.Response(
            status=200 if alive else 503, text="ok\n" if alive else "a rail's loop has stopped turning\n"
        )

    async def readyz(self, _: web.Request) -> web.Response:
        """503 while any rail is not live, with a line for each: silence of such a rail is no answer."""
        unready = self._readiness.unready
        lines = [f"{rail}: {reason}\n" for rail, reason in unready.items()]
        return web.Response(status=503 if unready else 200, text="".join(lines) or "ok\n")


async def serve(
    metrics: Numbers, listen: tuple[str, int], readiness: Readiness, *, started: asyncio.Event | None = None
) -> None:
    """Serve on ``listen`` (host, port) until cancelled; ``started`` is set once it listens. Raises `CannotListen`."""
    pages = Pages(metrics, readiness)
    app = web.Application()
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    host, port = listen
    try:
        await web.TCPSite(runner, host, port).start()
        if started is not None:
            started.set()
        await asyncio.Event().wait()
    except OSError as error:
        raise CannotListen(f"[http] listen = {host}:{port}: {error.strerror or error}; choose another port") from error
    finally:
        await runner.cleanup()

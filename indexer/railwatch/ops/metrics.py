"""What a monitoring system is told: where each rail is and since when nothing has moved, and what waits for people."""

import time
from collections.abc import Mapping
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from railwatch.rail.printable import printable

CONTENT_TYPE = CONTENT_TYPE_LATEST
STATES = ("standby", "starting", "syncing", "live", "stalled", "halted")


class Metrics:
    """The gauges of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"railwatch_rail_{name}", meaning, ("rail", *labels), registry=registry)

        self._height = gauge("height", "Height of the last committed block.")
        self._tip = gauge("tip", "Height of the node's newest block.")
        self._behind = gauge("behind", "Blocks between the two.")
        self._finalized = gauge("finalized", "Height of the last final block.")
        self._state = gauge("state", "1 for the state that the rail is in.", "state")
        self._watched = gauge("watched_addresses", "Addresses that are looked for.")
        self._since = gauge("seconds_since_progress", "Seconds since the committed height last changed.")
        self._moved: dict[str, tuple[int | None, float]] = {}
        self._exceptions = Gauge(
            "railwatch_open_exceptions", "Exceptions that are open.", ("kind", "severity"), registry=registry
        )
        self._failures = Counter(
            "railwatch_task_failures",
            "Failures that nobody foresaw; the task starts again.",
            ("task",),
            registry=registry,
        )
        self._quarantined = Gauge(
            "railwatch_quarantined_invoices",
            "Invoices that the daemon cannot process, and that the rail goes on without.",
            ("rail",),
            registry=registry,
        )
        self._told: set[tuple[str, str]] = set()
        self._lag = Gauge(
            "railwatch_consumer_lag",
            "Lines of the feed that a reader has not dealt with.",
            ("consumer",),
            registry=registry,
        )

    def rail(
        self, name: str, *, state: str, height: int | None, tip: int | None, finalized: int | None, watched: int
    ) -> None:
        """Say how a rail is. Heights that are not known yet are left out."""
        for gauge, value in ((self._height, height), (self._tip, tip), (self._finalized, finalized)):
            if value is not None:
                gauge.labels(name).set(value)
        if height is not None and tip is not None:
            self._behind.labels(name).set(max(0, tip - height))
        for each in STATES:
            self._state.labels(name, each).set(each == state)
        self._watched.labels(name).set(watched)
        if name not in self._moved:
            self._since.labels(name).set_function(partial(self._seconds_since_progress, name))
        if name not in self._moved or self._moved[name][0] != height:
            self._moved[name] = (height, time.monotonic())

    def waiting(
        self, exceptions: Mapping[tuple[str, str], int], lag: Mapping[str, int], quarantine: Mapping[str, int]
    ) -> None:
        """Say what waits: open exceptions by (kind, severity), lines by reader, invoices in quarantine by rail.

        What is not named is over.
        """
        self._told |= exceptions.keys()
        for labels in self._told:
            self._exceptions.labels(*map(printable, labels)).set(exceptions.get(labels, 0))
        self._lag.clear()
        for consumer, lines in lag.items():
            self._lag.labels(printable(consumer)).set(lines)
        self._quarantined.clear()
        for rail, invoices in quarantine.items():
            self._quarantined.labels(printable(rail)).set(invoices)

    def failed(self, task: str) -> None:
        """Count a failure of a task."""
        self._failures.labels(task).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def _seconds_since_progress(self, name: str) -> float:
        return time.monotonic() - self._moved[name][1]

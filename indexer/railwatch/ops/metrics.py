"""Metrics of the daemon: the position and state of each rail, open exceptions, and the lag of consumers."""

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
    """The metrics of one process, in their own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"railwatch_rail_{name}", meaning, ("rail", *labels), registry=registry)

        self._height = gauge("height", "Height of the newest committed block (the cursor).")
        self._tip = gauge("tip", "Height of the active node's newest block.")
        self._behind = gauge("behind", "Blocks between the tip and the cursor.")
        self._finalized = gauge("finalized", "Height of the newest finalized block.")
        self._state = gauge("state", "1 for the rail's current state, 0 for the others.", "state")
        self._watched = gauge("watched_addresses", "Addresses that each scan watches.")
        self._since = gauge("seconds_since_progress", "Seconds since the cursor last changed.")
        self._moved: dict[str, tuple[int | None, float]] = {}
        self._exceptions = Gauge(
            "railwatch_open_exceptions",
            "Open payment exceptions; docs/runbooks has a page for each kind.",
            ("kind", "severity"),
            registry=registry,
        )
        self._failures = Counter(
            "railwatch_task_failures",
            "Unexpected failures of a task, which then restarted; see the log event task.failed.",
            ("task",),
            registry=registry,
        )
        self._quarantined = Gauge(
            "railwatch_quarantined_invoices",
            "Invoices in quarantine: the daemon cannot process them, and the rail continues without them.",
            ("rail",),
            registry=registry,
        )
        self._known_exceptions: set[tuple[str, str]] = set()
        self._lag = Gauge(
            "railwatch_consumer_lag",
            "Transitions of the feed that a consumer has not acknowledged.",
            ("consumer",),
            registry=registry,
        )

    def rail(
        self, name: str, *, state: str, height: int | None, tip: int | None, finalized: int | None, watched: int
    ) -> None:
        """Set the gauges of a rail. Unknown heights stay unset."""
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
        """Set open exceptions by (kind, severity), lag by consumer, and quarantined invoices by rail.

        Labels that are missing now count 0.
        """
        self._known_exceptions |= exceptions.keys()
        for labels in self._known_exceptions:
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
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def _seconds_since_progress(self, name: str) -> float:
        return time.monotonic() - self._moved[name][1]

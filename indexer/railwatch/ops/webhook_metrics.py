"""Metrics of the deliverer: pending deliveries, failures and latency of each endpoint, and the leader."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from railwatch.store.read_models import Record

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600)


class DeliveryMetrics:
    """The deliverer's metrics, in their own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"railwatch_webhook_{name}", meaning, ("endpoint",), registry=registry)

        self._gauges = {
            "pending": gauge("pending", "Events that the endpoint has not accepted yet."),
            "dead": gauge("dead", "Dead letters: events that the deliverer gave up; see railwatch webhook dead list."),
            "lag": gauge("lag", "Transitions of the feed that are not queued for the endpoint yet."),
        }
        self._oldest = gauge("oldest_pending_seconds", "Age in seconds of the oldest pending event.")
        self._paused = gauge("paused", "1 while the endpoint is paused (railwatch webhook disable), else 0.")
        self._delivering = Gauge(
            "railwatch_webhook_delivering",
            "1 if this process delivers, 0 if it is a standby of another deliverer.",
            registry=registry,
        )
        self._failures = Counter(
            "railwatch_webhook_failures", "Failed delivery attempts.", ("endpoint",), registry=registry
        )
        self._broken = Counter(
            "railwatch_task_failures",
            "Unexpected failures of a task, which then restarted; see the log event task.failed.",
            ("task",),
            registry=registry,
        )
        self._dead = Counter(
            "railwatch_webhook_given_up", "Events that the deliverer gave up.", ("endpoint",), registry=registry
        )
        self._latency = Histogram(
            "railwatch_webhook_delivery_seconds",
            "Seconds from the transition to its acceptance by the endpoint.",
            ("endpoint",),
            registry=registry,
            buckets=BUCKETS,
        )

    def delivered(self, endpoint: str, seconds: float) -> None:
        """Count an accepted event."""
        self._latency.labels(endpoint).observe(seconds)

    def failed(self, endpoint: str, *, dead: bool) -> None:
        """Count a failed attempt; ``dead``: it was the last one."""
        self._failures.labels(endpoint).inc()
        if dead:
            self._dead.labels(endpoint).inc()

    def broke(self, task: str) -> None:
        """Count a failure of a task."""
        self._broken.labels(task).inc()

    def endpoints(self, rows: Sequence[Record], *, held: bool) -> None:
        """Set the gauges of every configured endpoint; ``held``: this process delivers."""
        self._delivering.set(held)
        now = datetime.now(UTC)
        for row in rows:
            if not row["configured"]:
                continue
            for key, gauge in self._gauges.items():
                gauge.labels(row["name"]).set(row[key] or 0)
            since = row["oldest_pending_at"]
            self._oldest.labels(row["name"]).set(max(0.0, (now - since).total_seconds()) if since else 0.0)
            self._paused.labels(row["name"]).set(not row["enabled"])

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)

"""What a monitoring system is told of webhooks: what each endpoint is owed, how it fares, and who delivers."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from railwatch.store.read_models import Record

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600)


class DeliveryMetrics:
    """The deliverer's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"railwatch_webhook_{name}", meaning, ("endpoint",), registry=registry)

        self._gauges = {
            "pending": gauge("pending", "Events that the endpoint is owed."),
            "dead": gauge("dead", "Events that were given up, and wait for a person."),
            "lag": gauge("lag", "Lines of the feed that were not read for the endpoint yet."),
        }
        self._oldest = gauge("oldest_pending_seconds", "Since when the oldest event that is owed has waited.")
        self._paused = gauge("paused", "1: an operator has paused the endpoint.")
        self._delivering = Gauge(
            "railwatch_webhook_delivering", "1: this process delivers. 0: it waits for the lock.", registry=registry
        )
        self._failures = Counter(
            "railwatch_webhook_failures", "Attempts that failed.", ("endpoint",), registry=registry
        )
        self._broken = Counter(
            "railwatch_task_failures",
            "Failures of a task that nobody foresaw. It starts again.",
            ("task",),
            registry=registry,
        )
        self._dead = Counter("railwatch_webhook_given_up", "Events given up.", ("endpoint",), registry=registry)
        self._latency = Histogram(
            "railwatch_webhook_delivery_seconds",
            "From the transition's time to its being accepted.",
            ("endpoint",),
            registry=registry,
            buckets=BUCKETS,
        )

    def delivered(self, endpoint: str, seconds: float) -> None:
        """An event was accepted."""
        self._latency.labels(endpoint).observe(seconds)

    def failed(self, endpoint: str, *, dead: bool) -> None:
        """An attempt failed."""
        self._failures.labels(endpoint).inc()
        if dead:
            self._dead.labels(endpoint).inc()

    def broke(self, task: str) -> None:
        """Count a failure of a task."""
        self._broken.labels(task).inc()

    def endpoints(self, rows: Sequence[Record], *, held: bool) -> None:
        """Say how every configured endpoint is."""
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
        """In Prometheus' text format."""
        return generate_latest(self._registry)

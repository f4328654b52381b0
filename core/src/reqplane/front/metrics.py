"""What the front counts, in Prometheus' text form.

Labels have few values: routes, not paths; endpoints only where discovery has held them; errors by class.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from reqplane.interfaces import Observer
from reqplane.model import Instance

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Everything that `/metrics` shows."""

    def __init__(self) -> None:
        disable_created_metrics()  # a gauge beside every counter, which nobody asks for
        self._registry = registry = CollectorRegistry()
        self.http_requests = Counter(
            "http_requests",
            "HTTP requests that were answered, by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.calls = Counter(
            "reqplane_calls",
            "Calls that ended, by endpoint and outcome: ok, left (the client hung up) or an error's class.",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "reqplane_calls_in_flight", "Calls that are under way.", ["endpoint"], registry=registry
        )
        self.items = Counter(
            "reqplane_items", "Items that came from workers.", ["endpoint"], registry=registry
        )
        self.attempts = Counter(
            "reqplane_attempts",
            "Requests sent to a worker, by plane; more than calls where others had to be asked.",
            ["endpoint", "plane"],
            registry=registry,
        )
        self.first_item = Histogram(
            "reqplane_first_item_seconds",
            "From the call to its first item.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "reqplane_call_seconds",
            "From the call to its end, however it ended.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.workers = Gauge(
            "reqplane_workers", "Workers that can be reached.", ["endpoint"], registry=registry
        )
        # Shown from the start, so that an alert on it does not miss the first failure.
        self.http_requests.labels("POST", "/v1/endpoints/{path}", "200")

    def text(self) -> bytes:
        return generate_latest(self._registry)


class Attempts(Observer):
    """Counts what goes to workers."""

    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.attempts

    def call_started(self, request_id: str, instance: Instance, plane: str) -> None:
        self._attempts.labels(str(instance.endpoint), plane).inc()

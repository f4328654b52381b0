"""What `/metrics` shows, in Prometheus' text form.

Labels have few values: routes, not paths; endpoints only where discovery has held them; errors by class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reqplane.metrics import CallMetrics

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class Metrics:
    """The front's own, and those of the calls that it makes (`calls`, an Observer)."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._http_requests = Counter(
            "http_requests",
            "HTTP requests by method, path and status; 499 where the client went before its answer began.",
            ["method", "path", "status"],
            registry=registry,
        )
        self.calls = CallMetrics(registry)
        ProcessCollector(registry=registry)
        # Shown from the start, so that an alert on it does not miss the first failure.
        self._http_requests.labels("POST", "/v1/endpoints/{path}", "200")

    def count(self, method: str, route: str, status: int) -> None:
        """One request; `route` is one of few, never what a client has written."""
        self._http_requests.labels(method if method in _METHODS else "other", route, str(status)).inc()

    def show_workers(self, known: Callable[[], Mapping[str, int]]) -> None:
        """Show how many workers each endpoint has; asked at each look."""
        self._registry.register(_Workers(known))

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Workers(Collector):
    def __init__(self, known: Callable[[], Mapping[str, int]]) -> None:
        self._known = known

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("reqplane_workers", "Workers that can be reached.", labels=["endpoint"])
        for endpoint, workers in self._known().items():
            family.add_metric([endpoint], workers)
        yield family

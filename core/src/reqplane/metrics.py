"""The request plane's own metrics, for whoever has a /metrics to show them at.

An observer counts calls when they start and when they end; nothing is counted per item.  It needs the
package prometheus_client, so only those import it who mean to show metrics.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reqplane.interfaces import Observer
from reqplane.model import Instance

_UNKNOWN = ""
"""The endpoint of a call that failed before a worker was found for it, and does not say which it was for."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class _Call:
    """A call that has not ended."""

    endpoint: str
    since: float


class CallMetrics(Observer):
    """Counts the calls that a process makes.

    Calls at the same time under one id, as a handler makes them that hands on its context twice, look like
    attempts of one call: an observer hears of nothing but the id.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open: dict[str, _Call] = {}
        by_endpoint, by_plane = ("endpoint",), ("endpoint", "plane")
        self._calls = Counter("reqplane_calls", "Calls that have ended.", by_endpoint, registry=registry)
        self._errors = Counter(
            "reqplane_call_errors",
            "Calls that failed, by the class of the error.",
            ("endpoint", "error"),
            registry=registry,
        )
        self._items = Counter("reqplane_items", "Items that came.", by_endpoint, registry=registry)
        self._attempts = Counter(
            "reqplane_attempts", "Requests sent to a worker.", by_plane, registry=registry
        )
        self._retries = Counter(
            "reqplane_retries",
            "Requests sent once more, to another worker or by another plane.",
            by_plane,
            registry=registry,
        )
        self._in_flight = Gauge(
            "reqplane_calls_in_flight", "Calls that have not ended.", by_endpoint, registry=registry
        )
        self._duration = Histogram(
            "reqplane_call_duration_seconds",
            "From sending the request to the end of the answer.",
            by_endpoint,
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_item = Histogram(
            "reqplane_first_item_seconds",
            "From the call to the first item of its answer.",
            by_endpoint,
            buckets=_SECONDS,
            registry=registry,
        )

    def call_started(self, request_id: str, instance: Instance, plane: str) -> None:
        endpoint = str(instance.endpoint)
        self._attempts.labels(endpoint, plane).inc()
        if request_id in self._open:
            self._retries.labels(endpoint, plane).inc()
        else:
            self._open[request_id] = _Call(endpoint, time.monotonic())
            self._in_flight.labels(endpoint).inc()

    def call_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        call = self._open.pop(request_id, None)
        if call is None:  # nobody was asked
            endpoint = str(getattr(error, "endpoint", None) or _UNKNOWN)
        else:
            endpoint = call.endpoint
            self._in_flight.labels(endpoint).dec()
            self._duration.labels(endpoint).observe(time.monotonic() - call.since)
        self._calls.labels(endpoint).inc()
        if items:
            self._items.labels(endpoint).inc(items)
        if error is not None:
            self._errors.labels(endpoint, type(error).__name__).inc()

    def first_item(self, endpoint: str, seconds: float) -> None:
        """The first item of an answer is here; told by whoever reads it, since observers hear of no item."""
        self._first_item.labels(endpoint).observe(seconds)

"""What is measured of each workload, and what is wanted of it on each plane: goals as ratios to Dynamo.

A first version may miss a goal by a factor of three.
"""

from __future__ import annotations

from dataclasses import dataclass

ALLOWANCE = 3.0
"""How far from its goal a figure may be."""
NO_SPEED_CPU = 1.4
"""What CPU may grow by without uvloop and msgspec."""


@dataclass(frozen=True)
class Figure:
    """One row of the tables.  `http`, `nats` and `tcp` are ratios to Dynamo, wanted of these planes; rates
    should be above them, all else below."""

    workload: str
    name: str
    label: str
    http: float | None = None
    nats: float | None = None
    tcp: float | None = None

    @property
    def more_is_better(self) -> bool:
        return self.name.endswith("_per_s")

    @property
    def is_cpu(self) -> bool:
        return self.name.startswith("cpu_")

    def goal(self, plane: str) -> float | None:
        return {"http": self.http, "nats": self.nats, "tcp": self.tcp}[plane]

    def allowed(self, goal: float) -> float:
        return goal / ALLOWANCE if self.more_is_better else goal * ALLOWANCE

    def meets(self, ratio: float, limit: float) -> bool:
        return ratio >= limit if self.more_is_better else ratio <= limit


FIGURES = (
    Figure("W1", "p50_us", "p50 µs", 0.60, 0.50, 0.20),
    Figure("W1", "p99_us", "p99 µs"),
    Figure("W1", "cpu_us_per_call", "CPU µs/request"),
    Figure("W2", "calls_per_s", "requests/s", 5, 5, 8),
    Figure("W2", "cpu_us_per_call", "CPU µs/request", 0.13, 0.12, 0.09),
    Figure("W2", "p50_us", "p50 µs"),
    Figure("W2x8", "calls_per_s", "requests/s"),
    Figure("W2x8", "cpu_us_per_call", "CPU µs/request", 0.30, 0.25, 0.15),
    Figure("W2o", "cpu_us_per_call", "CPU µs/request", 0.80, 0.40, 0.25),
    Figure("W2o", "p50_us", "p50 µs"),
    Figure("W2o", "p99_us", "p99 µs"),
    Figure("W3", "items_per_s", "items/s", 8, 10, 10),
    Figure("W3", "first_item_us", "first item µs", 0.8, 0.6, 0.6),
    Figure("W3", "cpu_us_per_item", "CPU µs/item"),
    Figure("W3y", "items_per_s", "items/s", 9, 10, 10),
    Figure("W3y", "cpu_us_per_item", "CPU µs/item", 0.11, 0.10, 0.10),
    Figure("W3y", "first_item_us", "first item µs"),
    Figure("W4", "mb_per_s", "MB/s", 0.35, 0.55, 2.0),
    Figure("W4", "cpu_us_per_call", "CPU µs/request"),
    Figure("W5", "cpu_us_per_item", "CPU µs/item", 0.18, 0.18, 0.18),
    Figure("W5", "item_p50_us", "item p50 µs", 0.35, 0.35, 0.35),
    Figure("W5", "item_p99_us", "item p99 µs", 0.25, 0.25, 0.25),
)

"""The workloads, the same for every peer: what a frontend does, and what a worker answers.

A peer gives `call(request) -> async iterable of items`; everything measured is measured here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[Any], AsyncIterable[Any]]

_PROMPT = "p" * 170
_ANSWER = "a" * 80


async def handler(request: Any, context: Any = None) -> AsyncIterator[Any]:
    """What every peer's worker serves."""
    for index in range(request["items"]):
        if request["yields"]:
            await asyncio.sleep(0)
        if request["tokens"]:
            yield {"token": index, "text": "token text", "logprob": -0.25, "index": index}
        else:
            yield {"text": _ANSWER, "index": index}


def _request(items: int = 1, *, yields: bool = False, tokens: bool = False) -> dict[str, Any]:
    return {"prompt": _PROMPT, "items": items, "yields": yields, "tokens": tokens}


@dataclass(frozen=True)
class Workload:
    """`in_flight` callers make `calls` calls in all, each answered by `items` items."""

    name: str
    what: str
    in_flight: int
    calls: int
    items: int = 1
    yields: bool = False

    @property
    def request(self) -> dict[str, Any]:
        return _request(self.items, yields=self.yields, tokens=self.items > 1)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "one request in flight, one item", in_flight=1, calls=1000),
        Workload("W2", "64 in flight, one item each", in_flight=64, calls=6400),
        Workload("W3", "32 streams of 256 items, never awaiting", in_flight=32, calls=96, items=256),
        Workload("W3y", "32 streams of 256 items, sleep(0) before each", 32, 96, items=256, yields=True),
    )
}


@dataclass
class Sample:
    """One run of one workload."""

    seconds: float
    calls: int
    items: int
    latency_us: list[float]
    first_item_us: list[float]


async def measure(workload: Workload, call: Call) -> Sample:
    """Run it once; the caller has warmed up."""
    sample = Sample(0.0, 0, 0, [], [])
    remaining = iter(range(workload.calls))
    request = workload.request

    async def caller() -> None:
        for _ in remaining:
            begin = time.perf_counter()
            first = None
            items = 0
            async for _item in call(request):
                if first is None:
                    first = time.perf_counter()
                items += 1
            if items != workload.items or first is None:
                raise RuntimeError(f"{items} items came, wanted {workload.items}")
            sample.latency_us.append((time.perf_counter() - begin) * 1e6)
            sample.first_item_us.append((first - begin) * 1e6)
            sample.calls += 1
            sample.items += items

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(workload.in_flight)))
    sample.seconds = time.perf_counter() - begin
    return sample

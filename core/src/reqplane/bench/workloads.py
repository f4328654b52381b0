"""The workloads, the same for `reqplane bench` and for every peer of `benchmarks/`: what a frontend does, and
what a worker answers.

A peer gives `call(request) -> async iterable of items`; everything measured is measured here.  It imports
nothing of Reqplane: peers that run without it read this very file, by a link.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[Any], AsyncIterable[Any]]

_PROMPT = "p" * 170
_ANSWER = "a" * 80
_LARGE = b"b" * (1 << 20)
_SEED = 20
"""Open loops offer the same gaps to every peer."""


async def handler(request: Any, context: Any = None) -> AsyncIterator[Any]:
    """What every peer's worker serves."""
    kind = request["kind"]
    for index in range(request["items"]):
        if kind == "yields":
            await asyncio.sleep(0)
        elif kind == "paced":
            await asyncio.sleep(request["pause"])
        if kind == "answer":
            yield {"text": _ANSWER, "index": index}
        elif kind == "large":
            yield {"blob": _LARGE}
        elif kind == "paced":  # the clock is the machine's, so a frontend can tell the item's age
            yield {"token": index, "text": "token text", "logprob": -0.25, "sent": time.monotonic()}
        else:
            yield {"token": index, "text": "token text", "logprob": -0.25, "index": index}


@dataclass(frozen=True)
class Workload:
    """`calls` calls of `items` items each, `in_flight` at a time, or `offered` a second whatever the answers
    do."""

    name: str
    what: str
    in_flight: int
    calls: int
    items: int = 1
    kind: str = "answer"
    pause: float = 0.0
    offered: float | None = None

    @property
    def request(self) -> dict[str, Any]:
        prompt: str | bytes = _LARGE if self.kind == "large" else _PROMPT
        return {"prompt": prompt, "items": self.items, "kind": self.kind, "pause": self.pause}


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "one request in flight, one item", 1, 1000),
        Workload("W2", "64 in flight, one item each", 64, 6400),
        Workload("W2x8", "8 in flight, one item each", 8, 4000),
        Workload("W2o", "2000 requests/s offered, exponential gaps", 0, 6000, offered=2000.0),
        Workload("W3", "32 streams of 256 items, never awaiting", 32, 96, 256, "tokens"),
        Workload("W3y", "32 streams of 256 items, sleep(0) before each", 32, 96, 256, "yields"),
        Workload("W4", "1 MiB request, 1 MiB answer, one in flight", 1, 100, kind="large"),
        Workload("W5", "128 streams, an item every 20 ms", 128, 128, 100, "paced", pause=0.02),
    )
}


@dataclass
class Sample:
    """One run of one workload; times in microseconds."""

    seconds: float = 0.0
    calls: int = 0
    items: int = 0
    latency_us: list[float] = field(default_factory=list[float])
    first_item_us: list[float] = field(default_factory=list[float])
    item_us: list[float] = field(default_factory=list[float])
    """The age of each item, where a worker writes down when it sent it."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


async def measure(workload: Workload, call: Call, seconds: float | None = None) -> Sample:
    """Run it once: all its calls, or as many as begin within `seconds`; the caller has warmed up."""
    sample = Sample()
    request = workload.request

    async def one() -> None:
        begin = time.perf_counter()
        first: float | None = None
        items = 0
        async for item in call(request):
            if first is None:
                first = time.perf_counter()
            if workload.kind == "paced":
                sample.item_us.append((time.monotonic() - item["sent"]) * 1e6)
            items += 1
        if items != workload.items or first is None:
            raise RuntimeError(f"{items} items came, wanted {workload.items}")
        sample.latency_us.append((time.perf_counter() - begin) * 1e6)
        sample.first_item_us.append((first - begin) * 1e6)
        sample.calls += 1
        sample.items += items

    begin = time.perf_counter()
    if workload.offered is None:
        await _closed_loop(workload.in_flight, _all(workload.calls, seconds), one)
    else:
        await _open_loop(workload.calls, workload.offered, one)
    sample.seconds = time.perf_counter() - begin
    return sample


def _all(calls: int, seconds: float | None) -> Iterator[int]:
    """A turn for each call; `seconds` counts instead of `calls` where it is given."""
    end = None if seconds is None else time.perf_counter() + seconds
    for turn in itertools.count():
        if turn >= calls if end is None else time.perf_counter() >= end:
            return
        yield turn


async def _closed_loop(in_flight: int, remaining: Iterator[int], one: Callable[[], Awaitable[None]]) -> None:
    async def caller() -> None:
        for _ in remaining:
            await one()

    await asyncio.gather(*(caller() for _ in range(in_flight)))


async def _open_loop(calls: int, offered: float, one: Callable[[], Awaitable[None]]) -> None:
    """Requests start when their time has come, all that are late at once."""
    gaps = random.Random(_SEED)
    tasks: list[asyncio.Future[None]] = []
    due = time.perf_counter()
    for _ in range(calls):
        due += gaps.expovariate(offered)
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.ensure_future(one()))
    await asyncio.gather(*tasks)

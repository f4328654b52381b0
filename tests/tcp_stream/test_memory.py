"""What open streams cost that nothing happens on."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import pytest
from reqplane.model import Control, End, Prologue

from .conftest import Call, Pair

COUNT = 10_000


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def settled() -> int:
    """Bytes that are in use once nothing is under way."""
    await asyncio.sleep(0.05)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def begin(call: Call) -> None:
    """An item has gone through, so whatever is made with the first one is there."""
    call.home.prologue(None)
    call.home.write(b"an item")
    await call.pending.opened
    parts = await call.pending.receive()
    while len(parts) < 2:
        parts += await call.pending.receive()
    assert parts == [Prologue(), b"an item"]


async def test_10_000_idle_streams_cost_little(pair: Pair, traced: None):
    """Both ends of all of them, and a task at each that waits for the next item."""

    def told(control: Control) -> None:
        raise AssertionError

    await begin(await pair.call())  # the connection
    before = await settled()
    calls: list[Call] = []
    for number in range(COUNT):
        pending = pair.frontend.expect(str(number))
        calls.append(Call(pending, await pair.worker.call_home(pending.info, told), []))
    for call in calls:
        await begin(call)
    reading = [asyncio.create_task(call.pending.receive()) for call in calls]
    each = (await settled() - before) / COUNT
    for call in calls:
        call.home.end()
    assert await asyncio.gather(*reading) == [[End()]] * COUNT
    calls.clear()
    reading.clear()
    call, pending = None, None
    left = await settled() - before
    assert each <= 4096
    assert left <= COUNT * 256, "ended streams are kept"  # the tables keep their size

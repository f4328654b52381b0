"""What one reader or one handler costs the others: memory, time, streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reqplane
from fleet import PATH, Fleet
from memory_planes import eventually

pytestmark = pytest.mark.system

WINDOW = 262144
"""Bytes that a stream may hold on its way: the default of DYN_STREAM_WINDOW_BYTES."""
IDLE_STREAMS = 9900
"""A worker runs at most 10 000 requests."""
IDLE_BYTES = 4096


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "discovery")
    yield fleet
    fleet.close()


async def collect(stream: reqplane.Stream) -> list:
    return [item async for item in stream]


@pytest.mark.parametrize(("handler", "ahead"), [("tracked", 1), ("tracked_in_thread", 18)])
async def test_a_reader_that_sleeps_stops_its_handler_after_a_window(
    fleet: Fleet, handler: str, ahead: int
) -> None:
    """A handler is never further ahead than a window, one item, and what its thread has ready."""
    size = 1000
    fleet.start(handler)
    async with fleet.client() as client:

        async def made() -> int:
            (number,) = await collect(client.generate({"n": 0}))
            return number

        slow = await client.generate({"n": 100_000, "size": size})
        async for _ in slow:
            break
        while await made() < WINDOW // size:
            await asyncio.sleep(0.01)
        for _ in range(50):
            assert await made() <= WINDOW // size + 1 + ahead
        read = 0
        async for _ in slow:  # awake again: it goes on where it stood
            read += 1
            if read == 2 * WINDOW // size:
                break
        await slow.aclose()


@pytest.mark.parametrize(
    ("seconds", "env"),
    [
        (1.0, {"DYN_HEARTBEAT_MS": "100", "DYN_STREAM_DEAD_AFTER": "4"}),
        pytest.param(10.0, {}, marks=pytest.mark.slow),
    ],
)
async def test_a_handler_that_computes_breaks_nobodys_streams(
    fleet: Fleet, seconds: float, env: dict[str, str]
) -> None:
    """Many heartbeats are missed; two frontends' streams on that worker go on, another worker's do too."""
    fleet.env |= env
    fleet.start("any_of")
    fleet.start("any_of")
    pause = 0.02
    number = int((seconds + 1.5) / pause)
    long = {"handler": "count", "n": number, "pause": pause}
    async with fleet.client(workers=2) as one, fleet.client(workers=2) as two:
        streams = [await client.direct(long, worker) for client in (one, two) for worker in (0, 1)]
        reading = [asyncio.ensure_future(collect(stream)) for stream in streams]
        frozen = await collect(one.direct({"handler": "freeze", "seconds": seconds}, 0))
        assert not any(one.done() for one in reading)
        assert frozen == ["freezing", "awake"]
        assert await asyncio.gather(*reading) == [list(range(number))] * 4
        assert one.instance_ids() == two.instance_ids() == [0, 1]


async def test_an_idle_stream_costs_four_kib_at_most(
    fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    """Ten thousand of them, in the worker's process and in the frontend's."""
    fleet.start("idle")
    async with fleet.client() as client:
        await eventually(lambda: client.instances(), within=20)
    frontend = fleet.run(str(Path(__file__).parent / "idle.py"), PATH, str(IDLE_STREAMS))
    output, errors = await asyncio.to_thread(frontend.communicate)
    assert frontend.returncode == 0, errors[-4000:]
    each = json.loads(output)
    record_property("bytes", "{frontend:.0f} in the frontend, {worker:.0f} in the worker".format(**each))
    assert each["frontend"] <= IDLE_BYTES, each
    assert each["worker"] <= IDLE_BYTES, each

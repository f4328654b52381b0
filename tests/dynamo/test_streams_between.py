"""Requests that are streams, from our client to a worker of Dynamo's, and to the same program on us.

Dynamo's Python API has no client for them, so the other direction is that of recorded bytes, in
tests/tcp_stream/test_streamed_single.py.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import reqplane
from reqplane import HandlerFailed

from .running import OURS, Side
from .wheel import interpreter_or_skip

pytestmark = pytest.mark.system

PROGRAM = '''
import asyncio
from dynamo.runtime import DistributedRuntime, dynamo_worker

SEEN = []

async def slow(request, context):
    """Reads no faster than this."""
    n = 0
    async for item in request:
        n += 1
        yield n
        await asyncio.sleep(0.2)

async def eager(request, context):
    """Answers without end, and reads nothing."""
    SEEN.append(0)
    while not context.is_stopped():
        SEEN[-1] += 1
        yield "y" * 65536

async def note(request, context):
    """Notes how its request ended."""
    yield "ready"
    items = [item async for item in request]
    SEEN.append([items, context.is_stopped(), context.is_killed()])
    yield "over"

async def fail(request, context):
    async for item in request:
        yield item
        raise ValueError("bad item")

async def seen(request):
    while not SEEN:
        await asyncio.sleep(0.02)
    yield SEEN.pop(0)

@dynamo_worker()
async def main(runtime):
    at = lambda handler: runtime.endpoint(f"streams.between.{handler.__name__}")
    streamed = [at(handler).serve_bidirectional_endpoint(handler) for handler in (slow, eager, note, fail)]
    await asyncio.gather(*streamed, at(seen).serve_endpoint(seen))

asyncio.run(main())
'''


@pytest.fixture(params=["dynamo", "ours"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a client of the worker has for variables."""
    side = Side(interpreter_or_skip("1.6.1")) if request.param == "dynamo" else OURS
    text = PROGRAM if side.dynamo else PROGRAM.replace("from dynamo.runtime", "from reqplane.dynamo")
    program = tmp_path / "worker.py"
    program.write_text(text)
    env = side.environment(tmp_path)
    python = side.command("hello", tmp_path)[0]
    with (tmp_path / "output").open("w") as output:
        worker = subprocess.Popen([python, program], env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield env
        finally:
            worker.kill()
            worker.wait()


async def endless(pulled: list[int], size: int = 65536) -> AsyncIterator[str]:
    while True:
        pulled.append(size)
        yield "x" * size


async def two_and(then: str) -> AsyncIterator[int]:
    yield 1
    yield 2
    if then == "raise":
        raise LookupError("mine")
    if then == "wait":
        await asyncio.sleep(60)


async def test_streams_between(environment: dict[str, str]) -> None:
    names = {name: value for name, value in environment.items() if name.startswith("DYN_")}
    async with reqplane.connect(names, signals=False) as runtime:
        clients: dict[str, reqplane.Client] = {}
        for name in ("slow", "eager", "note", "fail", "seen"):
            clients[name] = await runtime.endpoint(f"streams.between.{name}").client()
            await clients[name].wait_for_instances(timeout=30)

        async def seen() -> Any:
            async with asyncio.timeout(10):
                (noted,) = [item async for item in clients["seen"].generate(None)]
                return noted

        await whole(clients, seen)
        await slow_sides(clients, seen)
        await cut_off(clients, seen)


async def whole(clients: dict[str, reqplane.Client], seen: Callable[[], Any]) -> None:
    assert [item async for item in clients["note"].generate(two_and("end"))] == ["ready", "over"]
    assert await seen() == [[1, 2], False, False]


async def slow_sides(clients: dict[str, reqplane.Client], seen: Callable[[], Any]) -> None:
    pulled: list[int] = []
    async with aclosing(aiter(clients["slow"].generate(endless(pulled)))) as answer:
        for wanted in range(1, 6):
            assert await anext(answer) == wanted
    assert sum(pulled) < 32 * 1024 * 1024  # what fits into the sockets and Dynamo's channel

    stream = await clients["eager"].generate(two_and("wait"))
    await asyncio.sleep(1)
    await stream.aclose()
    assert await seen() * 65536 < 32 * 1024 * 1024


async def cut_off(clients: dict[str, reqplane.Client], seen: Callable[[], Any]) -> None:
    stream = clients["note"].generate(two_and("wait"))
    async for _ in stream:
        await asyncio.sleep(0.3)
        stream.stop_generating()
    assert await seen() == [[1, 2], True, False]

    async for _ in clients["note"].generate(two_and("wait")):
        await asyncio.sleep(0.3)
        break
    assert await seen() == [[1, 2], True, True]

    with pytest.raises(LookupError, match="mine"):
        _ = [item async for item in clients["note"].generate(two_and("raise"))]
    _, stopped, killed = await seen()
    assert (stopped, killed) == (True, True)

    pulled: list[int] = []
    with pytest.raises(HandlerFailed, match="ValueError: bad item"):
        _ = [item async for item in clients["fail"].generate(endless(pulled, 100))]

"""Handlers that compute for long and await nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from reqplane.dynamo import DistributedRuntime

LIMIT = 1.0
"""Seconds that a worker has to connect to its caller."""


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("DYN_TCP_RESPONSE_STREAM_PORT", "0")
    monkeypatch.setenv("DYN_CALL_HOME_TIMEOUT", str(LIMIT))
    monkeypatch.setenv("DYN_FILE_KV", str(tmp_path))


async def compute(request: float) -> AsyncIterator[str]:
    time.sleep(request)
    yield "done"


def runners() -> list[Callable[[Coroutine[Any, Any, None]], None]]:
    try:
        import uvloop
    except ImportError:
        return [asyncio.run]
    return [asyncio.run, uvloop.run]


@pytest.mark.parametrize("run", runners(), ids=["asyncio", "uvloop"][: len(runners())])
async def test_its_caller_knows_before_that_it_was_begun(run: Callable[[Coroutine[Any, Any, None]], None]):
    """On the connection that both have used before, too."""
    runtimes: list[DistributedRuntime] = []

    async def serve() -> None:
        runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
        runtimes.append(runtime)
        await runtime.endpoint("ns.comp.ep").serve_endpoint(compute)
        await runtime.closed()

    worker = threading.Thread(target=lambda: run(serve()))
    worker.start()
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    try:
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances()
        for seconds in (0, 2.5 * LIMIT):
            items = [item async for item in await client.random(seconds, annotated=False)]
            assert items == ["done"]
    finally:
        runtimes[0].shutdown()
        await runtime.closed()
        await asyncio.to_thread(worker.join)

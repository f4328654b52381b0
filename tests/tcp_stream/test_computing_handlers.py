"""Handlers that compute for longer than a worker has to call home, and await nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import reqplane

LIMIT = 1.0


async def compute(request: float) -> AsyncIterator[str]:
    time.sleep(request)
    yield "done"


def runners() -> list[Any]:
    found = [pytest.param(asyncio.run, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return found
    return [*found, pytest.param(uvloop.run, id="uvloop")]


@pytest.mark.parametrize("plane", ["tcp", "http"])
@pytest.mark.parametrize("run", runners())
async def test_the_worker_has_called_home_before(
    run: Callable[[Coroutine[Any, Any, None]], None], plane: str, tmp_path: Path
):
    env = {
        "DYN_REQUEST_PLANE": plane,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(tmp_path),
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
        "DYN_CALL_HOME_TIMEOUT": str(LIMIT),
    }
    leave: list[Callable[[], None]] = []

    async def serve() -> None:
        async with reqplane.connect(env, signals=False) as runtime:
            leave.append(runtime.shutdown)
            await runtime.endpoint("ns.comp.ep").serve_endpoint(compute)

    worker = threading.Thread(target=lambda: run(serve()))
    worker.start()
    try:
        async with reqplane.connect(env, signals=False) as runtime:
            client = await runtime.endpoint("ns.comp.ep").client()
            await client.wait_for_instances(timeout=20)
            for seconds in (0, 1.5 * LIMIT, 1.5 * LIMIT):
                assert [item async for item in client.generate(seconds)] == ["done"]
    finally:
        leave[0]()
        await asyncio.to_thread(worker.join)

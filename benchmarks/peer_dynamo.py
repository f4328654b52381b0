"""NVIDIA Dynamo 1.6.1 by its own Python wheel: request plane tcp, discovery in a folder.

Run by an interpreter that has `ai-dynamo-runtime` and `psutil`, see run.py's `--dynamo`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from workloads import Call, handler

ABOUT = f"ai-dynamo-runtime {importlib.metadata.version('ai-dynamo-runtime')}, tcp plane, file discovery"
"""What the report says of it."""

PATH = "bench.worker.generate"


def _endpoint() -> Any:
    runtime: Any = importlib.import_module("dynamo.runtime")
    return runtime.DistributedRuntime(asyncio.get_running_loop(), "file", "tcp").endpoint(PATH)


async def serve() -> None:
    serving = asyncio.ensure_future(_endpoint().serve_endpoint(handler))
    print("ready", flush=True)
    await serving


@asynccontextmanager
async def frontend() -> AsyncGenerator[Call]:
    client = await _endpoint().client()
    async with asyncio.timeout(20):
        await client.wait_for_instances()

    async def call(request: Any) -> AsyncIterator[Any]:
        async for item in await client.generate(request, annotated=False):
            yield item

    yield call

"""Reqplane itself, on the plane that DYN_REQUEST_PLANE names."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import reqplane
from workloads import Call, handler

ABOUT = (
    f"reqplane {importlib.metadata.version('reqplane')}, http plane, tcp_stream, file discovery, {{codec}}"
)
"""What the report says of it."""

PATH = "bench.worker.generate"


async def serve() -> None:
    async with reqplane.connect() as runtime:
        serving = asyncio.ensure_future(runtime.endpoint(PATH).serve_endpoint(handler))
        print("ready", flush=True)
        await serving


@asynccontextmanager
async def frontend() -> AsyncGenerator[Call]:
    async with reqplane.connect() as runtime:
        client = await runtime.endpoint(PATH).client()
        await client.wait_for_instances(timeout=20)
        yield client.generate

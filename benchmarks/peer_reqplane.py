"""Reqplane itself, on the plane that DYN_REQUEST_PLANE names."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import reqplane
from workloads import Call, handler

_VERSION = importlib.metadata.version("reqplane")
_PLANE = os.environ["DYN_REQUEST_PLANE"]

ABOUT = f"reqplane {_VERSION}, {_PLANE} plane, tcp_stream, file discovery, {{codec}}"
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

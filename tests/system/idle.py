"""A frontend that opens idle streams; prints what each costs here and in the worker, in bytes.

idle.py PATH STREAMS
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import reqplane

WARM_UP, AT_A_TIME = 500, 100


async def opened(client: reqplane.Client, number: int) -> list[AsyncIterator[Any]]:
    """So many streams whose first item has come."""
    streams: list[AsyncIterator[Any]] = []
    remaining = iter(range(number))

    async def one_after_the_other() -> None:
        for _ in remaining:
            stream = aiter(client.generate({}))
            assert await anext(stream) == "open"
            streams.append(stream)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_A_TIME)))
    return streams


async def memory(client: reqplane.Client) -> tuple[int, int]:
    """Of this process and of the worker."""
    (worker,) = [bytes_ async for bytes_ in client.generate({"measure": True})]
    gc.collect()
    return psutil.Process().memory_info().rss, worker


async def main() -> None:
    number = int(sys.argv[2])
    async with reqplane.connect(signals=False) as runtime:
        client = await runtime.endpoint(sys.argv[1]).client()
        await client.wait_for_instances(timeout=20)
        for stream in await opened(client, WARM_UP):
            await stream.aclose()  # type: ignore[attr-defined]
        before = await memory(client)
        streams = await opened(client, number)
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.sleep(0.1)
        after = await memory(client)
        assert not any(one.done() for one in waiting)
        frontend, worker = ((a - b) / number for a, b in zip(after, before, strict=True))
        print(json.dumps({"frontend": frontend, "worker": worker}))
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


asyncio.run(main())

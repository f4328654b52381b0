"""A frontend that makes 10 000 calls after a warm-up; prints what it and its worker have more of than before.

growth.py PATH PID_OF_THE_WORKER
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

import psutil
import reqplane

WARM_UP, CALLS, IN_FLIGHT = 5_000, 10_000, 50


async def calls(client: reqplane.Client, number: int) -> None:
    remaining = iter(range(number))

    async def caller() -> None:
        for _ in remaining:
            assert [item async for item in client.generate({"n": 3})] == [0, 1, 2]

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


def descriptors(process: psutil.Process) -> int:
    """Those that stay: discovery's thread opens its folder now and then, for a moment."""
    counts: list[int] = []
    for _ in range(10):
        counts.append(process.num_fds())
        time.sleep(0.01)
    return min(counts)


def state(frontend: psutil.Process, worker: psutil.Process) -> dict[str, int]:
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": descriptors(frontend),
        "bytes": frontend.memory_info().rss,
        "worker_descriptors": descriptors(worker),
        "worker_bytes": worker.memory_info().rss,
    }


async def main() -> None:
    processes = psutil.Process(), psutil.Process(int(sys.argv[2]))
    async with reqplane.connect(signals=False) as runtime:
        client = await runtime.endpoint(sys.argv[1]).client()
        await client.wait_for_instances(timeout=20)
        await calls(client, WARM_UP)
        await asyncio.sleep(0.1)
        before = state(*processes)
        await calls(client, CALLS)
        await asyncio.sleep(0.1)
        after = state(*processes)
    print(json.dumps({key: after[key] - before[key] for key in before}))


asyncio.run(main())

"""What only the memory backend does."""

from __future__ import annotations

import asyncio
import gc

from core.discovery.world import FakeHost, Seen, record
from reqplane.discovery import memory
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.model import EndpointId

GENERATE = EndpointId("default", "backend", "generate")


async def _register() -> int:
    discovery = await MemoryDiscovery.open(FakeHost({}))
    registration = await discovery.reserve(GENERATE, 1)
    await registration.publish(record(GENERATE, registration.instance_id, 1))
    seen = Seen(discovery.watch(None))
    await seen.listed()
    await seen.close()
    return registration.instance_id


def test_every_loop_has_its_own_workers_and_takes_them_along() -> None:
    gc.collect()
    before = len(memory._stores)
    for _ in range(3):
        assert asyncio.run(_register()) == 0  # though nobody closed the one before
    gc.collect()
    assert len(memory._stores) <= before

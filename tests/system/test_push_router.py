"""Busy workers, seen from two frontends in processes of real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import PATH, Fleet
from memory_planes import eventually
from reqplane import Client, PushRouter, Stream, WorkerBusy

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def bounded(fleet: Fleet, *more: str) -> None:
    fleet.run("-m", "reqplane", "serve", "handlers:count", PATH, "--max-concurrent", "2", *more)


async def long_call(client: Client) -> Stream:
    stream = await client.generate({"n": 1000, "pause": 0.1})
    await anext(aiter(stream))
    return stream


async def test_the_record_tells_the_capacity(fleet: Fleet):
    bounded(fleet)
    async with fleet.client() as client:
        assert [instance.capacity for instance in client.instances()] == [2]


async def test_what_another_frontend_sends_makes_a_worker_busy(fleet: Fleet):
    bounded(fleet)
    async with fleet.client() as ours, fleet.client() as theirs:
        router = await PushRouter.from_client_with_threshold(ours, "round_robin", 1.0)
        assert [item async for item in router.generate({"n": 2})] == [0, 1]
        streams = [await long_call(theirs), await long_call(theirs)]

        async def is_busy() -> bool:
            try:
                stream = await router.generate({"n": 1})
            except WorkerBusy as error:
                return error.workers == 1
            await stream.aclose()
            return False

        limit = asyncio.get_running_loop().time() + 10
        while not await is_busy():
            assert asyncio.get_running_loop().time() < limit, "the worker's reports do not reach us"
            await asyncio.sleep(0.05)
        await streams[0].aclose()
        while await is_busy():
            assert asyncio.get_running_loop().time() < limit, "a report that it has room does not reach us"
            await asyncio.sleep(0.05)
        await streams[1].aclose()


async def test_a_frontend_that_comes_later_knows_at_its_second_call(fleet: Fleet):
    """Its first one makes the connection by which reports come."""
    bounded(fleet)
    async with fleet.client() as theirs:
        streams = [await long_call(theirs), await long_call(theirs)]
        async with fleet.client() as ours:
            router = await PushRouter.from_client_with_threshold(ours, "round_robin", 1.0)
            waiting = await router.generate({"n": 1})
            await eventually(lambda: bool(router._policy._busy))  # type: ignore[attr-defined]
            with pytest.raises(WorkerBusy, match="the only worker is busy"):
                await router.generate({"n": 1})
            await streams[0].aclose()
            assert [item async for item in waiting] == [0]
        await streams[1].aclose()


async def test_a_full_queue_refuses_and_another_worker_is_asked(fleet: Fleet):
    bounded(fleet, "--max-queued", "0")
    bounded(fleet, "--max-queued", "0")
    async with fleet.client(workers=2) as client:
        streams = [await long_call(client) for _ in range(4)]
        assert sorted(stream.instance.instance_id for stream in streams if stream.instance) == [0, 0, 1, 1]
        with pytest.raises(
            WorkerBusy, match=r"2 requests of test\.worker\.generate are running and 0 are waiting"
        ):
            await client.generate({"n": 1})
        for stream in streams:
            await stream.aclose()

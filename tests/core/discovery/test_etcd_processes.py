"""The etcd backend among real processes, and among many of its kind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from core.discovery.test_etcd import GENERATE, World, let_go, removals
from core.discovery.test_processes import SCRIPT, Worker
from core.discovery.world import Opener, Seen, Watcher, record
from servers import Etcd

pytestmark = pytest.mark.system

Starter = Callable[..., Awaitable[Worker]]


@pytest_asyncio.fixture
async def started() -> AsyncIterator[Starter]:
    """Start worker processes; all are killed in the end."""
    workers: list[Worker] = []

    async def starter(etcd: Etcd, *steps: str, ttl: int = 2) -> Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(SCRIPT), *steps),
            env={**os.environ, "ETCD_ENDPOINTS": etcd.url, "ETCD_LEASE_TTL": str(ttl)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        workers.append(Worker(process))
        return workers[-1]

    yield starter
    for worker in workers:
        if worker.process.returncode is None:
            worker.send(signal.SIGCONT)
            worker.process.kill()
        await worker.process.communicate()


@pytest_asyncio.fixture
async def world(opened: Opener, watching: Watcher) -> AsyncIterator[World]:
    made = World(opened, watching)
    yield made
    await made.close()


async def test_a_worker_that_was_frozen_past_its_lease_is_the_same_one_again(
    own_etcd: Etcd, world: World, started: Starter
) -> None:
    """Its number has gone to another meanwhile."""
    seen = await world.start(own_etcd, workers=0)
    frozen = await (await started(own_etcd)).ready()
    await seen.until(lambda seen: seen.incarnations == {frozen.incarnation})
    frozen.send(signal.SIGSTOP)
    await seen.until(lambda seen: not seen.now)
    assert removals(seen) == [(frozen.incarnation, 2)]  # nobody else was there
    other = await (await started(own_etcd)).ready()
    assert (frozen.id, other.id) == (0, 0)
    frozen.send(signal.SIGCONT)
    former = frozen.incarnation
    await frozen.ready()
    assert (frozen.incarnation, frozen.id) == (former, 1)
    await seen.until(lambda seen: seen.incarnations == {frozen.incarnation, other.incarnation})


async def test_a_killed_worker_goes_with_its_lease(own_etcd: Etcd, world: World, started: Starter) -> None:
    seen = await world.start(own_etcd, workers=1)
    worker = await (await started(own_etcd)).ready()
    await seen.until(lambda seen: worker.incarnation in seen.incarnations)
    worker.send(signal.SIGKILL)
    await seen.until(lambda seen: seen.incarnations == {100}, 10)


async def test_a_process_that_ends_in_order_leaves_at_once(
    own_etcd: Etcd, world: World, started: Starter
) -> None:
    seen = await world.start(own_etcd, workers=0, ttl=60)
    worker = await (await started(own_etcd, ttl=60)).ready()
    await seen.until(lambda seen: worker.incarnation in seen.incarnations)
    worker.go()
    await seen.until(lambda seen: not seen.now)
    assert removals(seen) == [(worker.incarnation, 0.0)]
    assert await worker.process.wait() == 0


@pytest.mark.slow
async def test_fifteen_processes_that_race_get_a_number_each(own_etcd: Etcd, started: Starter) -> None:
    workers = [await started(own_etcd, "wait", ttl=10) for _ in range(15)]
    for worker in workers:
        await worker.line()
    for worker in workers:
        worker.go()
    numbers = [(await worker.ready()).id for worker in workers]
    assert len(set(numbers)) == 15
    assert max(numbers) < 15 * 8


async def test_many_runtimes_that_race_get_a_number_each(own_etcd: Etcd, opened: Opener) -> None:
    runtimes = [await opened("etcd", ETCD_ENDPOINTS=own_etcd.url) for _ in range(6)]
    racing = [runtime.reserve(GENERATE, 10 * n + k) for n, runtime in enumerate(runtimes) for k in range(5)]
    numbers = [registration.instance_id for registration in await asyncio.gather(*racing)]
    assert len(set(numbers)) == 30
    assert min(numbers) == 0


async def test_a_hundred_watchers_hear_everything(own_etcd: Etcd, opened: Opener) -> None:
    discovery = await opened("etcd", ETCD_ENDPOINTS=own_etcd.url)
    watchers = [Seen(discovery.watch(GENERATE if n % 2 else None)) for n in range(100)]
    for seen in watchers:
        await seen.listed()
    registrations = await asyncio.gather(*(discovery.reserve(GENERATE, 500 + n) for n in range(10)))
    for round_ in range(5):
        for n, registration in enumerate(registrations):
            number = registration.instance_id
            await registration.publish(record(GENERATE, number, 500 + n, f"a:{round_ + 1}"))
    for seen in watchers:
        await seen.until(lambda seen: [one.transport["tcp"] for one in seen.now.values()] == ["a:5"] * 10)
        await seen.close()


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["killed", "frozen"])
async def test_twenty_seconds_without_etcd(own_etcd: Etcd, world: World, trouble: str) -> None:
    """With the usual TTL."""
    seen = await world.start(own_etcd, workers=3, ttl=10)
    before = len(seen.changes)
    own_etcd.kill() if trouble == "killed" else own_etcd.freeze()
    gap = await _longest_gap(20)
    assert seen.incarnations == {100, 101, 102}
    own_etcd.start() if trouble == "killed" else own_etcd.thaw()
    back = time.monotonic()
    await world.registered(own_etcd, within=3)
    await world.all_there(within=3 - (time.monotonic() - back))
    await asyncio.sleep(2)
    assert seen.incarnations == {100, 101, 102}
    assert let_go(seen.changes[before:]) == []
    assert gap < 1  # the loop was never held up by calls that waited


async def _longest_gap(seconds: float) -> float:
    """The longest time that the event loop did not come round."""
    longest, last = 0.0, time.monotonic()
    end = last + seconds
    while last < end:
        await asyncio.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


def test_etcd3_is_imported_without_a_warning_and_only_when_it_is_chosen() -> None:
    code = (
        "import sys; from reqplane.discovery.etcd import backend, stubs; "
        "assert not {'etcd3', 'grpc', 'google.protobuf'} & set(sys.modules); "
        "etcd3 = stubs.import_etcd3(); import etcd3.client; "
        "assert etcd3.etcdrpc.WatchRequest().SerializeToString() == b''"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)

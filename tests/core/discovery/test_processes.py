"""The file backend among real processes, which come, race, freeze and die."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from core.discovery.world import GENEROUS, Opener, Watcher, eventually
from reqplane.model import EndpointId
from reqplane.wire.records import instance_name

pytestmark = pytest.mark.system

GENERATE = EndpointId("default", "backend", "generate")
SCRIPT = Path(__file__).with_name("worker_process.py")

SEEN_WITHIN = 0.5
GONE_WITHIN = 1.0


class Worker:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.id = -1
        self.incarnation = 0
        self.published_at = 0.0

    async def line(self) -> bytes:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 2 * GENEROUS)
        assert line, "the worker process failed"
        return line

    async def ready(self) -> Worker:
        told: dict[str, Any] = json.loads(await self.line())
        self.id, self.incarnation, self.published_at = told["id"], told["incarnation"], told["at"]
        return self

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


Starter = Callable[..., Awaitable[Worker]]


@pytest_asyncio.fixture
async def started(folder: Path) -> AsyncIterator[Starter]:
    """Start worker processes; all are killed in the end."""
    workers: list[Worker] = []

    async def starter(*steps: str, ttl: float = 10) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            *steps,
            env={**os.environ, "DYN_FILE_KV": str(folder), "DYN_FILE_TTL": str(ttl)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        workers.append(Worker(process))
        return workers[-1]

    yield starter
    for worker in workers:
        if worker.process.returncode is None:
            worker.process.kill()
        await worker.process.communicate()


async def test_a_new_worker_is_seen_within_half_a_second(
    opened: Opener, watching: Watcher, started: Starter
) -> None:
    seen = await watching(await opened(), GENERATE)
    worker = await (await started()).ready()
    await seen.until(
        lambda seen: seen.incarnations == {worker.incarnation},
        SEEN_WITHIN - (time.time() - worker.published_at),
    )
    worker.go()
    await seen.until(lambda seen: not seen.now)
    assert await worker.process.wait() == 0


@pytest.mark.parametrize("steps", [[], ["republish"]], ids=["once", "republished"])
async def test_a_killed_worker_is_gone_within_a_second(
    opened: Opener, watching: Watcher, started: Starter, steps: list[str]
) -> None:
    seen = await watching(await opened(DYN_FILE_TTL="1000"), GENERATE)
    worker = await (await started(*steps, ttl=1000)).ready()
    await seen.until(lambda seen: seen.incarnations == {worker.incarnation})
    worker.send(signal.SIGKILL)
    await seen.until(lambda seen: not seen.now, GONE_WITHIN)


async def test_a_killed_worker_is_not_on_the_first_list(
    opened: Opener, watching: Watcher, started: Starter
) -> None:
    worker = await (await started(ttl=1000)).ready()
    worker.send(signal.SIGKILL)
    await worker.process.wait()
    seen = await watching(await opened(DYN_FILE_TTL="1000"), GENERATE)
    assert seen.first == []


async def test_a_killed_workers_number_is_free_at_once(
    opened: Opener, watching: Watcher, started: Starter
) -> None:
    seen = await watching(await opened(), GENERATE)
    former = await (await started()).ready()
    await seen.until(lambda seen: seen.incarnations == {former.incarnation})
    former.send(signal.SIGKILL)
    successor = await (await started()).ready()
    assert successor.id == former.id == 0
    await seen.until(lambda seen: seen.incarnations == {successor.incarnation})
    assert [(change.up, change.instance.incarnation) for change in seen.changes] == [
        (True, former.incarnation),
        (False, former.incarnation),
        (True, successor.incarnation),
    ]


async def test_a_frozen_worker_dies_at_its_ttl_and_may_come_back(
    opened: Opener, watching: Watcher, started: Starter
) -> None:
    discovery = await opened(DYN_FILE_TTL="1.5")
    seen = await watching(discovery, GENERATE)
    worker = await (await started(ttl=1.5)).ready()
    await seen.until(lambda seen: seen.incarnations == {worker.incarnation})
    worker.send(signal.SIGSTOP)
    await seen.until(lambda seen: not seen.now)

    later = await watching(await opened(DYN_FILE_TTL="1.5"), GENERATE)
    assert later.first == []
    # Frozen is not dead: its kernel still keeps the number for it.
    assert (await discovery.reserve(GENERATE, 1)).instance_id == 1

    worker.send(signal.SIGCONT)
    for seen_by in (seen, later):
        await seen_by.until(lambda seen: seen.incarnations == {worker.incarnation})


async def test_a_frozen_worker_whose_number_was_taken_takes_another(
    opened: Opener, watching: Watcher, started: Starter, folder: Path
) -> None:
    """Its lock's file is gone, as after a restored backup; so another worker could get its number."""
    seen = await watching(await opened(DYN_FILE_TTL="1"), GENERATE)
    former = await (await started(ttl=1)).ready()
    former.send(signal.SIGSTOP)
    await seen.until(lambda seen: not seen.now)
    shutil.rmtree(folder)
    successor = await (await started(ttl=1)).ready()
    assert successor.id == former.id == 0
    former.send(signal.SIGCONT)
    await former.ready()
    assert former.id == 1
    there = {0: successor.incarnation, 1: former.incarnation}
    await seen.until(lambda seen: {i.instance_id: i.incarnation for i in seen.now.values()} == there)
    former.go()
    await seen.until(lambda seen: seen.incarnations == {successor.incarnation})
    assert successor.process.returncode is None


async def test_workers_that_lost_their_places_together_share_no_number(
    opened: Opener, watching: Watcher, started: Starter, folder: Path
) -> None:
    seen = await watching(await opened(DYN_FILE_TTL="1"), GENERATE)
    workers = [await started(ttl=1) for _ in range(4)]
    before = {(await worker.ready()).incarnation for worker in workers}
    await seen.until(lambda seen: seen.incarnations == before)
    for worker in workers:
        worker.send(signal.SIGSTOP)
    shutil.rmtree(folder)
    await seen.until(lambda seen: not seen.now)
    for worker in workers:
        worker.send(signal.SIGCONT)
    for worker in workers:
        await worker.ready()
    await seen.until(lambda seen: seen.incarnations == before)
    assert len(seen.now) == len({worker.id for worker in workers}) == 4


async def test_a_worker_killed_while_frozen_leaves_its_number(
    opened: Opener, watching: Watcher, started: Starter
) -> None:
    seen = await watching(await opened(DYN_FILE_TTL="1000"), GENERATE)
    former = await (await started(ttl=1000)).ready()
    await seen.until(lambda seen: seen.incarnations == {former.incarnation})
    former.send(signal.SIGSTOP)
    former.send(signal.SIGKILL)
    await former.process.wait()
    successor = await (await started(ttl=1000)).ready()
    assert successor.id == 0
    await seen.until(lambda seen: seen.incarnations == {successor.incarnation})


async def test_one_who_deletes_anothers_record_costs_it_a_moment(
    opened: Opener, watching: Watcher, started: Starter, folder: Path
) -> None:
    seen = await watching(await opened(), GENERATE)
    first, second = [await (await started(ttl=1)).ready() for _ in range(2)]
    both = {first.incarnation, second.incarnation}
    await seen.until(lambda seen: seen.incarnations == both)
    (folder / "v1" / "instances" / instance_name(GENERATE, first.id)).unlink()
    number = first.id
    await first.ready()
    assert first.id == number
    await seen.until(lambda seen: seen.incarnations == both)
    assert [c.instance.incarnation for c in seen.changes if not c.up] in ([], [first.incarnation])


async def test_twenty_processes_never_share_a_number(opened: Opener, started: Starter) -> None:
    frontend = await opened()
    watch = frontend.watch(None)  # so that there is a prober, too
    assert await anext(watch) == []
    workers = [await started("wait") for _ in range(20)]
    for worker in workers:
        assert await worker.line() == b"waiting\n"
    for worker in workers:
        worker.go()
    for worker in workers:
        await worker.ready()
    numbers = [worker.id for worker in workers]
    assert len(set(numbers)) == 20
    assert min(numbers) == 0
    there: set[int] = set()
    async with asyncio.timeout(GENEROUS):
        while there != set(numbers):
            there |= {change.instance.instance_id for change in await anext(watch)}
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_number_without_a_record_is_held_too(opened: Opener, started: Starter) -> None:
    worker = await (await started("reserve")).ready()
    discovery = await opened()
    assert worker.id == 0
    assert (await discovery.reserve(GENERATE, 1)).instance_id == 1
    worker.send(signal.SIGKILL)
    await worker.process.wait()
    assert (await discovery.reserve(GENERATE, 1)).instance_id == 0


async def test_programs_started_by_a_worker_do_not_inherit_its_lock(opened: Opener) -> None:
    discovery = await opened()
    registration = await discovery.reserve(GENERATE, 1)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, close_fds=False
    )
    await registration.withdraw()
    assert (await discovery.reserve(GENERATE, 1)).instance_id == 0
    await child.communicate(b"\n")


async def test_a_watcher_that_is_gone_does_not_matter(opened: Opener, started: Starter) -> None:
    worker = await (await started("reserve")).ready()
    worker.go()
    await eventually(lambda: worker.process.returncode is not None)
    assert worker.process.returncode == 0
    assert (await (await opened()).reserve(GENERATE, 1)).instance_id == 0

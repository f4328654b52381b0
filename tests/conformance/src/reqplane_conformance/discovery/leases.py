"""Processes see each other, and one that vanishes does not stay for ever."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from reqplane.errors import DiscoveryError
from reqplane.interfaces import Discovery

from reqplane_conformance.case import case
from reqplane_conformance.discovery.following import Follower
from reqplane_conformance.discovery.hooks import DiscoverySuite
from reqplane_conformance.discovery.numbers import check_distinct
from reqplane_conformance.discovery.stage import DiscoveryStage, Worker, only_ours
from reqplane_conformance.verdict import check

_LEASE = "the lease: who removes the record of a worker that does not renew it, and after what time"


class LeaseCases(DiscoverySuite, suite=True):
    """Other processes."""

    group = "leases"

    @case(needs=("registers", "processes"), within=40.0)
    async def test_processes_see_each_other(self, stage: DiscoveryStage) -> None:
        """A worker of another process is told of when it comes, and when it goes."""
        backend = await stage.backend()
        follower = await stage.watch(backend)
        here = await stage.published(backend)
        outside = await stage.outside()
        there = await outside.register(stage.path())
        await follower.until(lambda: follower.sees(there), "a worker of another process")
        check_distinct([here.number, there.number])
        await outside.do("withdraw")
        await follower.until(lambda: not follower.sees(there), "that a worker of another process is gone")
        check(follower.sees(here), did="one of this process went with it", wanted="the other worker stays")

    @case(needs=("registers", "processes"), within=40.0)
    async def test_processes_share_numbers(self, stage: DiscoveryStage) -> None:
        """Of thirty workers of three processes that reserve at once each gets a number of its own."""
        backend = await stage.backend()
        outside = await asyncio.gather(stage.outside(), stage.outside())
        ours = asyncio.gather(*(stage.worker(backend) for _ in range(10)))
        theirs = await asyncio.gather(*(process.reserve(stage.path(), 10) for process in outside))
        numbers = [worker.number for worker in await ours]
        check_distinct([*numbers, *theirs[0], *theirs[1]])

    @case(needs=("registers", "processes", "leases"), within=90.0)
    async def test_killed_worker_goes(self, stage: DiscoveryStage) -> None:
        """A worker whose process was killed is told of as gone within its lease, and its number is free."""
        backend = await stage.backend()
        follower = await stage.watch(backend)
        outside = await stage.outside()
        there = await outside.register(stage.path())
        await follower.until(lambda: follower.sees(there), "a worker of another process")
        await self.vanish(outside)
        await self._until_gone(follower, there)
        await _until_free(stage, backend, there.number)

    @case(needs=("registers", "processes", "leases"), within=90.0)
    async def test_silent_worker_goes(self, stage: DiscoveryStage) -> None:
        """A worker that falls silent, as behind a broken network, goes with its lease; no other does."""
        backend = await stage.backend()
        here = await stage.published(backend)
        outside = await stage.outside()
        there = await outside.register(stage.path())
        follower = await stage.watch(backend)
        await follower.until(lambda: follower.sees(there) and follower.sees(here), "two workers")
        async with self.silent(outside):
            await self._until_gone(follower, there)
            _check_stayed(follower, here)

    @case(needs=("registers", "processes", "leases"), within=90.0)
    async def test_comes_back(self, stage: DiscoveryStage) -> None:
        """A worker that was silent for longer than its lease is there again when it goes on."""
        backend = await stage.backend()
        follower = await stage.watch(backend)
        outside = await stage.outside()
        there = await outside.register(stage.path())
        await follower.until(lambda: follower.sees(there), "a worker of another process")
        async with self.silent(outside):
            await self._until_gone(follower, there)
        await follower.until(
            lambda: follower.sees(there),
            "a worker that goes on after its lease had run out",
            within=self.lease_seconds,
            look="`lost`: it is done when a registration ended without `withdraw`; then `renew`",
        )

    @case(needs=("registers", "reconnects"), within=120.0)
    async def test_server_back(self, stage: DiscoveryStage) -> None:
        """When the server was restarted, workers and watches are right again, by themselves."""
        backend, frontend = await stage.backend(), await stage.backend()
        follower = stage.begin_watch(frontend, again=True)
        worker = await stage.published(backend)
        await follower.until(lambda: follower.sees(worker), "a worker")
        keeping = asyncio.ensure_future(_keep(worker))
        stage.push(lambda: _cancel(keeping))
        await self.restart_peer(stage)
        look = "what happens when the connection to the server is lost: connect again, and go on"
        later = await stage.published(backend)
        await follower.until(
            lambda: follower.sees(worker) and follower.sees(later),
            "the worker from before the restart, and one that came after it,",
            within=self.lease_seconds + 20.0,
            look=look,
        )

    async def _until_gone(self, follower: Follower, worker: Any) -> None:
        """As long as a lease may last."""
        __tracebackhide__ = True
        await follower.until(
            lambda: not follower.sees(worker),
            "that a worker which vanished is gone",
            within=self.lease_seconds,
            look=_LEASE,
        )


def _check_stayed(follower: Follower, worker: Worker) -> None:
    check(
        all(change.up for change in follower.of(worker)) and follower.sees(worker),
        did="a worker that lived went together with one that had fallen silent",
        wanted="a worker stays for as long as its process lives, however short its lease",
        look="what renews leases: it has to be well before they run out",
    )


async def _until_free(stage: DiscoveryStage, backend: Discovery, number: int) -> None:
    """The number of one that vanished may be taken, soon after it was told of as gone."""
    deadline = time.monotonic() + 5.0 * stage.patience
    while (worker := await stage.worker(backend)).number != number:
        await worker.withdraw()
        check(
            time.monotonic() < deadline,
            did=f"the number {number} of a worker that had vanished was not given again, but {worker.number}",
            wanted="a number is free when its worker is gone",
            look=_LEASE,
        )
        await asyncio.sleep(0.05)


async def _keep(worker: Worker) -> None:
    """As the core does: whenever the registration is lost, it is taken again."""
    while True:
        await asyncio.wait([worker.registration.lost])
        with suppress(DiscoveryError), only_ours("renew or publish"):
            await worker.registration.renew()
            await worker.registration.publish(worker.record())
        await asyncio.sleep(0.1)


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel it; what it had raised comes out."""
    if task.done():
        task.result()
    task.cancel()
    await asyncio.wait([task])

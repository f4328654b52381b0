"""Watches tell everything, in order, to everybody who watches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from reqplane.interfaces import Discovery

from reqplane_conformance.case import case
from reqplane_conformance.discovery.following import Follower, Key
from reqplane_conformance.discovery.hooks import DiscoverySuite
from reqplane_conformance.discovery.stage import DiscoveryStage, Worker
from reqplane_conformance.leftovers import sockets
from reqplane_conformance.verdict import check

_LISTING = "the moment between listing and listening in `watch`: listen first, then list, or by a revision"
_SLOW = "what is kept for a watch that has not asked yet: everything, or the newest of each worker"
_ALIKE = ("generate", "generat", "generate2", "Generate", "gen_rate", "gen-rate", "g", "generate-")


class WatchCases(DiscoverySuite, suite=True):
    """Watches."""

    group = "watch"

    @case(priority=1)
    async def test_first_batch_even_if_empty(self, stage: DiscoveryStage) -> None:
        """A watch's first batch comes at once, also when there is nothing."""
        backend = await stage.backend()
        for endpoint in (stage.path(), None):
            follower = await stage.watch(backend, endpoint)
            count = len(follower.first or ())
            check(
                not count,
                did=f"where nobody was, the first batch had {count} workers of the endpoint",
                wanted="an empty first batch",
                look="what `watch` yields first",
            )

    @case(needs=("registers",), priority=2)
    async def test_told_in_changes(self, stage: DiscoveryStage) -> None:
        """What is published is told to every opened backend, as a Change that is `up`."""
        backend, frontend = await stage.backend(), await stage.backend()
        followers = [await stage.watch(one, stage.path()) for one in (backend, frontend)]
        worker = await stage.published(backend)
        for follower in followers:
            await follower.until(lambda it=follower: it.changes, "a worker that was published")
            change = follower.changes[0]
            check(
                change.up is True and change.instance == worker.instance(),
                did=f"it told {change!r:.500}",
                wanted=f"an `up` of {worker.instance()!r:.400}",
                look="how a record becomes an Instance: `reqplane.wire.records.parse_record(key, bytes)`",
            )

    @case(needs=("registers",), priority=2)
    async def test_goes_on(self, stage: DiscoveryStage) -> None:
        """A watch goes on until it is left: after each change, and when others are left."""
        backend = await stage.backend()
        others = [await stage.watch(backend, endpoint) for endpoint in (stage.path(), None)]
        follower = await stage.watch(backend, stage.path())
        for number in range(3):
            worker = await stage.published(backend)
            await follower.until(lambda it=worker: follower.sees(it), f"worker {number + 1} of 3")
            if others:
                await others.pop().aclose()
        follower.check_goes_on()

    @case(needs=("registers",))
    async def test_lists_what_is_there(self, stage: DiscoveryStage) -> None:
        """The first batch of a later watch has all workers that are there, each once, and `up`."""
        backend = await stage.backend()
        early = await stage.watch(backend)
        workers = [await stage.published(backend) for _ in range(3)]
        await early.until(lambda: len(early.there) == 3, "three workers")
        for endpoint in (stage.path(), None):
            first = (await stage.watch(backend, endpoint)).first or []
            listed = sorted(change.instance.incarnation for change in first if change.up)
            check(
                len(first) == 3 and listed == sorted(worker.incarnation for worker in workers),
                did=f"of three workers that were there, a later watch's first batch had {len(listed)}, in "
                f"{len(first)} changes",
                wanted="the three workers, each as one `up`",
                look="what `watch` yields first: everything that is there, in one batch",
            )

    @case(needs=("registers",))
    async def test_one_endpoint_or_all(self, stage: DiscoveryStage) -> None:
        """Who watches an endpoint is told of its workers alone, however much other names are like it."""
        backend = await stage.backend()
        paths = [*map(stage.path, _ALIKE), stage.path("generate", "back-end")]
        everything = await stage.watch(backend)
        followers = [await stage.watch(backend, path) for path in paths]
        workers = [await stage.published(backend, path) for path in paths]
        await everything.until(
            lambda: all(map(everything.sees, workers)), f"workers of {len(paths)} endpoints with names alike"
        )
        for worker, follower in zip(workers, followers, strict=True):
            path = str(worker.endpoint)
            await follower.until(lambda it=follower, of=worker: it.sees(of), f"the worker of {path}")
            strange = {str(change.instance.endpoint) for change in follower.changes} - {path}
            check(
                not strange,
                did=f"who watches {path} was told of {', '.join(sorted(strange))}",
                wanted="only the endpoint that was asked for",
                look="how `watch` selects: compare the parts of the EndpointId, not a prefix or a pattern",
            )
        _check_zeros(workers)

    @case(needs=("registers",))
    async def test_all_see_the_same(self, stage: DiscoveryStage) -> None:
        """Several watches are told everything, each: none takes a change away from another."""
        backend, frontend = await stage.backend(), await stage.backend()
        followers = [await stage.watch(one, stage.path()) for one in (backend, frontend) for _ in range(3)]
        workers = [await stage.published(backend) for _ in range(5)]
        for worker in workers[1::2]:
            await worker.withdraw()
        truth = {_key(worker): "a:1" for worker in workers[::2]}
        for follower in followers:
            await _until_true(follower, truth, "who of five workers is there")

    @case(needs=("registers",), within=30.0)
    async def test_misses_nothing(self, stage: DiscoveryStage) -> None:
        """A watch that begins while workers come, change and go ends up with the right ones."""
        backend, frontend = await stage.backend(), await stage.backend()
        followers: list[Follower] = []
        workers = [await stage.published(backend) for _ in range(3)]
        truth: dict[Key, object] = {_key(worker): "a:1" for worker in workers}
        for turn in range(10):
            followers += [stage.begin_watch(one, stage.path()) for one in (backend, frontend)]
            gone = workers.pop(0)
            leaving = asyncio.ensure_future(gone.withdraw())
            workers.append(await stage.published(backend))
            await workers[0].publish(f"moved:{turn}")
            await leaving
            del truth[_key(gone)]
            truth |= {_key(workers[-1]): "a:1", _key(workers[0]): f"moved:{turn}"}
        for place, follower in enumerate(followers):
            what = f"the three workers that are there in the end, to watch {place + 1} of {len(followers)},"
            await _until_true(follower, truth, what, look=_LISTING)

    @case(needs=("registers",))
    async def test_in_order(self, stage: DiscoveryStage) -> None:
        """What is told of a worker comes in the order in which it happened, up to the last."""
        backend, frontend = await stage.backend(), await stage.backend()
        follower = await stage.watch(frontend, stage.path())
        worker = await stage.worker(backend)
        for version in range(30):
            await worker.publish(version)
        look = "the way of a change to `watch`: tasks or threads that overtake each other"
        await follower.until(lambda: 29 in _versions(follower, worker), "the last of 30 records of a worker")
        versions = _versions(follower, worker)
        check(
            versions == sorted(versions),
            did=f"records that were published as 0, 1, 2 … 29 were told as {_some(versions)}",
            wanted="none is told after a later one; some may be left out",
            look=look,
        )
        await _until_true(follower, {_key(worker): 29}, "nothing after the last of 30 records", look=look)

    @case(needs=("registers",))
    async def test_slow_reader(self, stage: DiscoveryStage) -> None:
        """Who takes nothing for a while holds up nobody, and gets everything afterwards."""
        backend = await stage.backend()
        slow, quick = await stage.watch(backend, stage.path()), await stage.watch(backend, stage.path())
        slow.hold()
        workers = [await stage.published(backend) for _ in range(8)]
        for turn in range(8):
            for worker in workers:
                await worker.publish(turn)
        for worker in workers[:4]:
            await worker.withdraw()
        truth = {_key(worker): 7 for worker in workers[4:]}
        await _until_true(quick, truth, "76 changes, while another watch took none,", look=_SLOW)
        slow.go_on()
        await _until_true(slow, truth, "what had happened while it took nothing", look=_SLOW)

    @case(needs=("registers",), within=30.0)
    async def test_many(self, stage: DiscoveryStage) -> None:
        """With 64 workers of 8 endpoints each is told of when it comes, and when it goes."""
        backends = [await stage.backend() for _ in range(2)]
        follower = await stage.watch(backends[0])
        paths = [stage.path(f"endpoint-{number}") for number in range(8)]
        workers = [await stage.published(backends[turn % 2], path) for turn in range(8) for path in paths]
        await follower.until(lambda: len(follower.there) == 64, "64 workers", within=10.0)
        for worker in workers:
            await worker.withdraw()
        await follower.until(lambda: not follower.there, "that 64 workers are gone", within=10.0)

    @case()
    async def test_cancelled(self, stage: DiscoveryStage) -> None:
        """A watch that is cancelled, at whatever moment, leaves nothing behind, and disturbs no other."""
        backend = await stage.backend()
        await (await stage.watch(backend)).aclose()
        stays = await stage.watch(backend)
        before = _running()
        for turns in range(25):
            follower = stage.begin_watch(backend, stage.path())
            for _ in range(turns):
                await asyncio.sleep(0)
            await follower.aclose()
        await _check_settled(stage, before)
        await _check_still_told(stage, backend, stays)


def _versions(follower: Follower, worker: Worker) -> list[Any]:
    return [change.instance.transport["trial"] for change in follower.of(worker) if change.up]


def _some(versions: Sequence[Any]) -> str:
    shown = ", ".join(map(str, versions[:12]))
    return f"{shown} …" if len(versions) > 12 else shown


def _key(worker: Worker) -> Key:
    return worker.endpoint, worker.incarnation


async def _until_true(follower: Follower, truth: Mapping[Key, object], what: str, look: str = "") -> None:
    """Wait until all that was told adds up to the truth."""
    __tracebackhide__ = True

    def is_true() -> bool:
        return {key: one.transport.get("trial") for key, one in follower.there.items()} == truth

    await follower.until(is_true, what, within=10.0, look=look)


def _check_zeros(workers: Sequence[Worker]) -> None:
    numbers = {str(worker.endpoint): worker.number for worker in workers if worker.number}
    check(
        not numbers,
        did=f"the first worker of an endpoint whose name is like others' got a number of theirs: {numbers}",
        wanted="0: each endpoint counts for itself",
        look="how `reserve` looks for numbers: compare the three parts of the EndpointId",
        blame="numbers.lowest_free",
    )


def _running() -> tuple[int, int, int]:
    return len(asyncio.all_tasks()), len(sockets()), threading.active_count()


async def _check_settled(stage: DiscoveryStage, before: tuple[int, int, int]) -> None:
    """No more runs than before; one more of each may be for all watches together."""
    deadline = time.monotonic() + 2.0 * stage.patience
    while any(now > then + 1 for now, then in zip(_running(), before, strict=True)):
        counts = zip(("tasks", "sockets", "threads"), _running(), before, strict=True)
        check(
            time.monotonic() < deadline,
            did="after 25 watches were cancelled there are more than before: "
            + ", ".join(f"{now} {name} instead of {then}" for name, now, then in counts if now > then),
            wanted="what a watch has goes with it",
            look="a `finally` in `watch` that ends what it has started",
        )
        await asyncio.sleep(0.02)


async def _check_still_told(stage: DiscoveryStage, backend: Discovery, stays: Follower) -> None:
    stays.check_goes_on()
    if stage.capabilities.registers:
        worker = await stage.published(backend)
        await stays.until(lambda: stays.sees(worker), "a worker that came after others stopped watching")

"""A router that leaves busy workers alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from memory_planes import Network, eventually
from reqplane import PushRouter, RouterMode, WorkerBusy
from reqplane.interfaces import RouterPolicy
from reqplane.model import EndpointId, Instance, Load, Request
from reqplane.push_router import UnlessBusy
from reqplane.routing import Random, RoundRobin

from .conftest import Fleet

ENDPOINT = EndpointId("ns", "comp", "ep")
REQUEST = Request({})
NOBODY: frozenset[int] = frozenset()


def worker(incarnation: int, capacity: int | None = 4) -> Instance:
    return Instance(ENDPOINT, incarnation, incarnation, {}, capacity=capacity)


def policy(threshold: float, *workers: Instance, inner: RouterPolicy | None = None) -> UnlessBusy:
    inner = inner or RoundRobin()
    made = UnlessBusy(inner, "ns.comp.ep", threshold)
    for one in (inner, made):
        one.changed(workers, [])
    return made


def send(policy: RouterPolicy, avoid: frozenset[int] = NOBODY) -> int | None:
    picked = policy.pick(REQUEST, avoid)
    if picked is None:
        return None
    policy.started(picked)
    return picked.incarnation


def test_requests_of_our_own_make_a_worker_busy():
    router = policy(0.5, worker(1), worker(2, capacity=8))
    assert [send(router) for _ in range(6)] == [1, 2, 1, 2, 2, 2]
    with pytest.raises(
        WorkerBusy, match="all 2 workers are busy: each has at least 50% of its capacity in use"
    ):
        send(router)
    router.finished(worker(1), "done")
    assert send(router) == 1


def test_what_a_worker_reports_counts_too():
    router = policy(1.0, worker(1), worker(2))
    router.reported(worker(1), Load(running=3, queued=1, capacity=4))
    assert [send(router) for _ in range(4)] == [2, 2, 2, 2]
    with pytest.raises(WorkerBusy):
        send(router)
    router.reported(worker(1), Load(running=3, queued=0, capacity=4))
    assert send(router) == 1


def test_a_report_holds_our_own_requests_once():
    router = policy(1.0, worker(1))
    assert [send(router) for _ in range(3)] == [1, 1, 1]
    router.reported(worker(1), Load(running=3, queued=0, capacity=4))
    assert send(router) == 1


def test_the_last_report_of_an_answer_does_not_keep_a_worker_busy():
    """It still holds the request that is over."""
    router = policy(1.0, worker(1, capacity=1))
    assert send(router) == 1
    router.reported(worker(1), Load(running=1, queued=0, capacity=1))
    router.finished(worker(1), "done")
    assert send(router) == 1


def test_a_worker_without_a_capacity_is_never_busy():
    router = policy(0.1, worker(1, capacity=None))
    assert [send(router) for _ in range(50)] == [1] * 50
    router.reported(worker(1, capacity=None), Load(1000, 1000))
    assert send(router) == 1


def test_those_that_were_tried_and_those_that_are_busy_are_passed_over():
    router = policy(1.0, worker(1), worker(2), worker(3, capacity=1), inner=Random())
    router.started(worker(3))
    assert {send(policy(1.0, worker(1), worker(2)), frozenset({1})) for _ in range(5)} == {2}
    assert {router.pick(REQUEST, frozenset({1})).incarnation for _ in range(20)} == {2}  # type: ignore[union-attr]
    assert router.pick(REQUEST, frozenset({1, 2})) is None


def test_a_busy_worker_that_goes_is_forgotten():
    router = policy(1.0, worker(1, capacity=1), worker(2))
    router.started(worker(1))
    for one in (router._inner, router):
        one.changed([], [worker(1)])
    assert [send(router) for _ in range(4)] == [2] * 4
    with pytest.raises(WorkerBusy, match="the only worker is busy"):
        send(router)


def test_a_new_record_with_more_capacity_counts_at_once():
    router = policy(1.0, worker(1, capacity=1))
    router.started(worker(1, capacity=1))
    for one in (router._inner, router):
        one.changed([worker(1, capacity=2)], [worker(1, capacity=1)])
    assert send(router) == 1


@pytest.mark.parametrize("threshold", [0, -1, 1.5, float("nan")])
async def test_a_threshold_that_is_none(threshold: float):
    with pytest.raises(ValueError, match="wanted more than 0 and at most 1, or None"):
        await PushRouter.from_client_with_threshold(None, "random", threshold)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", ["1", True, [0.5]])
async def test_a_threshold_of_another_type(threshold: Any):
    with pytest.raises(TypeError, match="wanted a number or None"):
        await PushRouter.from_client_with_threshold(None, "random", threshold)  # type: ignore[arg-type]


async def until_stopped(request: Any, context: Any) -> AsyncIterator[int]:
    yield 1
    await context.stopped()


async def test_all_busy_is_told_before_anything_is_sent():
    fleet = Fleet(Network("ack"), "msgpack")
    try:
        fleet.add(until_stopped, max_concurrent=1)
        fleet.add(until_stopped, max_concurrent=1)
        router = await PushRouter.from_client_with_threshold(fleet.client(), RouterMode.RoundRobin, 1.0)
        streams = [await router.generate(1), await router.generate(1)]
        assert {stream.instance.instance_id for stream in streams} == {0, 1}  # type: ignore[union-attr]
        with pytest.raises(WorkerBusy, match="all 2 workers are busy") as caught:
            await router.generate(1)
        assert caught.value.workers == 2
        assert caught.value.endpoint == "ns.comp.ep"
        assert len(fleet.network.sent) == 2
        waiting = await router.direct(1, 0)  # it was asked for
        await streams[0].aclose()
        await eventually(lambda: len(fleet.workers[0].running) == 1)
        free = await PushRouter.from_client_with_threshold(router.client, None, None)
        stream = await free.generate(1)  # no threshold: it waits in a queue
        for one in (stream, waiting, streams[1]):
            await one.aclose()
    finally:
        await fleet.close()


async def test_routers_of_one_threshold_count_together():
    fleet = Fleet(Network("ack"), "msgpack")
    try:
        fleet.add(until_stopped, max_concurrent=1)
        client = fleet.client()
        one = await PushRouter.from_client_with_threshold(client, "round_robin", 1)
        other = await PushRouter.from_client_with_threshold(client, "round_robin", 1.0)
        stream = await one.generate(1)
        with pytest.raises(WorkerBusy):
            await other.generate(1)
        await stream.aclose()
    finally:
        await fleet.close()

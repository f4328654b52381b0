"""What a worker takes on, and what frontends hear of its load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from memory_planes import MemoryHome, Network, eventually
from reqplane import WorkerBusy
from reqplane.host import InflightBytes, RuntimeHost
from reqplane.model import Limits, Load
from reqplane.workload import EndpointWork, Workload

from .conftest import Fleet


@pytest.fixture
async def host() -> AsyncIterator[RuntimeHost]:
    host = RuntimeHost({}, Limits(max_running=3, max_inflight_bytes=1000))
    yield host
    await host.aclose()


def workload(host: RuntimeHost, reports: list[Load] | None = None) -> EndpointWork:
    return process(host, reports).endpoint("ns.comp.ep")


def process(host: RuntimeHost, reports: list[Load] | None = None) -> Workload:
    told = [] if reports is None else reports
    return Workload(host.limits, host.inflight, host.timers, told.append)


async def test_no_more_requests_than_it_may_run(host: RuntimeHost) -> None:
    work = workload(host)
    for _ in range(3):
        work.admit(1)
    with pytest.raises(WorkerBusy, match="3 requests are running"):
        work.admit(1)
    work.release(1)
    work.admit(1)
    assert work.running == 3


async def test_no_more_bytes_than_it_may_hold(host: RuntimeHost) -> None:
    work = workload(host)
    work.admit(600)
    with pytest.raises(WorkerBusy, match=r"500 bytes do not fit in.*1000 bytes \(DYN_MAX_INFLIGHT_BYTES\)"):
        work.admit(500)
    assert work.running == 1
    work.admit(400)
    work.release(600)
    work.release(400)
    assert host.inflight.used == 0


def test_a_request_alone_may_be_of_any_size() -> None:
    inflight = InflightBytes(1000)
    assert inflight.take(5000)
    assert not inflight.take(1)
    inflight.give(5000)
    assert inflight.take(1)


async def test_a_load_that_changes_is_told_ten_times_a_second_at_most(host: RuntimeHost) -> None:
    reports: list[Load] = []
    work = workload(host, reports)
    begin = asyncio.get_running_loop().time()
    for _ in range(100):
        work.admit(1)
        work.release(1)
        await asyncio.sleep(0.002)
    work.admit(1)
    await eventually(lambda: bool(reports))
    await eventually(lambda: reports[-1] == Load(1, 0))
    elapsed = asyncio.get_running_loop().time() - begin
    assert len(reports) <= elapsed / 0.1 + 1
    await asyncio.sleep(0.3)
    told = len(reports)
    await asyncio.sleep(0.3)
    assert len(reports) == told  # nothing changed


async def test_a_load_that_is_the_same_again_is_not_told(host: RuntimeHost) -> None:
    reports: list[Load] = []
    work = workload(host, reports)
    work.admit(1)
    work.release(1)
    await asyncio.sleep(0.3)
    assert reports == []


async def until_stopped(request: Any, context: Any) -> AsyncIterator[int]:
    yield 1
    await context.stopped()


async def test_a_request_too_many_goes_to_another_worker() -> None:
    fleet = Fleet(Network("ack"), "msgpack", Limits(max_running=1))
    try:
        fleet.add(until_stopped)
        fleet.add(until_stopped)
        client = fleet.client()
        first, second = await client.generate(1), await client.generate(1)
        assert [stream.instance.instance_id for stream in (first, second)] == [0, 1]  # type: ignore[union-attr]
        await first.aclose()
        await eventually(lambda: not fleet.workers[0].running)
        third = await client.direct(1, 0)
        with pytest.raises(WorkerBusy, match=r"tried ns\.comp\.ep/0, ns\.comp\.ep/1"):
            await client.generate(1)
        for stream in (second, third):
            await stream.aclose()
    finally:
        await fleet.close()


async def test_bytes_of_a_request_are_given_back_however_it_ends() -> None:
    fleet = Fleet(Network("ack"), "msgpack", Limits())

    async def handler(request: Any, context: Any) -> AsyncIterator[int]:
        yield 1
        if request == "fail":
            raise ValueError
        await context.stopped()

    try:
        fleet.add(handler)
        client = fleet.client()
        streams = [await client.generate(what) for what in ("fail", "stop", "leave")]
        assert fleet.host.inflight.used > 0
        with pytest.raises(Exception, match="ValueError"):
            [item async for item in streams[0]]
        streams[1].stop_generating()
        assert [item async for item in streams[1]] == [1]
        await streams[2].aclose()
        await eventually(lambda: not fleet.workers[0].running)
        assert fleet.host.inflight.used == 0
    finally:
        await fleet.close()


# ── a bound of the endpoint's own ──


async def test_more_than_may_run_wait_in_the_order_of_arrival(host: RuntimeHost) -> None:
    work = process(host).endpoint("ns.comp.ep", 1)
    assert work.admit(1) is None
    second, third = work.admit(1), work.admit(1)
    assert second is not None
    assert third is not None
    assert work.load() == Load(1, 2, 1)
    work.release(1)
    assert second.done()
    assert not third.done()
    assert work.load() == Load(1, 1, 1)
    work.release(1, second)
    work.release(1, third)
    assert work.load() == Load(0, 0, 1)
    assert work.admit(1) is None


async def test_one_that_gives_up_waiting_is_passed_over(host: RuntimeHost) -> None:
    work = process(host).endpoint("ns.comp.ep", 1)
    work.admit(1)
    second, third = work.admit(1), work.admit(1)
    assert second is not None
    assert third is not None
    second.cancel()
    work.release(1)
    assert third.done()
    work.release(1, second)
    assert work.load() == Load(1, 0, 1)
    work.release(1, third)
    assert work.load() == Load(0, 0, 1)


async def test_one_that_gave_up_just_when_its_turn_came_hands_it_on(host: RuntimeHost) -> None:
    work = process(host).endpoint("ns.comp.ep", 1)
    work.admit(1)
    second, third = work.admit(1), work.admit(1)
    work.release(1)  # the second has its turn; its task is cancelled before it can take it
    work.release(1, second)
    assert third is not None
    assert third.done()
    assert work.load() == Load(1, 0, 1)


async def test_a_full_queue_refuses(host: RuntimeHost) -> None:
    work = process(host).endpoint("ns.comp.ep", 1, 1)
    work.admit(1)
    work.admit(1)
    with pytest.raises(WorkerBusy, match=r"1 requests of ns\.comp\.ep are running and 1 are waiting"):
        work.admit(1)
    none_waits = process(host).endpoint("ns.comp.ep", 1, 0)
    none_waits.admit(1)
    with pytest.raises(WorkerBusy):
        none_waits.admit(1)


async def test_where_several_endpoints_are_served_each_report_says_whose_it_is(host: RuntimeHost) -> None:
    both = process(host)
    one = both.endpoint("ns.comp.one", 2)
    assert one.load() == Load(0, 0, 2)
    other = both.endpoint("ns.comp.other")
    other.admit(1)
    assert one.load() == Load(0, 0, 2, "ns.comp.one")
    assert other.load() == Load(1, 0, None, "ns.comp.other")
    both.forget(other)
    assert one.load() == Load(0, 0, 2)


async def test_requests_beyond_the_bound_are_accepted_and_run_one_after_the_other() -> None:
    running = most = 0

    async def handler(request: int) -> AsyncIterator[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        yield request

    fleet = Fleet(Network("ack"), "msgpack")
    try:
        fleet.add(handler, max_concurrent=2)
        client = fleet.client()
        streams = [await client.generate(number) for number in range(9)]
        assert [[item async for item in stream] for stream in streams] == [[number] for number in range(9)]
        assert most == 2
    finally:
        await fleet.close()


async def test_a_caller_that_leaves_while_its_request_waits_frees_its_place() -> None:
    fleet = Fleet(Network("ack"), "msgpack")
    try:
        worker = fleet.add(until_stopped, max_concurrent=1, max_queued=1)
        client = fleet.client()
        first, second = await client.generate(1), await client.generate(2)
        with pytest.raises(WorkerBusy):
            await client.generate(3)
        await second.aclose()
        await eventually(lambda: len(worker.running) == 1)
        third = await client.generate(3)
        await first.aclose()
        assert [item async for item in limited(third)] == [1]
    finally:
        await fleet.close()


async def test_a_caller_of_dynamos_hears_at_once_that_its_request_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gives up what waits without a word when the worker goes from discovery."""
    begun: list[MemoryHome] = []
    monkeypatch.setattr(MemoryHome, "prologue", lambda home, error: begun.append(home))
    fleet = Fleet(Network("ack"), "msgpack")
    fleet.network.enveloped = True
    try:
        fleet.add(until_stopped, max_concurrent=1)
        client = fleet.client()
        _ = [await client.generate(number) for number in range(3)]
        await eventually(lambda: len(begun) == 3)
        assert len(set(begun)) == 3
    finally:
        await fleet.close()


async def limited(stream: Any) -> AsyncIterator[Any]:
    """The first item."""
    async for item in stream:
        yield item
        return


async def test_who_heard_of_a_load_at_an_end_hears_when_it_is_over(host: RuntimeHost) -> None:
    """Else a frontend that leaves busy workers alone would never ask this one again."""
    reports: list[Load] = []
    work = workload(host, reports)
    work.admit(1)
    work.admit(1)
    work.report()  # at the end of the first, to its frontend alone
    work.release(1)
    work.release(1)
    await eventually(lambda: reports == [Load(0, 0)])

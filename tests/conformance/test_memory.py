"""The memory transport conforms, and serves as a double in users' unit tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import reqplane
from reqplane.errors import CannotConnect, DeliveryUnknown, RequestRefused, WorkerBusy
from reqplane.interfaces import Delivery
from reqplane.model import NEVER, EndpointId, Limits, Served
from reqplane.wire.frame import Frame
from reqplane_conformance import RequestTransportConformance
from reqplane_conformance.host import SuiteHost
from reqplane_conformance.memory import MemoryTransport, network
from reqplane_conformance.memory.conforming import InMemory
from reqplane_conformance.request.stage import instance_of

ENV = {"DYN_REQUEST_PLANE": "memory", "DYN_DISCOVERY_BACKEND": "mem", "MEMORY_REQUEST_TIMEOUT": "0.2"}
PATH = "default.backend.generate"


class TestMemory(InMemory, RequestTransportConformance):
    transport = MemoryTransport


class Counting:
    """Answers with how many requests it has got."""

    def __init__(self) -> None:
        self.requests = 0

    async def generate(self, request: Any) -> AsyncIterator[int]:
        self.requests += 1
        yield self.requests


@asynccontextmanager
async def serving(counting: Counting) -> AsyncGenerator[reqplane.Client]:
    """A worker, and a client of it on a runtime of its own."""
    async with (
        reqplane.connect(ENV, signals=False) as worker,
        reqplane.connect(ENV, signals=False) as frontend,
    ):
        service = asyncio.create_task(worker.endpoint(PATH).serve_endpoint(counting.generate))
        client = await frontend.endpoint(PATH).client()
        await client.wait_for_instances(timeout=5)
        yield client
        service.cancel()


async def ask(client: reqplane.Client) -> list[int]:
    return [item async for item in client.generate("question")]


async def test_a_request_is_answered():
    async with serving(Counting()) as client:
        assert await ask(client) == [1]


@pytest.mark.parametrize(
    "error", [CannotConnect("no route", address="10.0.0.7:1"), DeliveryUnknown("timed_out"), WorkerBusy("so")]
)
async def test_the_next_send_fails_and_no_other(error: reqplane.RequestError):
    counting = Counting()
    async with serving(counting) as client:
        network().fail_next(error)
        with pytest.raises(type(error)):
            await ask(client)
        assert counting.requests == 0
        await client.wait_for_instances(timeout=5)
        assert await ask(client) == [1]


async def test_an_error_met_twice_is_two():
    first = RequestRefused("not now")
    async with serving(Counting()) as client:
        network().fail_next(first, times=2)
        for _ in range(2):
            with pytest.raises(RequestRefused) as caught:
                await ask(client)
            assert caught.value is not first
        assert first.request_id is None


async def test_a_worker_may_get_what_its_sender_thinks_lost():
    arrived: list[Delivery] = []

    def accept(delivery: Delivery) -> None:
        arrived.append(delivery)

    host = SuiteHost({}, Limits())
    transport = await MemoryTransport.open(host)
    endpoint = EndpointId.parse(PATH)
    listener = await transport.listen(Served(endpoint, host.incarnation, 0, ""), accept)
    target = transport.target(instance_of("memory", endpoint, host.incarnation, 0, listener.record(0)))
    assert target is not None
    network().fail_next(DeliveryUnknown("connection_lost", "the ack was lost"), delivered=True)
    with pytest.raises(DeliveryUnknown, match="the ack was lost"):
        await transport.send(target, Frame(b"{}", b"question"), {}, NEVER)
    assert len(arrived) == 1
    await transport.aclose()
    await host.aclose()


async def test_a_worker_that_vanished_is_not_there():
    async with serving(Counting()) as client:
        (address,) = network().addresses
        network().vanish(address)
        with pytest.raises(CannotConnect, match=address):
            await ask(client)


async def test_a_frozen_worker_runs_into_the_time_out_and_thaws():
    counting = Counting()
    async with serving(counting) as client:
        (address,) = network().addresses
        network().freeze(address)
        with pytest.raises(DeliveryUnknown, match="timed_out"):
            await ask(client)
        assert counting.requests == 0
        network().thaw(address)
        assert await ask(client) == [1]


async def test_what_waits_at_a_frozen_worker_goes_on():
    async with serving(Counting()) as client:
        (address,) = network().addresses
        network().freeze(address)
        asking = asyncio.create_task(ask(client))
        await asyncio.sleep(0.05)
        network().thaw(address)
        assert await asking == [1]


async def test_a_slow_worker_takes_one_after_the_other():
    async with serving(Counting()) as client:
        (address,) = network().addresses
        network().slow_down(address, 0.05)
        began = time.monotonic()
        await asyncio.gather(ask(client), ask(client))
        assert time.monotonic() - began >= 0.1


async def test_an_unknown_address_is_told_from_those_that_there_are():
    async with serving(Counting()):
        with pytest.raises(LookupError, match="memory:1"):
            network().freeze("memory:77")
        with pytest.raises(LookupError, match="no address of the memory transport"):
            network().vanish("10.0.0.7:8081")

"""A fleet in memory: workers, and a client that knows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from memory_planes import MemoryRequests, MemoryResponses, Network
from reqplane.client import Client
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.endpoint import Answering, ServedEndpoint
from reqplane.handlers import adapt
from reqplane.host import RuntimeHost
from reqplane.instances import InstanceTable
from reqplane.interfaces import Observer, PayloadCodec
from reqplane.model import Change, EndpointId, Instance, Limits
from reqplane.routing import Random, RoundRobin
from reqplane.sending import Calling
from reqplane.workload import Workload

ENDPOINT = EndpointId("ns", "comp", "ep")
CODECS = {"msgpack": MsgpackCodec(), "json": JsonCodec()}


class Nowhere(MemoryDiscovery):
    """A discovery backend that the tests' tables do without; it holds two other endpoints."""

    def __init__(self) -> None:
        pass

    async def watch(self, endpoint: EndpointId | None) -> AsyncGenerator[list[Change], None]:
        found = [Instance(EndpointId("ns", "comp", name), 0, 5, {}) for name in ("eq", "other")]
        yield [Change(instance, up=True) for instance in found]


class Fleet:
    """Workers and one client, joined by a `Network`."""

    def __init__(self, network: Network, codec: str, limits: Limits | None = None) -> None:
        self.network = network
        self.codec = codec
        self.codecs: Mapping[str, PayloadCodec] = CODECS
        self.limits = limits or Limits()
        self.host = RuntimeHost({}, self.limits)
        self.response = MemoryResponses(network)
        self.observers: Sequence[Observer] = ()
        self.call_home_timeout = 5.0
        self.idle_timeout: float | None = None
        self.workers: list[ServedEndpoint] = []
        self.instances: list[Instance] = []
        self.planes: tuple[str, ...] = ("memory",)

    def add(
        self,
        handler: Callable[..., Any],
        planes: tuple[str, ...] | None = None,
        max_concurrent: int | None = None,
        max_queued: int | None = None,
        hands_off: bool = False,
        streamed: bool = False,
    ) -> ServedEndpoint:
        """One more worker; its number and incarnation are its place in the list and 100 more."""
        number = len(self.workers)
        answering = Answering(
            100 + number,
            self.response,
            self.codecs,
            self.host.timers,
            self.observers,
            Workload(self.limits, self.host.inflight, self.host.timers, self.response.report),
            max_frame_bytes=1 << 20,
        )
        work = answering.workload.endpoint(str(ENDPOINT), max_concurrent, max_queued)
        adapted = adapt(handler, streamed=streamed)
        worker = ServedEndpoint(ENDPOINT, adapted, answering, work, hands_off=hands_off, streamed=streamed)
        worker.instance_ids.add(number)
        self.workers.append(worker)
        self.network.accepts[100 + number] = worker.accept
        planes = self.planes if planes is None else planes
        transport = dict.fromkeys(planes, "here")
        instance = Instance(
            ENDPOINT, number, 100 + number, transport, self.codec, planes, capacity=max_concurrent
        )
        self.instances.append(instance)
        return worker

    def client(self, mode: str = "round_robin") -> Client:
        policies = {"round_robin": RoundRobin(), "random": Random()}
        transports = [MemoryRequests(self.network, name) for name in self.planes]
        self.table = InstanceTable(ENDPOINT, Nowhere(), transports, self.codecs, self.host.timers)  # type: ignore[arg-type]
        for policy in policies.values():
            self.table.inform(policy)
        self.table._apply([Change(instance, up=True) for instance in self.instances])
        calling = Calling(
            self.response,
            self.host.timers,
            self.observers,
            self.planes,
            self.call_home_timeout,
            self.idle_timeout,
            self.host.spawn,
        )

        async def routed(mode: str) -> Client:
            return self.client(mode)

        return Client(calling, self.table, mode, policies, routed)

    async def close(self) -> None:
        for worker in self.workers:
            for task in list(worker.running):
                task.cancel()
        await asyncio.sleep(0)
        await asyncio.gather(*(task for w in self.workers for task in w.running), return_exceptions=True)
        await self.host.aclose()


@pytest.fixture(params=["ack", "home"])
def first(request: pytest.FixtureRequest) -> str:
    """Which comes first: every test runs under both orders."""
    return request.param


@pytest.fixture
async def fleet(first: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(Network(first), "msgpack")
    yield fleet
    await fleet.close()

"""Calls that end in every way at every moment, many at once: nothing is answered twice, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from memory_planes import MemoryRequests, MemoryResponses, Network, eventually
from reqplane import ReqplaneError
from reqplane.balancing import LeastLoaded, PowerOfTwo
from reqplane.client import Client
from reqplane.context import Context
from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, RequestRefused, WorkerDraining
from reqplane.interfaces import Outcome, RouterPolicy
from reqplane.model import Change, ConnectionInfo, Headers, Instance, Limits
from reqplane.stream import Stream
from reqplane.wire.frame import Frame

from .conftest import Fleet

CALLS = 400
WORKERS = 4
ITEMS = 12


class Weather:
    """What goes wrong, drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ran: Counter[str] = Counter()
        """How often a handler has started, by request."""

    def happens(self, share: float) -> bool:
        return self.random.random() < share

    async def wait(self) -> None:
        """No turn of the loop, some, or some milliseconds."""
        if self.happens(0.3):
            await asyncio.sleep(self.random.random() * 0.01)
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def handler(self, request: Any, context: Context) -> AsyncIterator[int]:
        self.ran[context.id] += 1
        await self.wait()
        for number in range(ITEMS):
            if context.is_stopped():
                return
            if self.happens(0.01):
                raise ValueError("bad weather")
            if self.happens(0.01):
                yield object()  # type: ignore[misc]
            yield number
            try:
                await self.wait()
            except asyncio.CancelledError:
                if self.happens(0.5):
                    return
                raise


class StormyRequests(MemoryRequests):
    """Fails before, after and without delivery; acknowledges late."""

    weather: Weather

    async def send(self, target: int, frame: Frame, headers: Headers, deadline: float) -> None:
        weather = self.weather
        await weather.wait()
        if weather.happens(0.15):
            raise weather.random.choice(
                [
                    CannotConnect("no", address="x"),
                    WorkerDraining("leaves"),
                    DeliveryUnknown("timed_out", "?"),
                ]
            )
        if weather.happens(0.02):
            raise FrameTooLarge(1, 0)
        try:
            async with asyncio.timeout(0.2):
                await super().send(target, frame, headers, deadline)
        except TimeoutError:
            raise DeliveryUnknown("timed_out", "no ack") from None
        await weather.wait()
        if weather.happens(0.05):
            raise DeliveryUnknown("connection_lost", "its ack was lost")


class StormyResponses(MemoryResponses):
    """Workers call home late, not at all, or lose the connection."""

    weather: Weather

    async def call_home(self, info: ConnectionInfo, control: Any) -> Any:
        await self.weather.wait()
        if self.weather.happens(0.03):
            raise CannotConnect("the way home is closed", address="frontend")
        home = await super().call_home(info, control)
        if self.weather.happens(0.05):
            delay = self.weather.random.random() * 0.02
            asyncio.get_running_loop().call_later(delay, home.lose)
        return home


class Counting(RouterPolicy):
    """Picks at random, and keeps the books."""

    name = "counting"

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.present: dict[int, Instance] = {}
        self.open: Counter[int] = Counter()
        self.outcomes: Counter[Outcome] = Counter()

    def changed(self, added: Any, removed: Any) -> None:
        for instance in removed:
            self.present.pop(instance.incarnation, None)
        self.present.update({instance.incarnation: instance for instance in added})

    def pick(self, request: Any, avoid: Any) -> Instance | None:
        left = [instance for key, instance in self.present.items() if key not in avoid]
        return self._random.choice(left) if left else None

    def started(self, instance: Instance) -> None:
        self.open[instance.incarnation] += 1

    def finished(self, instance: Instance, outcome: Outcome) -> None:
        self.open[instance.incarnation] -= 1
        self.outcomes[outcome] += 1
        assert self.open[instance.incarnation] >= 0


class Storm:
    def __init__(self, seed: int) -> None:
        self.weather = Weather(seed)
        StormyRequests.weather = StormyResponses.weather = self.weather
        self.fleet = Fleet(
            Network(self.weather.random.choice(["ack", "home"])),
            "msgpack",
            Limits(max_running=30, max_inflight_bytes=8000),
        )
        self.fleet.response = StormyResponses(self.fleet.network)
        self.fleet.planes = ("one", "two")
        self.fleet.call_home_timeout = 0.1
        for _ in range(WORKERS):
            self.fleet.add(self.weather.handler)
        self.policies = [Counting(seed), LeastLoaded(), PowerOfTwo()]
        self.client = self._client()
        self.outcomes: Counter[str] = Counter()

    def _client(self) -> Client:
        client = self.fleet.client()
        client.table._transports = [StormyRequests(self.fleet.network, name) for name in self.fleet.planes]
        for policy in self.policies:
            client.table.inform(policy)
        client.table._apply([Change(instance, up=True) for instance in self.fleet.instances])
        return client

    async def comes_and_goes(self) -> None:
        """The second half of the workers leaves discovery, and comes back with another record."""
        weather = self.weather
        while True:
            await asyncio.sleep(weather.random.random() * 0.02)
            instance = weather.random.choice(self.fleet.instances[WORKERS // 2 :])
            up = weather.happens(0.6)
            self.client.table._apply([Change(instance, up=up)])

    async def call(self, number: int) -> None:
        weather = self.weather
        await asyncio.sleep(weather.random.random() * 0.3)
        context = Context() if weather.happens(0.5) else None
        timeout = weather.random.random() * 0.1 if weather.happens(0.3) else None
        policy, instance_id = weather.random.choice(self.policies), None
        if weather.happens(0.1):
            policy, instance_id = None, weather.random.randrange(WORKERS)
        stream = Stream(self.client, "x" * 100, policy, instance_id, context, timeout, False)
        reading = asyncio.ensure_future(self.read(stream))
        touched = await self.disturb(stream, context, reading)
        try:
            items = await reading
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
        except ReqplaneError as error:
            self.outcomes[type(error).__name__] += 1
            if isinstance(error, DeliveryUnknown | RequestRefused | CannotConnect):
                assert stream.items_received == 0
        else:
            self.outcomes["ended"] += 1
            if not touched and items is not None:
                assert items == list(range(ITEMS))
        assert weather.ran[stream.request_id] <= 1 or context is not None

    async def disturb(self, stream: Stream, context: Context | None, reading: asyncio.Task[Any]) -> bool:
        """End it in one way or another, or in several, or in none; whether something was done."""
        weather, touched = self.weather, False
        ways: list[Callable[[], object] | None] = [None, None, reading.cancel, stream.stop_generating]
        ways.append(lambda: asyncio.ensure_future(stream.aclose()))
        if context is not None:
            ways += [context.kill, context.stop_generating]
        for _ in range(weather.random.randrange(3)):
            await weather.wait()
            way = weather.random.choice(ways)
            if way is not None:
                way()
                touched = True
        return touched

    async def read(self, stream: Stream) -> list[int] | None:
        if self.weather.happens(0.3):
            await stream
            if self.weather.happens(0.2):
                return None  # dropped unread
        items: list[int] = []
        async for item in stream:
            items.append(item)
            if self.weather.happens(0.02):
                return None
            if self.weather.happens(0.2):
                await asyncio.sleep(0)
        return items


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_books_are_even_afterwards(seed: int) -> None:
    storm = Storm(seed)
    fleet = storm.fleet
    before = asyncio.all_tasks()
    moving = asyncio.ensure_future(storm.comes_and_goes())
    await asyncio.gather(*(storm.call(number) for number in range(CALLS)))
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    gc.collect()
    assert all(count <= 1 for count in storm.weather.ran.values())

    await eventually(lambda: not any(worker.running for worker in fleet.workers))
    counting, least, two = storm.policies
    await eventually(lambda: not any(counting.open.values()))  # type: ignore[attr-defined]
    for policy in (least, two):
        assert isinstance(policy, LeastLoaded | PowerOfTwo)
        assert {known.own for known in policy._known.values()} <= {0}
        assert not policy._left
    assert [worker._answering.workload.running for worker in fleet.workers] == [0] * WORKERS
    assert fleet.host.inflight.used == 0
    assert not fleet.network.waiting
    await eventually(lambda: asyncio.all_tasks() <= before)
    await asyncio.sleep(0.25)  # the last load reports
    assert not any(fleet.host.timers._buckets.values())
    await fleet.close()

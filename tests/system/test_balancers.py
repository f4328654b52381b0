"""Three workers behind nginx and behind Envoy, by the files of examples/ (statements 37 to 40)."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import reqplane
import yaml
from balancers import EXAMPLES, Balancer, envoy, nginx
from fleet import PATH, Fleet
from memory_planes import eventually
from ports import free_ports
from reqplane import CannotConnect, DeliveryUnknown, FrameTooLarge

pytestmark = pytest.mark.system

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "x-request-id": "request-37",
    "x-dynamo-request-id": "dynamo-38",
}
CALLS = [600, pytest.param(3000, marks=pytest.mark.slow)]


def envoy_by_h2(folder: Path, workers: list[int]) -> Balancer:
    """With the lines that its page adds, for HTTP/2 toward the workers."""
    (lines,) = re.findall(r"```yaml\n(.*?)```", (EXAMPLES / "envoy" / "README.md").read_text(), re.DOTALL)
    return envoy(folder, workers, yaml.safe_load(lines))


BALANCERS = {"nginx": nginx, "envoy": envoy, "envoy by HTTP/2": envoy_by_h2}
WAYS = ("static", "advertise")


class Behind(Fleet):
    """Three workers behind a balancer; a frontend finds it in a list, or in their records."""

    def __init__(self, folder: Path, start: Callable[[Path, list[int]], Balancer], way: str) -> None:
        super().__init__(folder / "kv")
        self.way = way
        self.ports = free_ports(3)
        self.balancer = start(folder, self.ports)
        address = f"127.0.0.1:{self.balancer.port}"
        if way == "static":
            self.env |= {
                "DYN_DISCOVERY_BACKEND": "static",
                "DYN_STATIC_INSTANCES": f"{PATH}=http://{address}",
            }
        else:
            self.env["DYN_HTTP_RPC_ADVERTISE_HOST"] = address
        self.workers = [self.start("any_of", DYN_HTTP_RPC_PORT=str(port)) for port in self.ports]

    @property
    def instances(self) -> int:
        return 1 if self.way == "static" else 3

    async def up(self) -> None:
        """Wait until all three listen."""
        for port in self.ports:
            await eventually(lambda port=port: _listens(port), within=30)

    def close(self) -> None:
        super().close()
        self.balancer.close()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Callable[..., Behind]]:
    """Starts a balancer and its workers."""
    started: list[Behind] = []

    def start(balancer: Callable[..., Balancer], way: str) -> Behind:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Behind(folder, balancer, way))
        return started[-1]

    yield start
    for fleet in started:
        fleet.close()


async def seen(stream: reqplane.Stream) -> dict[str, object]:
    (answer,) = [item async for item in stream]
    return answer


async def call_often(client: reqplane.Client, count: int, at_once: int = 32) -> Counter[object]:
    """So many calls; who answered them.  Raises what any of them meets."""
    numbers = itertools.count()
    answered: Counter[object] = Counter()

    async def some() -> None:
        while (number := next(numbers)) < count:
            context = reqplane.Context(headers=TRACE)
            answer = await seen(client.generate({"handler": "context", "number": number}, context=context))
            assert answer["id"] == context.id
            headers = answer["headers"]
            assert isinstance(headers, dict)
            assert TRACE.items() <= headers.items()
            answered[answer["pid"]] += 1

    await asyncio.gather(*(some() for _ in range(at_once)))
    return answered


@pytest.mark.timeout(120)
@pytest.mark.parametrize("count", CALLS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS)
async def test_guide_37_38_40_no_call_fails_and_every_worker_gets_its_share(
    balancer: Callable[..., Balancer], way: str, count: int, behind: Callable[..., Behind]
) -> None:
    fleet = behind(balancer, way)
    await fleet.up()
    async with fleet.client(fleet.instances) as client:
        answered = await call_often(client, count)
    assert answered.keys() == {worker.pid for worker in fleet.workers}
    assert answered.total() == count
    assert min(answered.values()) > count / 6, answered


@pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS)
async def test_guide_37_a_direct_call_reaches_the_worker_that_it_names(
    balancer: Callable[..., Balancer], behind: Callable[..., Behind]
) -> None:
    """The others answer 421, and it is sent again until the balancer hands it to the right one."""
    fleet = behind(balancer, "advertise")
    await fleet.up()
    async with fleet.client(workers=3) as client:
        calls = [(n % 3, seen(client.direct({"handler": "context"}, n % 3))) for n in range(90)]
        answers = await asyncio.gather(*(call for _, call in calls))
    found = {(number, answer["pid"]) for (number, _), answer in zip(calls, answers, strict=True)}
    assert {number for number, _ in found} == {0, 1, 2}
    assert {pid for _, pid in found} == {worker.pid for worker in fleet.workers}
    assert len(found) == 3


@pytest.mark.parametrize("way", WAYS)
async def test_guide_39_an_answer_may_take_longer_than_the_time_outs_of_nginx(
    way: str, behind: Callable[..., Behind]
) -> None:
    """They bound the ack, which is quick; the answer goes past the balancer."""
    hasty = partial(nginx, proxy_read_timeout="500ms", proxy_send_timeout="500ms")
    fleet = behind(hasty, way)
    await fleet.up()
    async with fleet.client(fleet.instances) as client:
        slow = {"handler": "count", "n": 2, "pause": 1.2}
        assert [item async for item in client.generate(slow)] == [0, 1]


async def test_guide_39_what_nginx_itself_answers(behind: Callable[..., Behind]) -> None:
    """413: too large for it.  One worker down: it asks another.  All down: 502, may have been delivered."""
    fleet = behind(nginx, "static")
    await fleet.up()
    async with fleet.client() as client:
        with pytest.raises(FrameTooLarge, match="client_max_body_size in nginx"):
            await client.generate({"handler": "context", "padding": "x" * 1_100_000})
        fleet.workers[0].kill()
        fleet.workers[0].wait()
        answered = await call_often(client, 60)
        assert answered.keys() == {worker.pid for worker in fleet.workers[1:]}
        for worker in fleet.workers[1:]:
            worker.kill()
            worker.wait()
        with pytest.raises(DeliveryUnknown, match="answered 502") as caught:
            await client.generate({"handler": "context"})
        assert (caught.value.reason, caught.value.status) == ("gateway", 502)


async def test_guide_39_what_envoy_itself_answers(behind: Callable[..., Behind]) -> None:
    """It says whether it had a connection to a worker at all: without one, nothing was delivered."""
    fleet = behind(envoy, "static")
    await fleet.up()
    async with fleet.client() as client:
        await call_often(client, 6)
        for worker in fleet.workers:
            worker.kill()
            worker.wait()
        for _ in range(6):  # the first ones may meet connections that were lost just now
            with pytest.raises((CannotConnect, DeliveryUnknown), match="answered 503"):
                await client.generate({"handler": "context"})
        with pytest.raises(CannotConnect, match="the proxy reached no worker"):
            await client.generate({"handler": "context"})


@pytest.mark.parametrize("way", WAYS)
async def test_guide_37_39_workers_leave_one_after_the_other_and_no_call_fails(
    way: str, behind: Callable[..., Behind]
) -> None:
    fleet = behind(nginx, way)
    await fleet.up()
    async with fleet.client(fleet.instances) as client:
        calls = asyncio.create_task(call_often(client, 400, at_once=8))
        for worker in fleet.workers[:2]:
            worker.terminate()
            await asyncio.to_thread(worker.wait)
        answered = await calls
    assert answered.total() == 400
    assert answered[fleet.workers[2].pid] > 200

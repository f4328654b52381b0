"""Several planes at once: who reaches whom, by which plane, and what goes on when one of them is away."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import reqplane
from fleet import PATH, Fleet
from memory_planes import eventually
from servers import Etcd, Nats

pytestmark = pytest.mark.system

REACHED = {
    #                workers on   http    nats    http,nats
    "http": dict(zip(("http", "nats", "http,nats"), ("http", "", "http"), strict=True)),
    "nats": dict(zip(("http", "nats", "http,nats"), ("", "nats", "nats"), strict=True)),
    "http,nats": dict(zip(("http", "nats", "http,nats"), ("http", "nats", "http"), strict=True)),
    "nats,http": dict(zip(("http", "nats", "http,nats"), ("http", "nats", "nats"), strict=True)),
}
"""By which plane a frontend on these planes calls a worker on those; "" = not at all."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


@asynccontextmanager
async def frontend(
    fleet: Fleet, planes: str, workers: int = 1, path: str = PATH
) -> AsyncGenerator[reqplane.Client]:
    """A client of a frontend on these planes."""
    env = fleet.env | {"DYN_REQUEST_PLANE": planes}
    async with reqplane.connect(env, signals=False) as runtime:
        client = await runtime.endpoint(path).client()
        await eventually(lambda: len(client.instances()) >= workers, within=20)
        yield client


async def way(client: reqplane.Client, instance_id: int, planes: str) -> str:
    """By which plane this instance, which is on those, is called; "" if it can't be."""
    reachable = instance_id in client.instance_ids()
    stream = client.direct({"n": 1}, instance_id)
    if not reachable:
        with pytest.raises(reqplane.NoInstances, match=f"on {planes}"):
            await stream
        return ""
    assert [item async for item in stream] == [0]
    return stream.plane or ""


async def planes_of(client: reqplane.Client, calls: int = 20) -> Counter[str | None]:
    """By which planes so many calls, all at once, are carried; each is answered."""

    async def call() -> str | None:
        stream = client.generate({"n": 2}, timeout=10)
        assert [item async for item in stream] == [0, 1]
        return stream.plane

    return Counter(await asyncio.gather(*(call() for _ in range(calls))))


@pytest.fixture
def by_etcd(fleet: Fleet, etcd: Etcd, nats: Nats) -> Fleet:
    fleet.env |= {"DYN_DISCOVERY_BACKEND": "etcd", "ETCD_ENDPOINTS": etcd.url, "NATS_SERVER": nats.url}
    return fleet


async def test_each_frontend_reaches_each_worker_on_a_plane_that_its_record_names(fleet: Fleet, nats: Nats):
    """Guide 55."""
    fleet.env["NATS_SERVER"] = nats.url
    for planes in ("http", "nats", "http,nats"):
        fleet.start("count", DYN_REQUEST_PLANE=planes)
    async with frontend(fleet, "http,nats", workers=3) as everything:
        number = {",".join(one.planes): one.instance_id for one in everything.instances()}
    reached: dict[str, dict[str, str]] = {}
    for planes in REACHED:
        async with frontend(fleet, planes, workers=2) as client:
            reached[planes] = {theirs: await way(client, number[theirs], theirs) for theirs in number}
    assert reached == REACHED


async def test_both_planes_stand_in_one_record(by_etcd: Fleet, etcd: Etcd):
    path = "both.worker.generate"
    by_etcd.start("count", path, DYN_REQUEST_PLANE="http,nats")
    async with frontend(by_etcd, "nats,http", path=path) as client:
        (instance,) = client.instances()
        listed = etcd.ctl("get", "--prefix", "v1/instances/namespace.both.", "--print-value-only")
    (record,) = [json.loads(line) for line in listed.splitlines()]
    assert record["planes"] == ["http", "nats"]
    assert set(record["transport"]) == {"http_tcp", "nats_tcp"}
    assert record["transport"]["nats_tcp"] == f"both_worker.generate-{instance.incarnation:x}"


# ── NATS is away ──


async def test_nats_that_goes_away_and_comes_back_is_not_noticed_by_callers(fleet: Fleet, own_nats: Nats):
    fleet.env |= {"NATS_SERVER": own_nats.url}
    fleet.start("count", DYN_REQUEST_PLANE="nats,http")
    async with frontend(fleet, "nats,http") as client:
        assert await planes_of(client) == {"nats": 20}
        own_nats.kill()
        await asyncio.sleep(0.2)  # what is sent before the connection's end has come may have been delivered
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(5):
            assert await planes_of(client) == {"http": 20}
        assert loop.time() - began < 5, "a call waited for the time-out of the plane that is away"
        own_nats.start()

        async def is_back() -> bool:
            return await planes_of(client) == {"nats": 20}

        limit = loop.time() + 10
        while not await is_back():
            assert loop.time() < limit
            await asyncio.sleep(0.1)


async def test_without_nats_workers_and_frontends_start_and_use_http(fleet: Fleet, tmp_path: Path):
    """Both take NATS up when it comes."""
    late = Nats(tmp_path / "nats")
    fleet.env |= {"NATS_SERVER": late.url}
    fleet.start("count", DYN_REQUEST_PLANE="nats,http")
    try:
        async with frontend(fleet, "nats,http") as client:
            assert await planes_of(client) == {"http": 20}
            late.start()
            limit = asyncio.get_running_loop().time() + 10
            while await planes_of(client) != {"nats": 20}:
                assert asyncio.get_running_loop().time() < limit
                await asyncio.sleep(0.1)
    finally:
        late.close()


# ── the http port can't be reached ──


async def test_a_worker_whose_http_port_is_closed_is_called_by_nats(fleet: Fleet, nats: Nats):
    """It tells others an address where nobody listens."""
    fleet.env |= {"NATS_SERVER": nats.url}
    fleet.start("count", DYN_REQUEST_PLANE="http,nats", DYN_HTTP_RPC_ADVERTISE_HOST="127.0.0.2")
    async with frontend(fleet, "http,nats") as client:
        assert await planes_of(client) == {"nats": 20}
        async with frontend(fleet, "http") as without:
            with pytest.raises(reqplane.CannotConnect, match=r"127\.0\.0\.2"):
                await planes_of(without, 1)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.2 that answers no attempt to connect, as behind a firewall that drops."""
    with ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.2", 0))
        hole.listen(0)
        for _ in range(4):  # its queue is full from here on
            guest = stack.enter_context(socket.socket())
            guest.setblocking(False)
            with suppress(BlockingIOError):
                guest.connect(hole.getsockname())
        yield hole.getsockname()[1]


async def test_a_worker_whose_http_port_is_behind_a_firewall_is_called_by_nats(
    fleet: Fleet, nats: Nats, black_hole: int
):
    """Those that find that out wait, once; the others don't."""
    limit = 1.0
    fleet.env |= {"NATS_SERVER": nats.url, "DYN_HTTP_REQUEST_TIMEOUT": str(limit)}
    advertised = {"DYN_HTTP_RPC_PORT": str(black_hole), "DYN_HTTP_RPC_ADVERTISE_HOST": "127.0.0.2"}
    fleet.start("count", DYN_REQUEST_PLANE="http,nats", **advertised)
    async with frontend(fleet, "http,nats") as client:
        assert await planes_of(client) == {"nats": 20}
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(6):
            assert await planes_of(client) == {"nats": 20}
        assert loop.time() - began < 6 * limit, "each of them waited"

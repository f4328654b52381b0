"""The frontend's side against a real worker."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
import uvloop
from reqplane.errors import (
    CannotConnect,
    FrameTooLarge,
    InvalidFrame,
    NotAllowed,
    RequestRefused,
    UnknownEndpoint,
    WorkerBusy,
    WorkerDraining,
    WrongInstance,
    refusal,
)
from reqplane.interfaces import Delivery
from reqplane.model import NEVER
from reqplane.settings import load
from reqplane.sockets import host_and_port
from reqplane.wire.frame import Frame
from reqplane_http.client import H2Transport
from reqplane_http.settings import HttpSettings

from .conftest import ENDPOINT, FakeHost, OpenTransport, StartWorker, Worker, frame, opened, soon, target_of
from .scripted import until


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 1_000_003])
async def test_frames_arrive_byte_for_byte(size: int, worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    body = os.urandom(size)
    await frontend.send(target_of(here.url, frontend), frame(body), {}, NEVER)
    assert here.bodies() == [body]


async def test_bodies_of_every_buffer_type(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    for body in (b"x" * 40_000, bytearray(b"x" * 40_000), memoryview(b"x" * 40_000)):
        await frontend.send(target, Frame(b"{}", body), {}, NEVER)
    assert here.bodies() == [b"x" * 40_000] * 3


async def test_64_at_once_on_one_connection(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    sends = [frontend.send(target, frame(b"%d" % n), {"x-request-id": str(n)}, NEVER) for n in range(64)]
    await asyncio.gather(*sends)
    assert sorted(here.bodies()) == sorted(b"%d" % n for n in range(64))
    assert all(delivery.headers["x-request-id"].encode() == body for delivery, body in pairs(here))
    assert len({delivery.peer for delivery in here.got}) == 1


def pairs(here: Worker) -> list[tuple[Delivery, bytes]]:
    return list(zip(here.got, here.bodies(), strict=True))


async def test_a_large_frame_does_not_hold_up_small_ones(
    worker: StartWorker, transport: OpenTransport
) -> None:
    """Five MiB go through windows of 64 KiB, and small frames pass them."""
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    large = [frontend.send(target, frame(b"L" * 5 * 2**20), {}, NEVER) for _ in range(2)]
    small = [frontend.send(target, frame(b"s"), {}, NEVER) for _ in range(50)]
    await asyncio.gather(*small)
    assert not any(send.done() for send in large)
    await asyncio.gather(*large)
    assert sum(map(len, here.bodies())) == 10 * 2**20 + 50


async def test_more_requests_than_the_worker_allows_streams(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport({"DYN_HTTP_REQUEST_TIMEOUT": "60"})
    target = target_of(here.url, frontend)
    await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(3000)))
    assert len(here.got) == 3000


async def test_all_cancelled_at_once_and_as_many_new_ones(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    await frontend.send(target, frame(), {}, NEVER)
    for _ in range(3):
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(600)]
        await asyncio.sleep(0)
        for send in sends:
            send.cancel()
    await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(600)))
    (origin,) = frontend._client._origins.values()
    still_there = {
        host_and_port(*connection._transport.get_extra_info("sockname"))
        for connection in origin._connections
        if connection._transport is not None
    }
    assert {delivery.peer.address for delivery in here.got if delivery.peer} <= still_there


async def test_thousands_of_requests_leave_nothing_behind(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    for _ in range(40):
        await asyncio.gather(*(frontend.send(target, frame(), {}, soon(5)) for _ in range(100)))
    (origin,) = frontend._client._origins.values()
    for connection in origin._connections:
        await until(lambda connection=connection: not connection._open)
        assert len(connection._engine.streams) == 0
        assert len(connection._engine._closed_streams) == 0


async def test_headers_arrive_unchanged(worker: StartWorker, transport: OpenTransport) -> None:
    """Statement 21, and header values that HTTP can't carry do no harm."""
    here, frontend = await worker(), await transport()
    headers = {
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "congo=" + "t" * 500,
        "x-request-id": 'a "quoted" id; x=1',
        "x-dynamo-request-id": "b",
        "request-id": "c",
        "x-reqplane-instance": "0/7",
    }
    target = target_of(here.url, frontend)
    await frontend.send(target, frame(), headers, NEVER)
    assert here.got[0].headers == headers
    for bad in ("a\nb", "a\r\nx: y", " a", "a ", "\x7f", "ü", "\0"):
        await frontend.send(target, frame(), {"x-request-id": bad, "request-id": "good"}, NEVER)
    assert [delivery.headers for delivery in here.got[1:]] == [{"request-id": "good"}] * 7
    assert len({delivery.peer for delivery in here.got}) == 1


@pytest.mark.parametrize(
    "error",
    [
        InvalidFrame("broken"),
        UnknownEndpoint("not here"),
        WrongInstance("not me"),
        WorkerDraining("going"),
        WorkerBusy("full"),
        NotAllowed("no: ümlaut"),
        refusal("of_a_later_version", "hm"),
    ],
)
async def test_a_refusal_arrives_as_the_same_error(
    error: RequestRefused, worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    here.refuse = error
    with pytest.raises(type(error)) as caught:
        await frontend.send(target_of(here.url, frontend), frame(), {}, NEVER)
    assert type(caught.value) is type(error)
    assert caught.value.code == error.code
    assert caught.value.problem == error.problem
    assert caught.value.summary() == error.summary()
    assert caught.value.transport == "http"


async def test_a_path_that_the_worker_does_not_serve(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    url = here.url.replace("endpoint.generate", "endpoint.other")
    with pytest.raises(UnknownEndpoint, match=r"serves default\.backend\.generate"):
        await frontend.send(target_of(url, frontend), frame(), {}, NEVER)
    with pytest.raises(RequestRefused, match="answered 404"):
        await frontend.send(target_of(here.origin + "/elsewhere", frontend), frame(), {}, NEVER)


async def test_one_byte_more_than_the_limit(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport(max_frame_bytes=10_000)
    target = target_of(here.url, frontend)
    room = frontend.max_frame_bytes - len(frame(b""))
    await frontend.send(target, frame(b"x" * room), {}, NEVER)
    with pytest.raises(FrameTooLarge) as caught:
        await frontend.send(target, frame(b"x" * (room + 1)), {}, NEVER)
    assert (caught.value.size, caught.value.limit) == (10_001, 10_000)
    assert len(here.got) == 1


async def test_a_worker_with_a_lower_limit(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(max_frame_bytes=50_000), await transport()
    target = target_of(here.url, frontend)
    small = [frontend.send(target, frame(b"x" * 10_000), {}, NEVER) for _ in range(20)]
    with pytest.raises(FrameTooLarge, match="client_max_body_size"):
        await frontend.send(target, frame(b"x" * 80_000), {}, NEVER)
    await asyncio.gather(*small)


async def test_nobody_listens(transport: OpenTransport) -> None:
    """Statement 44."""
    frontend = await transport()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    target = target_of(f"http://{address}/x", frontend)
    sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(5)]
    for error in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(error, CannotConnect)
        assert error.address == address
        assert str(error) == f"cannot connect to {address}: Connection refused (plane http)"


async def test_a_name_that_does_not_resolve(transport: OpenTransport) -> None:
    frontend = await transport()
    with pytest.raises(CannotConnect, match=r"cannot connect to no-such-host\.invalid:8081: "):
        await frontend.send(target_of("http://no-such-host.invalid:8081/x", frontend), frame(), {}, soon(4))


async def test_a_worker_that_is_back(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    await frontend.send(target, frame(b"1"), {}, NEVER)
    await here.transport.aclose()
    with pytest.raises(CannotConnect):
        await frontend.send(target, frame(b"2"), {}, NEVER)
    again = await worker({"DYN_HTTP_RPC_PORT": str(here.port)})
    await frontend.send(target, frame(b"3"), {}, NEVER)
    assert again.bodies() == [b"3"]


async def test_send_after_close(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    await frontend.send(target, frame(), {}, NEVER)
    await frontend.aclose()
    await frontend.aclose()
    with pytest.raises(CannotConnect, match="closed"):
        await frontend.send(target, frame(), {}, NEVER)


async def test_as_a_transport_of_httpx(worker: StartWorker) -> None:
    here = await worker()
    host = FakeHost({}, here.transport._host.limits)
    async with httpx.AsyncClient(transport=H2Transport(host, load(HttpSettings, {}))) as client:
        answer = await client.get(here.origin + "/health")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        assert answer.json()["endpoints"] == {str(ENDPOINT): "ready"}
        assert (await client.head(here.origin + "/health")).content == b""
        refused = await client.post(here.url, content=b"junk", headers={"x-request-id": "1"})
        assert (refused.status_code, refused.headers["x-reqplane-refusal"]) == (400, "invalid_frame")
        accepted = await client.post(here.url, content=frame().join())
        assert (accepted.status_code, accepted.content) == (202, b"")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("https://127.0.0.1/")
        await here.listener.close()
        with pytest.raises(httpx.ConnectError, match="refused"):
            await client.get(here.origin + "/health")
    host.timers.close()


def run_on_asyncio(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def run_on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    uvloop.run(work)


@pytest.mark.parametrize("run", [run_on_asyncio, run_on_uvloop])
def test_both_event_loops(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def everything() -> None:
        async with opened() as plane, opened() as frontend:
            here = await Worker(plane, plane.max_frame_bytes).listen()
            target = target_of(here.url, frontend)
            sends = [frontend.send(target, frame(b"x" * 300_000), {}, math.inf) for _ in range(10)]
            sends[3].cancel()
            await asyncio.gather(*sends, return_exceptions=True)
            assert here.bodies() == [b"x" * 300_000] * 9
            here.refuse = WorkerBusy("full")
            with pytest.raises(WorkerBusy):
                await frontend.send(target, frame(), {}, math.inf)
            await here.listener.drain()
            await here.listener.close()
            with pytest.raises(CannotConnect, match="Connection refused"):
                await frontend.send(target, frame(), {}, math.inf)

    run(everything())

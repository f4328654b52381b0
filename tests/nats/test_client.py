"""The frontend's side, against a real worker on a real server."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
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
from reqplane.model import NEVER, EndpointId, Instance
from reqplane.wire.frame import Frame
from servers import Nats

from .conftest import OpenTransport, StartWorker, Worker, frame, opened, soon, subscribed, target_of


@pytest.mark.parametrize("size", [0, 1, 4095, 65_536, 1_000_003])
async def test_frames_arrive_byte_for_byte(size: int, worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    body = os.urandom(size)
    await frontend.send(target_of(here.subject, frontend), frame(body), {}, NEVER)
    assert here.bodies() == [body]


async def test_bodies_of_every_buffer_type(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    for body in (b"x" * 40_000, bytearray(b"x" * 40_000), memoryview(b"x" * 40_000)):
        await frontend.send(target, Frame(b"{}", body), {}, NEVER)
    assert here.bodies() == [b"x" * 40_000] * 3


async def test_thousands_at_once(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    sends = [frontend.send(target, frame(b"%d" % n), {"x-request-id": str(n)}, soon(30)) for n in range(5000)]
    await asyncio.gather(*sends)
    assert here.bodies() == [b"%d" % n for n in range(5000)]
    assert all(got.headers["x-request-id"] == str(n) for n, got in enumerate(here.got))


async def test_large_ones_beyond_what_the_connection_holds(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    sends = [frontend.send(target, frame(b"L" * 1_000_000), {}, NEVER) for _ in range(40)]
    await asyncio.sleep(0)
    sends += [frontend.send(target, frame(b"s"), {}, NEVER) for _ in range(10)]
    await asyncio.gather(*sends)
    assert sorted(map(len, here.bodies())) == [1] * 10 + [1_000_000] * 40


async def test_headers_arrive_unchanged(worker: StartWorker, transport: OpenTransport) -> None:
    """Statement 21, and header values that can't be carried do no harm."""
    here, frontend = await worker(), await transport()
    headers = {
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "congo=" + "t" * 500,
        "x-request-id": 'a "quoted": id; x=1',
        "x-dynamo-request-id": "b",
        "request-id": "c",
        "x-reqplane-instance": "0/7",
    }
    target = target_of(here.subject, frontend)
    await frontend.send(target, frame(), headers, NEVER)
    assert here.got[0].headers == headers
    for bad in ("a\nb", "a\r\nx: y", " a", "a ", "\x7f", "ü", "\0"):
        await frontend.send(target, frame(), {"x-request-id": bad, "request-id": "good"}, NEVER)
    assert [delivery.headers for delivery in here.got[1:]] == [{"request-id": "good"}] * 7


async def test_header_names_in_any_case(worker: StartWorker, bare: Client) -> None:
    here = await worker()
    await bare.request(here.subject, frame().join(), headers={"TraceParent": "00-1", "X-Other": "no"})
    assert here.got[0].headers == {"traceparent": "00-1"}


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
        await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)
    assert type(caught.value) is type(error)
    assert caught.value.code == error.code
    assert caught.value.problem == error.problem
    assert caught.value.summary() == error.summary()
    assert caught.value.transport == "nats"


async def test_a_defect_in_accept_is_a_refusal_and_the_worker_lives_on(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    here.refuse = RuntimeError("a defect")
    with pytest.raises(RequestRefused, match="its log has the reason"):
        await frontend.send(target, frame(), {}, NEVER)
    here.refuse = None
    await frontend.send(target, frame(), {}, NEVER)


async def test_a_long_refusal_is_cut(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    here.refuse = WorkerBusy("ü" * 2_000_000)
    with pytest.raises(WorkerBusy) as caught:
        await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)
    assert len(caught.value.problem) < 1000


async def test_a_service_that_raises_is_no_success(transport: OpenTransport, bare: Client) -> None:
    """What a handler's error in nats-py's micro services, and in Dynamo's, replies."""
    frontend = await transport()

    async def raises(message: Any) -> None:
        headers = {"Nats-Service-Error": "ValueError('no')", "Nats-Service-Error-Code": "500"}
        await bare.publish(message.reply, b"", headers=headers)

    await subscribed(bare, "some_service.raises-1", cb=raises)
    with pytest.raises(RequestRefused, match="500 ValueError"):
        await frontend.send(target_of("some_service.raises-1", frontend), frame(), {}, NEVER)


async def test_a_reply_that_is_no_ack_is_no_success(transport: OpenTransport, bare: Client) -> None:
    frontend = await transport({"DYN_NATS_REQUEST_TIMEOUT_SECS": "0.3"})

    async def chats(message: Any) -> None:
        await bare.publish(message.reply, b"hello, who is there?")

    await subscribed(bare, "some_service.chats-1", cb=chats)
    with pytest.raises(DeliveryUnknown, match="replied with b'hello, who") as caught:
        await frontend.send(target_of("some_service.chats-1", frontend), frame(), {}, NEVER)
    assert caught.value.reason == "timed_out"


async def test_an_ack_counts_though_somebody_else_replied_before(
    worker: StartWorker, transport: OpenTransport, bare: Client
) -> None:
    """As a JetStream stream that keeps the subject does."""
    here, frontend = await worker(), await transport()
    seen: list[bytes] = []

    async def stream(message: Any) -> None:
        await bare.publish(message.reply, b'{"stream":"ALL","seq":1}')
        seen.append(message.data)

    await subscribed(bare, ">", cb=stream)
    await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)
    assert len(here.got) == 1


async def test_nobody_listens(transport: OpenTransport, nats: Nats) -> None:
    """Statement 44: at once, with the subject and the server."""
    frontend = await transport()
    target = target_of("nobody_here.generate-1", frontend)
    with pytest.raises(CannotConnect, match="no responders") as caught:
        await asyncio.wait_for(frontend.send(target, frame(), {"request-id": "1"}, NEVER), 2)
    assert caught.value.address == "nobody_here.generate-1"
    assert str(nats.port) in str(caught.value)


async def test_no_ack_in_time(transport: OpenTransport, bare: Client) -> None:
    frontend = await transport({"DYN_NATS_REQUEST_TIMEOUT_SECS": "0.2"})
    await subscribed(bare, "silent_one.generate-1")
    target = target_of("silent_one.generate-1", frontend)
    with pytest.raises(DeliveryUnknown, match=r"within 0\.2 s \(DYN_NATS_REQUEST_TIMEOUT_SECS\)") as caught:
        await frontend.send(target, frame(), {}, NEVER)
    assert caught.value.reason == "timed_out"
    with pytest.raises(DeliveryUnknown, match="before the call's deadline"):
        await frontend.send(target, frame(), {}, soon(0.05))
    with pytest.raises(DeliveryUnknown, match="had passed"):
        await frontend.send(target, frame(), {}, soon(-1))


async def test_cancelled_sends_leave_nothing(transport: OpenTransport, bare: Client) -> None:
    frontend = await transport()
    await subscribed(bare, "silent_one.generate-2")
    target = target_of("silent_one.generate-2", frontend)
    sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(500)]
    await asyncio.sleep(0.05)
    assert frontend._asking.under_way == 500
    assert all(send.cancel() for send in sends)
    assert frontend._asking.under_way == 0
    assert not any(frontend._asking._timers._buckets.values())  # type: ignore[attr-defined]


async def test_a_late_ack_is_of_no_consequence(transport: OpenTransport, bare: Client) -> None:
    frontend = await transport()
    replies: list[str] = []

    async def keeps(message: Any) -> None:
        replies.append(message.reply)

    await subscribed(bare, "late_one.generate-1", cb=keeps)
    target = target_of("late_one.generate-1", frontend)
    with pytest.raises(DeliveryUnknown):
        await frontend.send(target, frame(), {}, soon(0.1))
    second = frontend.send(target, frame(), {}, NEVER)
    await asyncio.sleep(0.1)
    for reply in (replies[0], replies[0], replies[1], replies[1]):
        await bare.publish(reply, b"")
    await second


async def test_one_byte_more_than_dyn_max_frame_bytes(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport(max_frame_bytes=10_000)
    target = target_of(here.subject, frontend)
    assert frontend.max_frame_bytes == 10_000
    room = frontend.max_frame_bytes - len(frame(b""))
    await frontend.send(target, frame(b"x" * room), {}, NEVER)
    with pytest.raises(FrameTooLarge, match="DYN_MAX_FRAME_BYTES") as caught:
        await frontend.send(target, frame(b"x" * (room + 1)), {}, NEVER)
    assert (caught.value.size, caught.value.limit) == (10_001, 10_000)
    assert len(here.got) == 1


async def test_one_byte_more_than_max_payload_allows(worker: StartWorker, transport: OpenTransport) -> None:
    """With the largest headers; beyond max_payload the server would cut the connection."""
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    assert frontend.max_frame_bytes == 2**20 - 8 * 1024
    room = frontend.max_frame_bytes - len(frame(b""))
    names = ("traceparent", "tracestate", "x-request-id", "x-dynamo-request-id", "request-id")
    headers = {name: "h" * 1024 for name in names}
    await frontend.send(target, frame(b"x" * room), headers, NEVER)
    with pytest.raises(FrameTooLarge, match="max_payload is 1048576") as caught:
        await frontend.send(target, frame(b"x" * (room + 1)), {}, NEVER)
    assert (caught.value.size, caught.value.limit) == (frontend.max_frame_bytes + 1, frontend.max_frame_bytes)
    connection = frontend._link.wire
    with pytest.raises(FrameTooLarge):
        await frontend.send(target, frame(b"x" * 2**21), headers, NEVER)
    await frontend.send(target, frame(b"small"), {}, NEVER)
    assert frontend._link.wire is connection
    assert here.bodies()[-1] == b"small"


async def test_targets_are_read_from_records_with_care(transport: OpenTransport) -> None:
    frontend = await transport()

    def target(subject: Any) -> object:
        return frontend.target(Instance(EndpointId("a", "b", "c"), 0, 7, {"nats_tcp": subject}))

    assert target("default_backend.generate-694da20a230d2206") is not None
    for odd in ("", "one", "a.*", "a.>", "$SYS.REQ", "a b.c", "a.b\r\nPUB x 0\r\n", "a..b", None, 7, {}):
        assert target(odd) is None
    assert frontend.target(Instance(EndpointId("a", "b", "c"), 0, 7, {"http": "http://x:1/"})) is None


async def test_send_after_close(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    await frontend.send(target, frame(), {}, NEVER)
    await frontend.aclose()
    await frontend.aclose()
    with pytest.raises(CannotConnect, match="closed"):
        await frontend.send(target, frame(), {}, NEVER)


def run_on_asyncio(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def run_on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    uvloop.run(work)


@pytest.mark.parametrize("run", [run_on_asyncio, run_on_uvloop])
def test_both_event_loops(run: Callable[[Coroutine[Any, Any, None]], None], nats: Nats) -> None:
    async def everything() -> None:
        env = {"NATS_SERVER": nats.url}
        async with opened(env) as plane, opened(env) as frontend:
            here = await Worker(plane, plane.max_frame_bytes).listen()
            target = target_of(here.subject, frontend)
            sends = [frontend.send(target, frame(b"x" * 300_000), {}, math.inf) for _ in range(10)]
            sends[3].cancel()
            await asyncio.gather(*sends, return_exceptions=True)
            assert here.bodies() == [b"x" * 300_000] * 10
            here.refuse = WorkerBusy("full")
            with pytest.raises(WorkerBusy):
                await frontend.send(target, frame(), {}, math.inf)
            await here.listener.drain()
            await here.listener.close()
            with pytest.raises(CannotConnect, match="no responders"):
                await frontend.send(target, frame(), {}, math.inf)

    run(everything())

"""Several frames in one POST."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from typing import Any

import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    RequestError,
    UnknownEndpoint,
    WireError,
    WorkerBusy,
    WorkerDraining,
)
from reqplane.model import NEVER, Instance
from reqplane.wire.frame import Frame
from reqplane_http import batch
from reqplane_http.target import Target
from reqplane_http.transport import HttpTransport

from .conftest import ENDPOINT, OpenTransport, StartWorker, Worker, frame, soon
from .scripted import PeerServer, ScriptedPeer, acknowledge, until

Traced = dict[str, str]


def target_of(url: str, transport: HttpTransport) -> Target:
    """What a frontend makes of a record that announces batches."""
    record = {"http_tcp": {"http_endpoint": url, "h2c": True, "batch": 1}}
    target = transport.target(Instance(ENDPOINT, 0, 7, record))
    assert target is not None
    return target


def joined(frames: list[tuple[Frame, Traced]]) -> bytes:
    return b"".join(bytes(piece) for one, headers in frames for piece in batch.pack(one, headers))


# ── bytes ──


def test_the_bytes_are_those_of_the_description() -> None:
    body = joined([(Frame(b"h", b"b"), {"traceparent": "00-1"}), (Frame(b"", b""), {})])
    assert body == (
        b"\x00\x00\x00\x16"
        + b'{"traceparent":"00-1"}'
        + Frame(b"h", b"b").join()
        + b"\x00\x00\x00\x02{}"
        + bytes(24)
    )
    assert batch.pack_answer([None, ("busy", "full")]) == b'[null,{"code":"busy","text":"full"}]'


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), min_size=1, max_size=64))
def test_what_is_packed_is_unpacked(parts: list[tuple[bytes, bytes]]) -> None:
    headers = {"x-request-id": "1"}
    found = batch.unpack(joined([(Frame(*part), headers) for part in parts]))
    assert [bytes(one) for one, _ in found] == [Frame(*part).join() for part in parts]
    assert all(theirs == headers for _, theirs in found)


@given(st.binary(max_size=200))
def test_junk_is_a_wire_error_or_frames(junk: bytes) -> None:
    for read in (batch.unpack, lambda data: batch.unpack_answer(data, 2)):
        try:
            read(junk)
        except WireError:
            continue


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x02[]" + bytes(24),
        b"\xff\xff\xff\xff{}" + bytes(24),
        joined([(Frame(b"h", b"b"), {})])[:-1],
        joined([(Frame(b"h", b"b"), {})] * 65),
    ],
)
def test_a_broken_batch_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        batch.unpack(body)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[null]", b"[null,1]", b'[null,{"code":1}]'])
def test_an_answer_that_does_not_fit_is_a_wire_error(answer: bytes) -> None:
    with pytest.raises(WireError):
        batch.unpack_answer(answer, 2)


# ── the worker ──


async def post(http2: Any, here: Worker, frames: list[tuple[Frame, Traced]] | bytes) -> Any:
    body = frames if isinstance(frames, bytes) else joined(frames)
    return await http2.post(here.url, content=body, headers={"content-type": batch.CONTENT_TYPE})


async def test_a_worker_takes_each_frame_with_its_own_headers(worker: StartWorker, http2: Any) -> None:
    here = await worker()
    frames = [(frame(b"%d" % n), {"x-request-id": str(n)}) for n in range(3)]
    answer = await post(http2, here, frames)
    assert (answer.status_code, answer.json()) == (200, [None, None, None])
    assert here.bodies() == [b"0", b"1", b"2"]
    assert [delivery.headers["x-request-id"] for delivery in here.got] == ["0", "1", "2"]


async def test_each_frame_is_refused_for_itself(worker: StartWorker, http2: Any) -> None:
    here = await worker()
    accept = here.accept

    def choosy(delivery: Any) -> None:
        if delivery.headers["x-request-id"] == "1":
            raise WorkerBusy("full")
        if delivery.headers["x-request-id"] == "2":
            raise RuntimeError("a defect")
        accept(delivery)

    here.listener._route.accept = choosy  # type: ignore[attr-defined]
    answer = await post(http2, here, [(frame(), {"x-request-id": str(n)}) for n in range(4)])
    codes = [None if one is None else one["code"] for one in answer.json()]
    assert codes == [None, "busy", "refused", None]
    assert "defect" not in answer.text


async def test_junk_is_answered_by_400_and_nothing_of_it_is_accepted(worker: StartWorker, http2: Any) -> None:
    here = await worker()
    answer = await post(http2, here, joined([(frame(), {})]) + b"junk")
    assert answer.status_code == 400
    assert "Two Part Codec Error: Invalid message" in answer.text
    assert not here.got


# ── the frontend ──


async def test_frames_gather_while_two_posts_are_under_way(transport: OpenTransport) -> None:
    frontend = await transport()
    posts: list[int] = []

    def script(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            peer.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        if isinstance(event, h2.events.StreamEnded):
            posts.append(event.stream_id or 0)

    async with PeerServer(script) as server:
        target = target_of(server.url, frontend)
        sends = [frontend.send(target, frame(b"%d" % n), {}, NEVER) for n in range(34)]
        await until(lambda: len(posts) == 2)
        await asyncio.sleep(0.02)
        assert len(posts) == 2
        server.peer.answer(posts[0], 202)
        await until(lambda: len(posts) == 3)
        found = batch.unpack(bytes(server.peer.bodies[posts[2]]))
        assert len(found) == 32
        answer: list[Any] = [None] * 32
        answer[5] = {"code": "draining", "text": "leaving"}
        server.peer.answer(posts[2], 200, json.dumps(answer).encode())
        server.peer.answer(posts[1], 202)
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert Counter(type(one) for one in results) == {type(None): 33, WorkerDraining: 1}
        assert isinstance(results[7], WorkerDraining)


async def test_alone_a_frame_is_an_ordinary_post(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    for n in range(5):
        await frontend.send(target, frame(b"%d" % n), {"x-request-id": str(n)}, NEVER)
    assert here.bodies() == [b"%d" % n for n in range(5)]


async def test_many_at_once_arrive_once_each_with_their_headers(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    numbers = range(2000)
    await asyncio.gather(
        *(frontend.send(target, frame(b"%d" % n), {"x-request-id": str(n)}, NEVER) for n in numbers)
    )
    found = [
        (delivery.headers["x-request-id"], body.decode())
        for delivery, body in zip(here.got, here.bodies(), strict=True)
    ]
    assert sorted(found) == sorted((str(n), str(n)) for n in numbers)


async def test_large_frames_neither_wait_nor_gather(worker: StartWorker, transport: OpenTransport) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    sizes = [10, 70_000, 200_000, 10, 1_000_000, 10, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000]
    bodies = [os.urandom(size) for size in sizes]
    await asyncio.gather(*(frontend.send(target, frame(body), {}, NEVER) for body in bodies))
    assert sorted(here.bodies()) == sorted(bodies)


async def test_a_batch_may_be_larger_than_a_frame_may(worker: StartWorker, transport: OpenTransport) -> None:
    """A worker whose limit for frames is low still takes many small ones at once."""
    here, frontend = await worker(max_frame_bytes=4096), await transport()
    target = target_of(here.url, frontend)
    bodies = [os.urandom(2000) for _ in range(200)]
    await asyncio.gather(*(frontend.send(target, frame(body), {}, NEVER) for body in bodies))
    assert sorted(here.bodies()) == sorted(bodies)


async def test_only_who_announces_batches_gets_them(transport: OpenTransport) -> None:
    frontend = await transport()
    for member in ({}, {"batch": 0}, {"batch": "1"}):
        record = {"http_tcp": {"http_endpoint": "http://127.0.0.1:1/x", **member}}
        target = frontend.target(Instance(ENDPOINT, 0, 7, record))
        assert target is not None
        assert target.lane is None
    assert frontend.target(Instance(ENDPOINT, 0, 7, {"http": "http://127.0.0.1:1/x"})).lane is None  # type: ignore[union-attr]


def answering(status: int, body: bytes = b"", **headers: str) -> Any:
    """A peer that acks ordinary POSTs late, and answers a batch like this."""

    def script(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            stream = event.stream_id or 0
            requests = {e.stream_id: dict(e.headers) for e in peer.seen(h2.events.RequestReceived)}
            if requests[stream]["content-type"] == batch.CONTENT_TYPE:
                peer.answer(stream, status, body, **headers)
            else:
                asyncio.get_running_loop().call_later(0.02, peer.answer, stream, 202)

    return script


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answering(500, b"oops"), DeliveryUnknown),
        (answering(502, b"proxy"), DeliveryUnknown),
        (answering(200, b"junk"), DeliveryUnknown),
        (answering(200, b"[null]"), DeliveryUnknown),
        (answering(404, b"gone", x_reqplane_refusal="unknown_endpoint"), UnknownEndpoint),
        (answering(503, b"leaving", x_reqplane_refusal="draining"), WorkerDraining),
    ],
)
async def test_what_becomes_of_the_post_becomes_of_each_frame(
    transport: OpenTransport, script: Any, error: type[RequestError]
) -> None:
    frontend = await transport()
    async with PeerServer(script) as server:
        target = target_of(server.url, frontend)
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(6)]
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert results[:2] == [None, None]
        assert all(type(one) is error for one in results[2:])
        assert len(set(map(id, results[2:]))) == 4  # an error of its own for each caller


async def test_nobody_there_is_cannot_connect_for_each(transport: OpenTransport) -> None:
    frontend = await transport()
    target = target_of("http://127.0.0.1:1/v1/x", frontend)
    sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(10)]
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert all(type(one) is CannotConnect for one in results)


async def test_without_a_connection_nothing_was_sent_and_nothing_is_sent_later(
    worker: StartWorker, transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame whose time is up may go to another worker, so the POST that it waited in must not carry it."""
    here, frontend = await worker(), await transport()
    loop, gate = asyncio.get_running_loop(), asyncio.Event()
    connect = loop.create_connection

    async def held_back(*arguments: Any) -> Any:
        await gate.wait()
        return await connect(*arguments)

    monkeypatch.setattr(loop, "create_connection", held_back)
    target = target_of(here.url, frontend)
    first = [frontend.send(target, frame(), {}, soon(0.02)) for _ in range(2)]
    hasty = [frontend.send(target, frame(b"hasty"), {}, soon(0.1)) for _ in range(4)]
    patient = [frontend.send(target, frame(b"%d" % n), {}, NEVER) for n in range(3)]
    results = await asyncio.gather(*first, *hasty, return_exceptions=True)
    assert [type(one) for one in results] == [CannotConnect] * 6
    assert "no connection before the call's deadline" in str(results[-1])
    gate.set()
    await asyncio.gather(*patient)
    assert sorted(here.bodies()) == [b"0", b"1", b"2"]


async def test_a_lost_connection_is_unknown_for_what_was_sent(transport: OpenTransport) -> None:
    def script(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded) and event.stream_id == 5:
            peer.transport.abort()
        elif isinstance(event, h2.events.StreamEnded):
            asyncio.get_running_loop().call_later(0.02, peer.answer, event.stream_id, 202)

    frontend = await transport()
    async with PeerServer(script) as server:
        target = target_of(server.url, frontend)
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(10)]
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert all(one is None or type(one) is DeliveryUnknown for one in results)
        assert sum(type(one) is DeliveryUnknown for one in results) >= 8


async def test_a_silent_worker_is_timed_out_and_leaves_nothing_open(transport: OpenTransport) -> None:
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "0.2"})
    answer = True

    def script(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded) and answer:
            acknowledge(peer, event)

    async with PeerServer(script) as server:
        target = target_of(server.url, frontend)
        answer = False
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(10)]
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(one) for one in results[:2]] == [DeliveryUnknown] * 2
        # The others waited for these two; on a busy machine their POST may go out just before their end.
        assert {type(one) for one in results[2:]} <= {CannotConnect, DeliveryUnknown}
        answer = True
        await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(2)))


async def test_a_deadline_of_one_does_not_touch_the_others(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(answering(200, json.dumps([None] * 4).encode())) as server:
        target = target_of(server.url, frontend)
        first = [frontend.send(target, frame(), {}, NEVER) for _ in range(2)]
        hasty = frontend.send(target, frame(), {}, soon(0.001))
        others = [frontend.send(target, frame(), {}, NEVER) for _ in range(4)]
        with pytest.raises(CannotConnect):
            await hasty
        await asyncio.gather(*first, *others)


async def test_a_cancelled_frame_that_waits_is_not_sent(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    sends = [frontend.send(target, frame(b"%d" % n), {}, NEVER) for n in range(10)]
    for send in sends[5:]:
        send.cancel()  # type: ignore[attr-defined]
    await asyncio.gather(*sends[:5])
    assert sorted(here.bodies()) == [b"0", b"1", b"2", b"3", b"4"]
    await frontend.send(target, frame(b"next"), {}, NEVER)

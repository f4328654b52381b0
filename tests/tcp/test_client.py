"""A frontend against workers that answer by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestRefused,
    UnknownEndpoint,
    WorkerBusy,
    WorkerDraining,
)
from reqplane.model import NEVER
from reqplane_tcp.answers import GOODBYE, MOST_ANSWER
from reqplane_tcp.asking import Target
from reqplane_tcp.lane import Lane
from reqplane_tcp.place import LARGE_FROM
from reqplane_tcp.transport import TcpTransport
from reqplane_tcp.wire import answer

from .conftest import PATH, OpenTransport, frame, soon, target_of, until
from .scripted import ACK, RawWorker, text

LARGE = bytes(LARGE_FROM)
MIB = 1 << 20


def lanes(target: Target) -> set[Lane]:
    """The connections that are open."""
    return target.place._open


def send(transport: TcpTransport, target: Target, body: bytes = b"hello") -> asyncio.Future[None]:
    return transport.send(target, frame(body), {}, NEVER)


async def fate(sending: asyncio.Future[None]) -> Exception | None:
    await asyncio.wait([sending], timeout=10)
    assert sending.done()
    return sending.exception()  # type: ignore[return-value]


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_and_its_ack(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sending = frontend.send(target_of(there.record, frontend), frame(), {"X-Request-Id": 'a"b'}, NEVER)
        connection = await there.connection()
        request = await connection.request()
        assert (request.path, request.headers) == (PATH, {"x-request-id": 'a"b'})
        assert request.payload == frame().join()
        assert not sending.done()
        await connection.send(ACK)
        assert await sending is None


async def test_to_a_worker_of_dynamo_0_7(transport: OpenTransport):
    """It knows no headers; they are left out."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(f"{there.address}/generate", frontend)
        sending = frontend.send(target, frame(), {"x-request-id": "a"}, NEVER)
        connection = await there.connection()
        request = await connection.request(headers=False)
        assert (request.path, request.payload) == ("generate", frame().join())
        await connection.send(ACK)
        await sending


async def test_requests_do_not_wait_for_each_others_acks(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sends = [send(frontend, target, b"%d" % number) for number in range(5)]
        connection = await there.connection()
        payloads = [(await connection.request()).payload[-1:] for _ in sends]
        assert payloads == [b"0", b"1", b"2", b"3", b"4"]
        await connection.send(ACK + text("Server overloaded: x [busy]") + ACK + text("no") + ACK)
        kinds = [type(await fate(one)) for one in sends]
        assert kinds == [type(None), WorkerBusy, type(None), RequestRefused, type(None)]
        assert there.connections == 1


async def test_answers_come_in_any_pieces(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sends = [send(frontend, target_of(there.record, frontend)) for _ in range(3)]
        connection = await there.connection()
        for byte in ACK + text("Server unavailable: x [draining]") + ACK:
            await connection.send(bytes([byte]))
            await asyncio.sleep(0)
        assert [type(await fate(one)) for one in sends] == [type(None), WorkerDraining, type(None)]


async def test_what_one_turn_sends_goes_out_together(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    """But the first request of an idle connection goes at once."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sending = send(frontend, target)
        connection = await there.connection()
        await connection.send(ACK)
        await sending
        (lane,) = lanes(target)
        written: list[int] = []
        real: Any = lane._transport

        class Counting:
            def write(self, data: bytes) -> None:
                written.append(len(data))
                real.write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        await asyncio.sleep(0.01)
        monkeypatch.setattr(lane, "_transport", Counting())
        sends = [send(frontend, target) for _ in range(50)]
        assert len(written) == 1
        await connection.send(ACK * 50)
        await asyncio.gather(*sends)
        assert [size // written[0] for size in written] == [1, 49]


async def test_endpoints_of_one_process_share_a_connection(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sends = [send(frontend, target_of(f"{there.address}/1f/a/b/{name}", frontend)) for name in "xyz"]
        connection = await there.connection()
        assert [(await connection.request()).path for _ in sends] == ["1f/a/b/x", "1f/a/b/y", "1f/a/b/z"]
        await connection.send(ACK * 3)
        await asyncio.gather(*sends)


# ── large and small ─────────────────────────────────────────────────────────────────────────────────


async def test_a_large_request_holds_up_no_small_one(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        large = send(frontend, target, bytes(20 * MIB))
        await there.connection()  # which nobody reads
        small = [send(frontend, target) for _ in range(10)]
        other = await there.connection()
        await other.send(ACK * 10)
        await asyncio.gather(*small)
        assert not large.done()
        large.cancel()


async def test_large_ones_arrive_whole(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        bodies = [bytes([number]) * (LARGE_FROM + number * MIB) for number in range(4)]
        sends = [send(frontend, target, body) for body in bodies]
        got: list[bytes] = []

        async def serve() -> None:
            connection = await there.connection()
            while True:
                got.append((await connection.request()).payload)
                await connection.send(ACK)

        serving = [asyncio.ensure_future(serve()) for _ in range(3)]
        await asyncio.gather(*sends)
        assert sorted(got) == sorted(frame(body).join() for body in bodies)
        for one in serving:
            one.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_what_waits_for_room_can_be_withdrawn(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sends = [send(frontend, target, bytes(8 * MIB)) for _ in range(8)]
        await until(lambda: there.connections == 3)
        await until(lambda: sum(lane.waiting for lane in lanes(target)) == 5)
        for one in sends:
            one.cancel()
        assert sum(lane.waiting for lane in lanes(target)) == 0
        assert not any(one.pieces for one in sends)  # type: ignore[attr-defined]


async def test_too_large(transport: OpenTransport):
    frontend = await transport(max_frame_bytes=10_000)
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        with pytest.raises(FrameTooLarge, match="at most 10000 are allowed: DYN_MAX_FRAME_BYTES"):
            await send(frontend, target, bytes(10_000))
        with pytest.raises(FrameTooLarge, match="the headers have 70008 bytes, at most 65535 fit"):
            await frontend.send(target, frame(), {"a": "x" * 70_000}, NEVER)
        assert there.connections == 0


# ── connections that end ────────────────────────────────────────────────────────────────────────────


async def test_nobody_listens(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        record = there.record
    sends = [send(frontend, target_of(record, frontend), body) for body in (b"x", LARGE)]
    for one in sends:
        error = await fate(one)
        assert isinstance(error, CannotConnect)
        assert str(error) == f"cannot connect to {there.address}: Connection refused (plane tcp)"


@pytest.mark.parametrize("moment", ["before", "within", "after"])
async def test_a_connection_that_is_lost(transport: OpenTransport, moment: str):
    """What has no ack may have been accepted."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        sends = [send(frontend, target_of(there.record, frontend)) for _ in range(3)]
        connection = await there.connection()
        await connection.request()
        await connection.send({"before": b"", "within": ACK[:2], "after": ACK}[moment])
        await connection.close()
        kinds = [type(await fate(one)) for one in sends]
        assert kinds == [
            type(None) if moment == "after" else DeliveryUnknown,
            DeliveryUnknown,
            DeliveryUnknown,
        ]
        error = await fate(sends[-1])
        assert isinstance(error, DeliveryUnknown)
        assert (error.reason, error.address) == ("connection_lost", there.address)


async def test_a_frame_that_did_not_go_out_whole_was_not_accepted(transport: OpenTransport):
    """It is sent again, and so is what waited behind it; if that is not possible, it is CannotConnect."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sends = [send(frontend, target, bytes(30 * MIB)) for _ in range(4)]
        connections = [await there.connection() for _ in range(3)]
        await until(lambda: sum(lane.waiting for lane in lanes(target)) == 1)
        there.stop()
        for connection in connections:
            connection.writer.transport.abort()
        for one in sends:
            error = await fate(one)
            assert isinstance(error, CannotConnect)


async def test_after_an_idle_connection_was_closed_there_is_another(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        for count in range(1, 4):
            sending = send(frontend, target)
            connection = await there.connection()
            await connection.request()
            await connection.send(ACK)
            await sending
            await connection.close()
            await until(lambda: not lanes(target))
            assert there.connections == count


async def test_a_worker_that_leaves_says_what_it_has_not_looked_at(transport: OpenTransport):
    """That is sent again by another connection."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sends = [send(frontend, target, b"%d" % number) for number in range(4)]
        first = await there.connection()
        for _ in sends:
            await first.request()
        sends[3].cancel()
        await first.send(ACK + answer(GOODBYE))
        second = await there.connection()
        payloads = [(await second.request()).payload[-1:] for _ in range(2)]
        assert payloads == [b"1", b"2"]
        await second.send(ACK * 2)
        await asyncio.gather(*sends[:3])
        assert await first.rest() == b""


async def test_a_worker_that_leaves_for_good(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sending = send(frontend, target_of(there.record, frontend))
        connection = await there.connection()
        await connection.request()
        there.stop()
        await connection.send(answer(GOODBYE))
        error = await fate(sending)
        assert isinstance(error, CannotConnect)


async def test_a_worker_that_leaves_all_the_time(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sending = send(frontend, target_of(there.record, frontend))
        for _ in range(3):
            connection = await there.connection()
            await connection.request()
            await connection.send(answer(GOODBYE))
        error = await fate(sending)
        assert isinstance(error, CannotConnect)
        assert "left, and did not look at the request" in str(error)


# ── answers that are none ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "said",
    [
        ACK * 2,
        ACK + answer(GOODBYE) * 2,
        ACK + text("Server unavailable: x"),
        (MOST_ANSWER + 1).to_bytes(4, "big"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff" * 1000,
        bytes(5000),
    ],
    ids=range(7),
)
async def test_a_peer_that_is_none(transport: OpenTransport, said: bytes):
    """More answers than were asked for, or what is none: nothing of it is taken for an ack."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        sending = send(frontend, target_of(there.record, frontend))
        connection = await there.connection()
        await connection.request()
        await connection.send(said)
        error = await fate(sending)
        assert isinstance(error, DeliveryUnknown)
        assert "sent what is no answer" in str(error)
        assert await connection.rest() == b""


@pytest.mark.parametrize("said", [ACK, text("x"), answer(GOODBYE), b"\xff" * 100])
async def test_an_answer_that_nobody_asked_for(transport: OpenTransport, said: bytes):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sending = send(frontend, target)
        connection = await there.connection()
        await connection.request()
        await connection.send(ACK)
        await sending
        await connection.send(said)
        assert await connection.rest() == b""
        assert not lanes(target)


async def test_a_refusal_may_come_before_the_frame_has_gone_out(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sending = send(frontend, target_of(there.record, frontend), bytes(20 * MIB))
        connection = await there.connection()
        await connection.send(text("Server unavailable: unknown endpoint x"))
        assert isinstance(await fate(sending), UnknownEndpoint)


async def test_the_longest_answer(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        sending = send(frontend, target_of(there.record, frontend))
        connection = await there.connection()
        await connection.send(answer(b"x" * MOST_ANSWER))
        error = await fate(sending)
        assert type(error) is RequestRefused


# ── time ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_send_keeps_its_place(transport: OpenTransport):
    """The next ack is its, not that of the one behind it."""
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        first, second = send(frontend, target), send(frontend, target)
        connection = await there.connection()
        await connection.request()
        first.cancel()
        await connection.send(ACK)
        await asyncio.sleep(0.02)
        assert not second.done()
        await connection.send(ACK)
        await second


async def test_no_ack_in_time(transport: OpenTransport):
    """The connection gets no more requests; what is on it may still be answered."""
    frontend = await transport({"DYN_TCP_REQUEST_TIMEOUT": "0.3"})
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        first = send(frontend, target)
        connection = await there.connection()
        await asyncio.sleep(0.2)
        second = send(frontend, target)
        error = await fate(first)
        assert isinstance(error, DeliveryUnknown)
        assert error.reason == "timed_out"
        assert "no ack from 127.0.0.1:" in str(error)
        assert "within 0.3 s (DYN_TCP_REQUEST_TIMEOUT)" in str(error)
        third = send(frontend, target)
        other = await there.connection()
        await connection.send(ACK * 2)
        await second
        await other.send(ACK)
        await third
        assert (await connection.rest()).endswith(b"hello")  # it was closed, as soon as it had answered


async def test_a_connection_without_answers_is_closed(transport: OpenTransport):
    frontend = await transport({"DYN_TCP_REQUEST_TIMEOUT": "0.2"})
    async with RawWorker.listening() as there:
        sending = send(frontend, target_of(there.record, frontend))
        connection = await there.connection()
        assert isinstance(await fate(sending), DeliveryUnknown)
        assert await connection.rest() != b""


async def test_no_room_in_time(transport: OpenTransport):
    """What was not sent can be sent to another worker."""
    frontend = await transport({"DYN_TCP_REQUEST_TIMEOUT": "0.3"})
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sends = [send(frontend, target, bytes(20 * MIB)) for _ in range(4)]
        kinds = [type(await fate(one)) for one in sends]
        assert kinds.count(CannotConnect) >= 1
        assert set(kinds) <= {CannotConnect, DeliveryUnknown}


async def test_deadlines(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        with pytest.raises(CannotConnect, match="which had passed before the frame was sent"):
            await frontend.send(target, frame(), {}, soon(-1))
        assert there.connections == 0
        sends = [frontend.send(target, frame(), {}, soon(within)) for within in (0.1, 10, 0.1)]
        connection = await there.connection()
        for one in (sends[0], sends[2]):
            error = await fate(one)
            assert isinstance(error, DeliveryUnknown)
            assert "before the call's deadline (DYN_TCP_REQUEST_TIMEOUT is 5 s)" in str(error)
        await connection.send(ACK * 3)
        await sends[1]


async def test_an_idle_connection_is_closed(transport: OpenTransport):
    frontend = await transport({"DYN_TCP_HOST_IDLE_TTL_SECS": "0.3", "DYN_TCP_REQUEST_TIMEOUT": "0.5"})
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        for _ in range(2):
            sending = send(frontend, target)
            connection = await there.connection()
            await connection.request()
            await connection.send(ACK)
            await sending
            assert await connection.rest() == b""
            assert not lanes(target)


async def test_it_can_not_connect_in_time(transport: OpenTransport, monkeypatch: pytest.MonkeyPatch):
    frontend = await transport({"DYN_TCP_CONNECT_TIMEOUT": "0.1"})

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    with pytest.raises(CannotConnect, match=r"no connection within 0.1 s \(DYN_TCP_CONNECT_TIMEOUT\)"):
        await send(frontend, target_of("127.0.0.1:9/1f/x", frontend))


# ── its end ─────────────────────────────────────────────────────────────────────────────────────────


async def test_closing_ends_what_is_under_way(transport: OpenTransport):
    frontend = await transport()
    async with RawWorker.listening() as there:
        target = target_of(there.record, frontend)
        sent = send(frontend, target)
        connection = await there.connection()
        await connection.request()
        large = [send(frontend, target, bytes(20 * MIB)) for _ in range(4)]
        new = send(frontend, target_of("127.0.0.1:9/1f/x", frontend))
        await frontend.aclose()
        assert isinstance(await fate(sent), DeliveryUnknown)
        assert {type(await fate(one)) for one in (*large, new)} == {CannotConnect}
        for again in (send(frontend, target), send(frontend, target_of(f"{there.address}/1f/y", frontend))):
            error = await fate(again)
            assert isinstance(error, CannotConnect)
            assert "the transport is closed" in str(error)
        await frontend.aclose()


async def test_places_are_forgotten_with_their_workers(transport: OpenTransport):
    frontend = await transport()
    for number in range(1, 100):
        target_of(f"127.0.0.1:{number}/1f/x", frontend)
    assert len(frontend._asking._places) == 0

"""The frontend's side against peers that misbehave to order."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import defaultdict
from typing import Any

import h2.events
import h2.settings
import pytest
from h2.errors import ErrorCodes
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestRefused,
    UnknownEndpoint,
)
from reqplane.model import NEVER
from reqplane.wire.frame import Frame
from reqplane_http import inbound, watch

from .conftest import OpenTransport, frame, soon, target_of
from .scripted import PeerServer, ScriptedPeer, acknowledge, silent, until

STREAMS = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE


async def test_what_is_on_the_wire(transport: OpenTransport) -> None:
    """Statement 17: HTTP/2 by prior knowledge, really."""
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        headers = {"traceparent": "00-x-01", "x-request-id": "r1"}
        await frontend.send(target_of(server.url, frontend), frame(b"body"), headers, NEVER)
        assert server.peer.raw.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        (request,) = server.peer.seen(h2.events.RequestReceived)
        assert request.headers == [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", server.url.split("/")[2]),
            (":path", "/v1/dynamo/namespace.a.component.b.endpoint.c.instance.0"),
            ("content-type", "application/octet-stream"),
            ("traceparent", "00-x-01"),
            ("x-request-id", "r1"),
        ]
        assert all(not field.indexable for field in request.headers[2:])
        assert server.peer.bodies[1] == frame(b"body").join()


async def test_sends_during_the_connect_share_one_connection(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(20)))
        await frontend.send(target, frame(), {}, NEVER)
        assert len(server.peers) == 1
        assert len(server.peer.seen(h2.events.RequestReceived)) == 21


async def test_the_first_request_of_an_idle_connection_is_written_in_the_same_turn(
    transport: OpenTransport,
) -> None:
    """It is in the peer's socket before the loop turns; a second one shares the turn's end with others."""
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        sock = server.peer.transport.get_extra_info("socket")
        await until(lambda: not _has_come(sock))
        await asyncio.sleep(0.02)
        first = frontend.send(target, frame(), {}, NEVER)
        assert _has_come(sock, within=5)
        await asyncio.gather(first, frontend.send(target, frame(), {}, NEVER))


def _has_come(sock: Any, within: float = 0) -> bool:
    """Whether there is something to read, looked up without the loop."""
    return bool(select.select([sock.fileno()], [], [], within)[0])


async def test_the_ack_is_the_head_of_the_202(transport: OpenTransport) -> None:
    """The end of the answer may come later, or never: then the stream is reset at the time-out."""

    def head_only(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            peer.h2.send_headers(event.stream_id or 0, [(":status", "202")])

    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "0.2"})
    async with PeerServer(head_only) as server:
        await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        assert not server.peer.seen(h2.events.StreamReset)
        await until(lambda: server.peer.seen(h2.events.StreamReset))


async def test_cancelling_resets_the_stream_and_no_other(transport: OpenTransport) -> None:
    def only_odd_ones(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded) and event.stream_id != 3:
            peer.answer(event.stream_id or 0, 202)

    frontend = await transport()
    async with PeerServer(only_odd_ones) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        send = frontend.send(target, frame(), {}, NEVER)
        await until(lambda: len(server.peer.seen(h2.events.StreamEnded)) == 2)
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        await frontend.send(target, frame(), {}, NEVER)
        (reset,) = server.peer.seen(h2.events.StreamReset)
        assert (reset.stream_id, reset.error_code) == (3, ErrorCodes.CANCEL)
        assert len(server.peers) == 1


async def test_cancelling_a_task_that_awaits_a_send(transport: OpenTransport) -> None:
    frontend = await transport()

    async def send(url: str) -> None:
        await frontend.send(target_of(url, frontend), frame(), {}, NEVER)

    async with PeerServer(silent) as server:
        task = asyncio.ensure_future(send(server.url))
        await until(lambda: server.peers and server.peer.seen(h2.events.StreamEnded))
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await until(lambda: server.peer.seen(h2.events.StreamReset))


async def test_a_cancelled_stream_makes_room(transport: OpenTransport) -> None:
    """A hundred cancelled requests do not use the streams up."""
    answers = False

    def last_one(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded) and answers:
            peer.answer(event.stream_id or 0, 202)

    frontend = await transport()
    async with PeerServer(last_one, settings={STREAMS: 10}) as server:
        target = target_of(server.url, frontend)
        for _ in range(20):
            sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(10)]
            await asyncio.sleep(0.005)
            for send in sends:
                send.cancel()
        answers = True
        await frontend.send(target, frame(), {}, soon(2))


async def test_a_cancel_while_connecting(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        gone, stays = (frontend.send(target, frame(body), {}, NEVER) for body in (b"gone", b"stays"))
        gone.cancel()
        await stays
        assert list(server.peer.bodies.values()) == [frame(b"stays").join()]


async def test_a_cancel_in_the_middle_of_a_body(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        large = frontend.send(target, frame(b"x" * 3_000_000), {}, NEVER)
        await asyncio.sleep(0)
        large.cancel()
        await frontend.send(target, frame(b"y" * 300_000), {}, soon(3))
        assert len(server.peer.bodies[5]) == len(frame(b"y" * 300_000))
        assert [reset.stream_id for reset in server.peer.seen(h2.events.StreamReset)] == [3]


async def test_the_ack_is_bounded_by_the_setting(transport: OpenTransport) -> None:
    """Statement 47; and the stream is reset, the others live."""
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "0.2"})
    async with PeerServer(silent) as server:
        started = soon(0)
        with pytest.raises(DeliveryUnknown, match="DYN_HTTP_REQUEST_TIMEOUT") as caught:
            await frontend.send(target_of(server.url, frontend), frame(), {}, soon(60))
        assert 0.2 <= soon(0) - started < 0.5
        assert caught.value.reason == "timed_out"
        assert server.url.split("/")[2] in str(caught.value)
        assert caught.value.address == server.url.split("/")[2]
        await until(lambda: server.peer.seen(h2.events.StreamReset))
        assert server.peer.seen(h2.events.StreamReset)[0].error_code == ErrorCodes.CANCEL


async def test_the_ack_is_bounded_by_the_deadline(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(silent) as server:
        target = target_of(server.url, frontend)
        for deadline in (soon(0.1), soon(-1)):
            with pytest.raises(DeliveryUnknown, match="deadline") as caught:
                await frontend.send(target, frame(), {}, deadline)
            assert caught.value.reason == "timed_out"
        assert len(server.peer.seen(h2.events.RequestReceived)) == 1


async def test_a_connect_that_takes_too_long(transport: OpenTransport) -> None:
    """A full backlog swallows the SYN: surely nothing was delivered."""
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "0.3"})
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        await asyncio.sleep(0.05)
        target = target_of(f"http://127.0.0.1:{full.getsockname()[1]}/x", frontend)
        sends = [frontend.send(target, frame(), {}, NEVER), frontend.send(target, frame(), {}, soon(0.1))]
        for error in await asyncio.gather(*sends, return_exceptions=True):
            assert isinstance(error, CannotConnect)


async def test_a_connection_lost_in_flight(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(silent) as server:
        sends = [frontend.send(target_of(server.url, frontend), frame(), {}, NEVER) for _ in range(3)]
        await until(lambda: server.peers and len(server.peer.seen(h2.events.StreamEnded)) == 3)
        server.peer.transport.abort()
        for error in await asyncio.gather(*sends, return_exceptions=True):
            assert isinstance(error, DeliveryUnknown)
            assert error.reason == "connection_lost"


async def test_requests_without_a_stream_were_surely_not_delivered(transport: OpenTransport) -> None:
    """Eight connections with two streams each, all taken: the rest waits, and is sent when one is lost."""
    frontend = await transport()
    async with PeerServer(silent, settings={STREAMS: 2}) as server:
        target = target_of(server.url, frontend)
        first = frontend.send(target, frame(), {}, NEVER)
        await until(lambda: server.peers and server.peer.seen(h2.events.StreamEnded))
        taken = [first, *(frontend.send(target, frame(), {}, NEVER) for _ in range(15))]
        await until(lambda: server.count(h2.events.StreamEnded) >= 16)
        waiting = [frontend.send(target, frame(), {}, NEVER) for _ in range(2)]
        with pytest.raises(CannotConnect, match=r"no free stream before the call's deadline"):
            await frontend.send(target, frame(), {}, soon(0.05))
        assert len(server.peers) == 8
        for peer in server.peers:
            peer.script = acknowledge
        server.peers[0].transport.abort()
        server._script = acknowledge
        await asyncio.gather(*waiting)
        lost = [send for send in taken if send.done()]
        assert len(lost) == 2
        for send in lost:
            assert isinstance(send.exception(), DeliveryUnknown)
        for send in taken:
            send.cancel()


async def test_the_next_send_reconnects(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        for _ in range(3):
            await frontend.send(target, frame(), {}, NEVER)
            server.peer.transport.abort()
            await server.peer.lost
            await asyncio.sleep(0.01)
        assert len(server.peers) == 3


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTPS is here\r\n", b"\0" * 50])
async def test_a_peer_that_does_not_speak_http2(answer: bytes, transport: OpenTransport) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        for byte in answer:  # however it is cut up
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    frontend = await transport()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = target_of(f"http://127.0.0.1:{port}/x", frontend)
    sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(3)]
    for error in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(error, CannotConnect)
        assert "does not speak HTTP/2" in str(error)
    server.close()
    await server.wait_closed()


async def test_windows_of_a_few_bytes(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(acknowledge, settings={WINDOW: 100}) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        bodies = [bytes([n]) * 5000 for n in range(4)]
        await asyncio.gather(*(frontend.send(target, frame(body), {}, NEVER) for body in bodies))
        for stream, body in zip((3, 5, 7, 9), bodies, strict=True):
            assert server.peer.bodies[stream] == frame(body).join()


async def test_a_window_that_is_shut_at_first(transport: OpenTransport) -> None:
    def open_on_ping(peer: ScriptedPeer, event: Any) -> None:
        acknowledge(peer, event)
        if isinstance(event, h2.events.RequestReceived) and event.stream_id == 1:
            asyncio.get_running_loop().call_later(0.05, widen, peer)

    def widen(peer: ScriptedPeer) -> None:
        assert not peer.bodies
        peer.h2.update_settings({WINDOW: 100})
        peer.h2.increment_flow_control_window(20_000, 3)
        peer.flush()

    frontend = await transport()
    async with PeerServer(open_on_ping, settings={WINDOW: 0}) as server:
        target = target_of(server.url, frontend)
        await asyncio.gather(*(frontend.send(target, frame(b"x" * n), {}, NEVER) for n in (10, 20_000, 50)))
        assert [len(server.peer.bodies[stream]) for stream in (1, 3, 5)] == [44, 20_034, 84]


async def test_a_window_that_never_opens_ends_at_the_time_out(transport: OpenTransport) -> None:
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "0.3"})
    async with PeerServer(silent) as server:
        target = target_of(server.url, frontend)
        with pytest.raises(DeliveryUnknown) as caught:
            await frontend.send(target, frame(b"x" * 200_000), {}, NEVER)
        assert caught.value.reason == "timed_out"
        assert len(server.peer.bodies[1]) <= 65_535


def answering(status: int, body: bytes = b"", **headers: str) -> Any:
    def script(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            peer.answer(event.stream_id or 0, status, body, **headers)

    return script


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (502, DeliveryUnknown, "answered 502: <html> bad gateway </html>"),
        (503, DeliveryUnknown, "answered 503"),
        (504, DeliveryUnknown, "answered 504"),
        (500, DeliveryUnknown, "answered 500"),
        (200, DeliveryUnknown, "answered 200"),
        (301, DeliveryUnknown, "answered 301"),
        (404, RequestRefused, "a proxy, not a worker: "),
        (405, RequestRefused, "answered 405"),
        (413, FrameTooLarge, "client_max_body_size"),
    ],
)
async def test_the_answers_of_a_proxy(
    status: int, kind: type[Exception], words: str, transport: OpenTransport
) -> None:
    """Statement 39."""
    frontend = await transport()
    async with PeerServer(
        answering(status, b"<html>\n<b>bad gateway\n</html>".replace(b"<b>", b""))
    ) as server:
        with pytest.raises(kind) as caught:
            await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        assert words in str(caught.value)
        if isinstance(caught.value, DeliveryUnknown):
            assert (caught.value.reason, caught.value.status) == ("gateway", status)


async def test_the_refusal_header_counts_and_not_the_status(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(answering(502, b"gone", x_reqplane_refusal="unknown_endpoint")) as server:
        with pytest.raises(UnknownEndpoint, match="gone"):
            await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)


async def test_a_large_answer_is_not_read_to_its_end(transport: OpenTransport) -> None:
    def endless(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            peer.h2.send_headers(event.stream_id or 0, [(":status", "500")])
        if isinstance(event, (h2.events.StreamEnded, h2.events.WindowUpdated)) and not peer.seen(
            h2.events.StreamReset
        ):
            room = peer.h2.local_flow_control_window(1)
            for _ in range(room // 16_000):
                peer.h2.send_data(1, b"x" * 16_000)

    frontend = await transport()
    async with PeerServer(endless) as server:
        with pytest.raises(DeliveryUnknown, match="answered 500: x"):
            await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        await until(lambda: server.peer.seen(h2.events.StreamReset))
        server.peer.script = acknowledge
        for _ in range(3):
            await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)


async def test_an_answer_before_the_body_is_sent(transport: OpenTransport) -> None:
    """A proxy that says 413 at the head; the rest of the body is not sent."""

    def at_once(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            peer.answer(event.stream_id or 0, 413, b"too large")

    frontend = await transport()
    async with PeerServer(at_once) as server:
        target = target_of(server.url, frontend)
        with pytest.raises(FrameTooLarge, match="too large"):
            await frontend.send(target, frame(b"x" * 1_000_000), {}, NEVER)
        await until(lambda: server.peer.seen(h2.events.StreamReset))


async def test_a_202_before_the_frame_is_sent_is_no_ack(transport: OpenTransport) -> None:
    def at_once(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            peer.answer(event.stream_id or 0, 202)

    frontend = await transport()
    async with PeerServer(at_once) as server:
        with pytest.raises(DeliveryUnknown, match="answered 202"):
            await frontend.send(target_of(server.url, frontend), frame(b"x" * 1_000_000), {}, NEVER)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCodes.REFUSED_STREAM, CannotConnect),
        (ErrorCodes.HTTP_1_1_REQUIRED, CannotConnect),
        (ErrorCodes.INTERNAL_ERROR, DeliveryUnknown),
    ],
)
async def test_a_reset_by_the_peer(code: ErrorCodes, kind: type[Exception], transport: OpenTransport) -> None:
    def reset(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            peer.h2.reset_stream(event.stream_id or 0, code)

    frontend = await transport()
    async with PeerServer(reset) as server:
        with pytest.raises(kind, match=code.name):
            await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        times = len(server.peer.seen(h2.events.StreamEnded))
        assert times == (4 if code is ErrorCodes.REFUSED_STREAM else 1)


async def test_goaway(transport: OpenTransport) -> None:
    """Streams up to the last one finish, later ones and new ones go by a new connection."""
    frontend = await transport()
    async with PeerServer(silent) as server:
        target = target_of(server.url, frontend)
        sends = [frontend.send(target, frame(b"x" * n), {}, NEVER) for n in (1, 60_000, 3, 200_000)]
        await until(lambda: server.count(h2.events.RequestReceived) == 4)
        first = server.peer
        server._script = acknowledge
        first.h2.close_connection(last_stream_id=3)
        first.flush()
        await asyncio.gather(sends[2], sends[3])
        await frontend.send(target, frame(), {}, NEVER)
        assert len(server.peers) == 2
        assert sorted(map(len, server.peer.bodies.values())) == [37, 39, 200_034]
        assert not sends[0].done()
        answer = bytes.fromhex("000001 01 05 00000001 88".replace(" ", ""))  # a HEADERS frame: 200
        first.transport.write(answer)
        with pytest.raises(DeliveryUnknown, match="answered 200"):
            await sends[0]
        sends[1].cancel()
        await first.lost


async def test_a_peer_that_only_ever_goes_away(transport: OpenTransport) -> None:
    """A request is sent a few times, then it fails as surely not delivered."""

    def go_away(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            peer.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, last_stream_id=0)

    frontend = await transport()
    async with PeerServer(go_away) as server:
        with pytest.raises(CannotConnect, match=r"going away \(ENHANCE_YOUR_CALM\) and did not take"):
            await frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        assert len(server.peers) == 4


async def test_a_graceful_shutdown_by_two_goaways(transport: OpenTransport) -> None:
    """The first says only that the connection takes no more, the second which streams were taken."""
    frontend = await transport()
    async with PeerServer(silent) as server:
        target = target_of(server.url, frontend)
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(3)]
        await until(lambda: server.count(h2.events.StreamEnded) == 3)
        first = server.peer
        server._script = acknowledge
        first.transport.write(bytes.fromhex("000008 07 00 00000000 7fffffff 00000000".replace(" ", "")))
        (origin,) = frontend._client._origins.values()
        await until(lambda: not origin._connections)
        await frontend.send(target, frame(), {}, NEVER)
        assert len(server.peers) == 2
        assert not any(send.done() for send in sends)
        for stream in (1, 3):
            first.answer(stream, 202)
        first.h2.close_connection(last_stream_id=3)
        first.flush()
        await asyncio.gather(*sends)
        assert server.peer.seen(h2.events.StreamEnded)[-1].stream_id == 3
        await first.lost


async def test_more_requests_at_once_than_a_first_guess_allows(transport: OpenTransport) -> None:
    """100 are sent before the peer's settings are known, which allow 3: what it refuses is sent again."""

    def strict(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            running[peer].append(event.stream_id)
            if len(running[peer]) > 3:
                running[peer].remove(event.stream_id)
                peer.h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            else:
                asyncio.get_running_loop().call_later(0.002, finish, peer, event.stream_id)

    def finish(peer: ScriptedPeer, stream: int) -> None:
        running[peer].remove(stream)
        finished.append(stream)
        peer.answer(stream, 202)

    running: defaultdict[ScriptedPeer, list[int]] = defaultdict(list)
    finished: list[int] = []
    frontend = await transport()
    async with PeerServer(strict, settings={STREAMS: 3}, enforced=False) as server:
        target = target_of(server.url, frontend)
        await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(100)))
        assert len(finished) == 100
        assert server.count(h2.events.StreamEnded) > 100


async def test_further_connections_when_streams_run_out(transport: OpenTransport) -> None:
    """They are used together, the first before the others, and closed when they are idle."""
    held: list[tuple[ScriptedPeer, int]] = []

    def hold(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            held.append((peer, event.stream_id or 0))

    frontend = await transport({"DYN_HTTP2_POOL_MAX_IDLE_PER_HOST": "1"})
    async with PeerServer(hold, settings={STREAMS: 100}) as server:
        target = target_of(server.url, frontend)
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(250)]
        await until(lambda: len(held) == 250)
        assert [len(peer.seen(h2.events.StreamEnded)) for peer in server.peers] == [100, 100, 50]
        for peer, stream in held:
            peer.answer(stream, 202)
        await asyncio.gather(*sends)
        await asyncio.gather(*(peer.lost for peer in server.peers[1:]))
        server.peers[0].script = acknowledge
        await frontend.send(target, frame(), {}, NEVER)
        assert len(server.peers) == 3


async def test_a_further_connection_that_cannot_be_made(transport: OpenTransport) -> None:
    """Those who wait go on waiting for a stream of the first."""
    frontend = await transport()
    async with PeerServer(silent, settings={STREAMS: 1}) as server:
        target = target_of(server.url, frontend)
        first = frontend.send(target, frame(), {}, NEVER)
        await until(lambda: server.count(h2.events.StreamEnded) == 1)
        server._server.close()
        second = frontend.send(target, frame(), {}, NEVER)
        (origin,) = frontend._client._origins.values()
        await until(lambda: origin._no_further_until)
        assert not second.done()
        server.peer.script = acknowledge
        server.peer.answer(1, 202)
        await asyncio.gather(first, second)


async def test_stream_numbers_that_run_out(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        (origin,) = frontend._client._origins.values()
        origin._connections[0]._engine.highest_outbound_stream_id = 2**31 - 5
        await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(10)))
        assert len(server.peers) == 2
        await server.peers[0].lost


async def test_frames_for_streams_long_gone_do_no_harm(transport: OpenTransport) -> None:
    """The answer to a cancelled request may come when its stream is forgotten."""
    held: list[int] = []

    def hold_the_second(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.StreamReset):
            return
        if isinstance(event, h2.events.StreamEnded):
            if event.stream_id == 3 and not held:
                held.append(3)
            else:
                peer.answer(event.stream_id or 0, 202)

    frontend = await transport()
    async with PeerServer(hold_the_second) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        late = frontend.send(target, frame(), {}, NEVER)
        await until(lambda: held)
        late.cancel()
        for _ in range(20):
            await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(60)))
        # By hand, since h2 would not send it: HEADERS of a 202 on stream 3, then DATA.
        server.peer.transport.write(
            bytes.fromhex("00000101050000000388") + bytes.fromhex("0000010001000000ff78")
        )
        server.peer.script = acknowledge
        await frontend.send(target, frame(), {}, NEVER)
        assert len(server.peers) == 1


async def test_a_peer_that_breaks_the_rules(transport: OpenTransport) -> None:
    frontend = await transport()
    async with PeerServer(silent) as server:
        send = frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        await until(lambda: server.peers and server.peer.seen(h2.events.StreamEnded))
        server.peer.transport.write(b"\0\0\1\5\0\0\0\0\0\0")  # PUSH_PROMISE on stream 0
        with pytest.raises(DeliveryUnknown, match="broke the rules"):
            await send
        await server.peer.lost


async def test_a_silent_peer_is_asked_and_given_up(transport: OpenTransport) -> None:
    frontend = await transport(
        {"DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS": "0.1", "DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS": "0.1"}
    )
    async with PeerServer(silent) as server:
        send = frontend.send(target_of(server.url, frontend), frame(), {}, NEVER)
        await until(lambda: server.peers and server.peer.seen(h2.events.PingReceived))
        await asyncio.sleep(0.3)
        assert not send.done()  # it answers PINGs, so it is alive
        server.peer.data_received = lambda data: None
        with pytest.raises(DeliveryUnknown, match="PING"):
            await send


async def test_an_idle_connection_is_closed(transport: OpenTransport) -> None:
    frontend = await transport({"DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS": "0.2"})
    async with PeerServer(acknowledge) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        async with asyncio.timeout(5):
            await server.peer.lost
        assert not frontend._client._origins
        await frontend.send(target, frame(), {}, NEVER)


def test_a_frontend_closes_an_idle_connection_before_its_worker_does() -> None:
    """A request that meets a worker's closing may be lost."""
    assert min(inbound.SILENT_SECONDS, inbound.IDLE_SECONDS) - 1 > watch.MOST_IDLE_SECONDS


async def test_frames_wait_while_the_socket_is_full(transport: OpenTransport) -> None:
    """A peer with a huge window that does not read: we keep no copy of the whole body."""
    frontend = await transport()

    def open_wide(peer: ScriptedPeer, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived) and event.stream_id == 1:
            peer.h2.increment_flow_control_window(2**30)
        acknowledge(peer, event)

    async with PeerServer(open_wide, settings={WINDOW: 2**30}) as server:
        target = target_of(server.url, frontend)
        await frontend.send(target, frame(), {}, NEVER)
        server.peer.transport.pause_reading()
        large = frontend.send(target, Frame(b"{}", b"x" * 5_000_000), {}, NEVER)
        await asyncio.sleep(0.1)
        (origin,) = frontend._client._origins.values()
        (connection,) = origin._connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 1_000_000
        server.peer.transport.resume_reading()
        await large
        assert len(server.peer.bodies[3]) == 5_000_026

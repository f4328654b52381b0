"""The frontend's side by HTTP/1.1, against peers that misbehave to order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestError,
    RequestRefused,
    UnknownEndpoint,
)
from reqplane.model import NEVER, Instance
from reqplane.wire.frame import Frame
from reqplane_http.http1 import Http1Post
from reqplane_http.target import Target
from reqplane_http.transport import HttpTransport

from .conftest import ENDPOINT, OpenTransport, StartWorker, frame, soon, target_of
from .scripted import until

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class Call:
    """One connection of a peer, as its script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.over = asyncio.get_running_loop().create_future()

    async def head(self) -> int:
        """Read a request's head; the length of its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])

    async def request(self) -> None:
        self.bodies.append(await self.reader.readexactly(await self.head()))

    def answer(self, status: int, body: bytes = b"", *fields: str) -> None:
        head = "\r\n".join((f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *fields, "", ""))
        self.writer.write(head.encode() + body)


Script = Callable[[Call], Awaitable[None]]


class Peer:
    """What came to a peer."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.url = ""

    @property
    def requests(self) -> int:
        return sum(len(call.heads) for call in self.calls)


@asynccontextmanager
async def peer(script: Script) -> AsyncGenerator[Peer]:
    """Listens, and runs the script for each connection; closes it when the script ends."""
    here = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = Call(reader, writer)
        here.calls.append(call)
        try:
            await script(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            call.over.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x?y=1"
    try:
        yield here
    finally:
        server.close()
        for call in here.calls:
            call.writer.transport.abort()
            await call.over
        await server.wait_closed()


async def accept_all(call: Call) -> None:
    while True:
        await call.request()
        call.answer(202)


async def say_nothing(call: Call) -> None:
    await call.request()
    await call.reader.read()


def plain(url: str, frontend: HttpTransport) -> Target:
    target = frontend.target(Instance(ENDPOINT, 0, 7, {"http": url}))
    assert target is not None
    return target


async def test_what_is_on_the_wire(transport: OpenTransport) -> None:
    """One request after the other on one connection, with the headers that are ours and no others."""
    frontend = await transport()
    async with peer(accept_all) as here:
        target = plain(here.url, frontend)
        headers = {"traceparent": "00-x-01", "x-request-id": "r1", "request-id": "a\r\nb: c"}
        for body in (b"one", b"two"):
            await frontend.send(target, frame(body), headers, NEVER)
        (call,) = here.calls
        head = (
            f"POST /v1/x?y=1 HTTP/1.1\r\nhost: {target.address}\r\ncontent-type: application/octet-stream\r\n"
            f"content-length: {len(frame(b'one'))}\r\ntraceparent: 00-x-01\r\nx-request-id: r1\r\n\r\n"
        )
        assert call.heads == [head.encode()] * 2
        assert call.bodies == [frame(b"one").join(), frame(b"two").join()]


async def test_a_large_frame_to_a_worker_with_http2(worker: StartWorker, transport: OpenTransport) -> None:
    """It goes by HTTP/1.1, and small ones by HTTP/2: the worker takes both on its port."""
    here, frontend = await worker(), await transport()
    target = target_of(here.url, frontend)
    assert target.most_by_h2 == 65_536
    for size in (10, 65_536 - len(frame(b"")), 65_537 - len(frame(b"")), 2_000_000, 10):
        await frontend.send(target, frame(b"x" * size), {}, NEVER)
    by = [delivery.peer.address for delivery in here.got if delivery.peer]
    assert by[0] == by[1] == by[4] != by[2] == by[3]
    assert here.bodies()[3] == b"x" * 2_000_000


async def test_bodies_of_every_buffer_type(transport: OpenTransport) -> None:
    frontend = await transport()
    async with peer(accept_all) as here:
        for body in (b"x" * 700_000, bytearray(b"x" * 700_000), memoryview(b"x" * 700_000), b""):
            await frontend.send(plain(here.url, frontend), Frame(b"{}", body), {}, NEVER)
        assert here.calls[0].bodies == [Frame(b"{}", b"x" * 700_000).join()] * 3 + [Frame(b"{}", b"").join()]


@pytest.mark.parametrize(
    ("script", "size", "kind", "words"),
    [
        (say_nothing, 10, DeliveryUnknown, r"timed_out\): no ack from 127"),
        (say_nothing, 5_000_000, DeliveryUnknown, "timed_out"),
        (Call.request, 10, DeliveryUnknown, "connection_lost"),
        (Call.head, 40_000_000, CannotConnect, "cannot connect to"),
        (lambda call: call.reader.read(1), 10, DeliveryUnknown, "connection_lost"),
    ],
)
async def test_peers_that_do_not_answer(
    script: Any, size: int, kind: type[RequestError], words: str, transport: OpenTransport
) -> None:
    """What was not handed over to its last byte was surely not accepted."""
    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "1"}, max_frame_bytes=50_000_000)
    async with peer(script) as here:
        with pytest.raises(kind, match=words) as caught:
            await frontend.send(plain(here.url, frontend), frame(b"x" * size), {}, NEVER)
        assert caught.value.transport == "http"
        assert str(caught.value.address) in here.url
    await until(lambda: not frontend._plain._origins)


@pytest.mark.parametrize("status", [202, 413])
async def test_an_answer_before_the_frame_is_sent(status: int, transport: OpenTransport) -> None:
    """It may be seen, or only that the connection is gone; a 202 is no ack then."""

    async def answer_early(call: Call) -> None:
        await call.head()
        call.answer(status)
        await call.writer.drain()

    frontend = await transport(max_frame_bytes=50_000_000)
    async with peer(answer_early) as here:
        with pytest.raises(RequestError, match=f"answered {status}|reset by peer|Broken pipe"):
            await frontend.send(plain(here.url, frontend), frame(b"x" * 40_000_000), {}, NEVER)


class Hasty(httpx.AsyncBaseTransport):
    """A connection on which the answer comes before anything of the frame was taken."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, stream=httpx.ByteStream(b""))


async def test_a_202_before_the_frame_is_sent_is_no_ack(transport: OpenTransport) -> None:
    post = Http1Post(plain("http://127.0.0.1:1/x", await transport()), frame(), {})
    assert not await post.exchange(Hasty())
    with pytest.raises(DeliveryUnknown, match="answered 202"):
        await post


async def test_a_peer_that_stops_reading(transport: OpenTransport) -> None:
    """The frame waits at our side, without a copy of it, until the time is up."""

    async def stop_reading(call: Call) -> None:
        await call.head()
        await release.wait()

    release = asyncio.Event()
    frontend = await transport(max_frame_bytes=200_000_000)
    async with peer(stop_reading) as here:
        with pytest.raises(CannotConnect, match="did not take the whole request before the call's deadline"):
            await frontend.send(plain(here.url, frontend), frame(b"x" * 100_000_000), {}, soon(0.3))
        release.set()


@pytest.mark.parametrize(
    ("status", "fields", "kind", "words"),
    [
        (301, ["location: http://127.0.0.1:1/"], DeliveryUnknown, "answered 301: no"),
        (502, [], DeliveryUnknown, "answered 502: no"),
        (200, [], DeliveryUnknown, "answered 200"),
        (404, [], RequestRefused, "a proxy, not a worker"),
        (413, [], FrameTooLarge, "client_max_body_size"),
        (404, ["x-reqplane-refusal: unknown_endpoint"], UnknownEndpoint, "no"),
    ],
)
async def test_answers(
    status: int, fields: list[str], kind: type[Exception], words: str, transport: OpenTransport
) -> None:
    async def say_no(call: Call) -> None:
        while True:
            await call.request()
            call.answer(status, b"no", *fields)

    frontend = await transport()
    async with peer(say_no) as here:
        for _ in range(2):
            with pytest.raises(kind, match=words):
                await frontend.send(plain(here.url, frontend), frame(), {}, NEVER)
        assert len(here.calls) == 1


async def test_a_large_answer_is_not_read_to_its_end(transport: OpenTransport) -> None:
    sent = 0

    async def babble(call: Call) -> None:
        nonlocal sent
        await call.request()
        call.writer.write(b"HTTP/1.1 500 X\r\n\r\n")
        while sent < 2**30:
            call.writer.write(b"x" * 10_000)
            await call.writer.drain()
            sent += 10_000

    frontend = await transport()
    async with peer(babble) as here:
        with pytest.raises(DeliveryUnknown, match="answered 500: x"):
            await frontend.send(plain(here.url, frontend), frame(), {}, NEVER)
        await here.calls[0].over
        assert sent < 2**28


async def test_an_answer_that_breaks_off_counts_by_its_status(transport: OpenTransport) -> None:
    async def break_off(call: Call) -> None:
        await call.request()
        call.writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 1000\r\n\r\ntoo lar")

    frontend = await transport()
    async with peer(break_off) as here:
        with pytest.raises(FrameTooLarge, match="answered 413: too lar"):
            await frontend.send(plain(here.url, frontend), frame(), {}, NEVER)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0\x12\4\0" * 4, b"HTTP/9 x\r\n\r\n"])
async def test_an_answer_that_is_not_http(said: bytes, transport: OpenTransport) -> None:
    async def say(call: Call) -> None:
        await call.request()
        call.writer.write(said)
        await call.reader.read()

    frontend = await transport({"DYN_HTTP_REQUEST_TIMEOUT": "1"})
    async with peer(say) as here:
        with pytest.raises(DeliveryUnknown):
            await frontend.send(plain(here.url, frontend), frame(), {}, NEVER)


async def test_cancelling_closes_the_connection_and_no_other(transport: OpenTransport) -> None:
    async def second_says_nothing(call: Call) -> None:
        await (say_nothing if len(here.calls) == 2 else accept_all)(call)

    frontend = await transport()
    async with peer(second_says_nothing) as here:
        target = plain(here.url, frontend)
        sends = [frontend.send(target, frame(b"%d" % n), {}, NEVER) for n in range(3)]
        await until(lambda: sum(send.done() for send in sends) == 2)
        (hanging,) = (send for send in sends if not send.done())
        hanging.cancel()
        await here.calls[1].over
        await frontend.send(target, frame(), {}, NEVER)
        assert len(here.calls) == 3


@pytest.mark.parametrize("turns", range(12))
async def test_cancelling_at_any_moment_leaves_nothing_behind(turns: int, transport: OpenTransport) -> None:
    frontend = await transport()
    async with peer(accept_all) as here:
        target = plain(here.url, frontend)
        for _ in range(2):
            send = frontend.send(target, frame(b"x" * 100_000), {}, NEVER)
            for _ in range(turns):
                await asyncio.sleep(0)
            send.cancel()
            await asyncio.wait({send})
        await frontend.send(target, frame(), {}, NEVER)
        (origin,) = frontend._plain._origins.values()
        await until(lambda: not origin._busy)


async def test_a_connection_that_the_peer_has_closed_is_not_used_again(transport: OpenTransport) -> None:
    async def one_each(call: Call) -> None:
        await call.request()
        call.answer(202)

    frontend = await transport()
    async with peer(one_each) as here:
        for n in range(5):
            await frontend.send(plain(here.url, frontend), frame(), {}, NEVER)
            await here.calls[n].over
            await asyncio.sleep(0.02)


async def test_idle_connections_are_kept_up_to_a_number_and_a_time(transport: OpenTransport) -> None:
    frontend = await transport(
        {"DYN_HTTP2_POOL_MAX_IDLE_PER_HOST": "2", "DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS": "0.3"}
    )
    async with peer(accept_all) as here:
        target = plain(here.url, frontend)
        await asyncio.gather(*(frontend.send(target, frame(), {}, NEVER) for _ in range(5)))
        await until(lambda: sum(call.over.done() for call in here.calls) == 3)
        await frontend.send(target, frame(), {}, NEVER)
        assert len(here.calls) == 5
        await until(lambda: all(call.over.done() for call in here.calls))
        assert not frontend._plain._origins


async def test_more_at_once_than_there_may_be_connections(transport: OpenTransport) -> None:
    release = asyncio.Event()

    async def wait(call: Call) -> None:
        while True:
            await call.request()
            await release.wait()
            call.answer(202)

    frontend = await transport()
    async with peer(wait) as here:
        target = plain(here.url, frontend)
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(130)]
        await until(lambda: here.requests == 100)
        with pytest.raises(CannotConnect, match="no free connection before the call's deadline"):
            await frontend.send(target, frame(), {}, soon(0.05))
        sends[110].cancel()
        release.set()
        await asyncio.gather(*sends, return_exceptions=True)
        assert here.requests == 129
        assert len(here.calls) == 100


async def test_close_with_requests_under_way(transport: OpenTransport) -> None:
    frontend = await transport()
    async with peer(say_nothing) as here:
        target = plain(here.url, frontend)
        sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(101)]
        await until(lambda: here.requests == 100)
        await frontend.aclose()
        errors = [send.exception() for send in sends]
        assert [type(error) for error in errors] == [DeliveryUnknown] * 100 + [CannotConnect]
        with pytest.raises(CannotConnect, match="closed"):
            await frontend.send(target, frame(), {}, NEVER)
        await frontend.aclose()


async def test_nobody_listens(transport: OpenTransport) -> None:
    frontend = await transport()
    async with peer(accept_all) as here:
        pass
    target = plain(here.url, frontend)
    with pytest.raises(CannotConnect) as caught:
        await frontend.send(target, frame(), {}, NEVER)
    assert str(caught.value) == f"cannot connect to {target.address}: Connection refused (plane http)"
    with pytest.raises(CannotConnect, match=r"cannot connect to no-such-host\.invalid:80: "):
        await frontend.send(plain("http://no-such-host.invalid:80/x", frontend), frame(), {}, soon(4))
    with pytest.raises(DeliveryUnknown, match="had passed before"):
        await frontend.send(target, frame(), {}, soon(-1))


async def test_a_connect_that_takes_too_long(transport: OpenTransport) -> None:
    """A full backlog swallows the SYN."""
    frontend = await transport()
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        target = plain(f"http://127.0.0.1:{full.getsockname()[1]}/x", frontend)
        with pytest.raises(CannotConnect, match="no connection before the call's deadline"):
            await frontend.send(target, frame(), {}, soon(0.2))


async def test_no_proxy_from_the_environment_and_no_cookies(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")

    async def with_cookie(call: Call) -> None:
        while True:
            await call.request()
            call.answer(202, b"", "set-cookie: route=1")

    frontend = await transport()
    async with peer(with_cookie) as here:
        for _ in range(2):
            await frontend.send(plain(here.url, frontend), frame(), {}, NEVER)
        assert b"cookie" not in here.calls[0].heads[1]

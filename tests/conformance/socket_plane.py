"""A request plane over TCP that is right, made of small methods: what wrong ones are made from.

A process has one connection to each address, and sends its frames on it one behind the other, without waiting
for answers; an answer carries its request's number.

    request     number u32, length of the head u32, length of the frame u64, head (JSON), frame
    answer      number u32, length u32, JSON: {} = accepted, {"code", "text"} = refused
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    InvalidFrame,
    RequestError,
    RequestRefused,
    UnknownEndpoint,
    WorkerBusy,
    describe,
    refusal,
)
from reqplane.interfaces import Accept, Delivery, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Peer, Served
from reqplane.settings import host, load, port, seconds, setting, settings_class
from reqplane.sockets import host_and_port, listening_socket, split_address
from reqplane.wire.frame import Frame

REQUEST, ANSWER = struct.Struct(">IIQ"), struct.Struct(">II")
MOST_HEAD = 1 << 20
"""Bytes of an answer, or of all that goes before a frame."""


@settings_class
class SocketSettings:
    host: str = setting("SOCKET_HOST", default="0.0.0.0", parse=host)
    port: int = setting("SOCKET_PORT", default=0, parse=port)
    ack_timeout: float = setting("SOCKET_ACK_TIMEOUT", default=5.0, parse=seconds)


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint of one worker."""

    address: str
    endpoint: str


class Link:
    """A frontend's connection."""

    def __init__(self, transport: SocketTransport, address: str) -> None:
        self.transport, self.address = transport, address
        self.waiting: dict[int, asyncio.Future[dict[str, str]]] = {}
        self.turn = asyncio.Lock()
        self.lost = False
        self._numbers = itertools.count()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(*split_address(self.address))
        if self.transport.closed:
            self.writer.transport.abort()
            raise ConnectionAbortedError("the transport was closed")
        self.transport.host.spawn(self.listen(), f"socket to {self.address}")

    async def ask(self, target: Target, frame: Frame, headers: Headers) -> dict[str, str]:
        """Send one request and wait for its answer; OSError if the connection is lost."""
        number = next(self._numbers) % 2**32
        head = self.head(target, headers)
        await self.write(REQUEST.pack(number, len(head), len(frame)) + head, frame)
        self.waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            self.waiting.pop(number, None)

    def head(self, target: Target, headers: Headers) -> bytes:
        lower = {name.lower(): value for name, value in headers.items()}
        return json.dumps({"endpoint": target.endpoint, "headers": lower}).encode()

    async def write(self, before: bytes, frame: Frame) -> None:
        """All of it, or nothing; while the other side reads nothing, nothing."""
        async with self.turn:
            await self.writer.drain()
            if self.lost:
                raise ConnectionResetError("the connection was lost")
            self.writer.writelines([before, *frame.buffers])

    async def listen(self) -> None:
        """Read answers until the connection is lost."""
        try:
            while True:
                number, size = ANSWER.unpack(await self.reader.readexactly(ANSWER.size))
                if size > MOST_HEAD:
                    raise ValueError("that is no answer")
                self.answered(number, json.loads(await self.reader.readexactly(size)))
        except (OSError, EOFError, ValueError):
            pass
        finally:
            self.lose()

    def answered(self, number: int, said: dict[str, str]) -> None:
        answer = self.waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(said)

    def lose(self) -> None:
        """Nobody uses it again."""
        self.lost = True
        self.transport.forget(self)
        self.writer.transport.abort()
        for answer in self.waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the connection was lost before the ack"))


class Incoming:
    """A worker's connection."""

    def __init__(self, transport: SocketTransport, reader: Any, writer: Any) -> None:
        self.transport, self.host = transport, transport.host
        self.reader: asyncio.StreamReader = reader
        self.writer: asyncio.StreamWriter = writer
        writer.transport.set_write_buffer_limits(0)  # drain is over when all is written
        self.peer = Peer(host_and_port(*writer.get_extra_info("peername")[:2]))

    async def run(self) -> None:
        with suppress(OSError, EOFError, ValueError):
            while True:
                await self.take_one()
        self.writer.transport.abort()

    async def take_one(self) -> None:
        number, head_size, size = REQUEST.unpack(await self.reader.readexactly(REQUEST.size))
        if head_size > MOST_HEAD:
            raise ValueError("that is no request")
        head = json.loads(await self.reader.readexactly(head_size))
        try:
            frame = await self.read(size)
            self.hand_over(number, str(head["endpoint"]), frame, dict(head["headers"]))
        except RequestRefused as error:
            self.refuse(number, error)
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        """The frame, if it may be taken; if not, past it."""
        limit, budget = self.transport.max_frame_bytes, self.host.inflight
        if size > limit:
            await self.skip(size)
            raise InvalidFrame(f"the frame has {size} bytes, at most {limit} are allowed")
        if not budget.take(size):
            await self.skip(size)
            raise WorkerBusy("it holds as many bytes as it may")
        try:
            return await self.reader.readexactly(size)
        finally:
            budget.give(size)

    async def skip(self, size: int) -> None:
        while size:
            data = await self.reader.read(min(size, 65536))
            if not data:
                raise EOFError
            size -= len(data)

    def hand_over(self, number: int, endpoint: str, frame: bytes, headers: dict[str, str]) -> None:
        """Accept and ack, in one step."""
        self.accept(endpoint, frame, headers)
        self.answer(number)

    def accept(self, endpoint: str, frame: bytes | memoryview, headers: dict[str, str]) -> None:
        accept = self.transport.endpoints.get(endpoint)
        if accept is None:
            raise UnknownEndpoint(f"{endpoint!r:.200} is not served here")
        try:
            accept(Delivery(frame, headers, self.transport.name, self.peer))
        except RequestRefused:
            raise
        except (Exception, asyncio.CancelledError) as error:
            self.host.log.exception("accepting a request for %s failed", endpoint)
            raise refusal("refused", "the worker could not take it; its log has the reason") from error

    def refuse(self, number: int, error: RequestRefused) -> None:
        self.answer(number, code=error.code, text=error.problem)

    def answer(self, number: int, **said: str) -> None:
        data = json.dumps(said).encode()
        self.writer.write(ANSWER.pack(number, len(data)) + data)


class SocketListener(Listener):
    """One endpoint of a process."""

    def __init__(self, transport: SocketTransport, endpoint: str, address: str) -> None:
        self.transport, self.endpoint, self.address = transport, endpoint, address

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {self.transport.name: {"address": self.address, "endpoint": self.endpoint}}

    async def drain(self) -> None:
        writers = [asyncio.ensure_future(each.writer.drain()) for each in self.transport.incoming]
        if writers:
            _, late = await asyncio.wait(writers, timeout=5.0)
            for writer in late:
                writer.cancel()

    async def close(self) -> None:
        await self.transport.leave(self)


class SocketTransport(RequestTransport[Target]):
    """The plane."""

    name: ClassVar[str] = "socket"
    capabilities: ClassVar[Capabilities] = Capabilities(
        headers=True, refusals=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = SocketSettings
    loopback: ClassVar[Mapping[str, str]] = {"SOCKET_HOST": "127.0.0.1", "SOCKET_PORT": "0"}
    link: ClassVar[type[Link]] = Link
    connection: ClassVar[type[Incoming]] = Incoming

    def __init__(self, host: Host) -> None:
        self.host, self.configured = host, load(SocketSettings, host.env)
        self.links: dict[str, asyncio.Task[Link]] = {}
        self.endpoints: dict[str, Accept] = {}
        self.listeners: dict[str, SocketListener] = {}
        self.incoming: dict[Incoming, asyncio.Task[Any]] = {}
        self.server: asyncio.Server | None = None
        self.opening = asyncio.Lock()
        self.closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host)

    @property
    def max_frame_bytes(self) -> int:
        return self.host.limits.max_frame_bytes

    def target(self, instance: Instance) -> Target | None:
        match instance.transport.get(self.name):
            case {"address": str(address), "endpoint": str(endpoint)}:
                return Target(address, endpoint)
            case _:
                return None

    # ── sending ──

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            if len(frame) > self.max_frame_bytes:
                raise FrameTooLarge(len(frame), self.max_frame_bytes, "DYN_MAX_FRAME_BYTES sets the limit")
            if self.closed:
                raise CannotConnect("the transport is closed")
            now = asyncio.get_running_loop().time()
            said = await self.bounded(
                target, frame, headers, min(deadline, now + self.configured.ack_timeout)
            )
        except RequestError as error:
            error.locate(transport=self.name, address=target.address)
            raise
        self.conclude(target, said)

    async def bounded(self, target: Target, frame: Frame, headers: Headers, until: float) -> dict[str, str]:
        try:
            async with asyncio.timeout_at(until):
                link = await self.connected(target.address)
                return await link.ask(target, frame, headers)
        except TimeoutError as error:
            raise DeliveryUnknown("timed_out", "there was no ack in time") from error
        except OSError as error:
            raise DeliveryUnknown("connection_lost", describe(error)) from error

    def conclude(self, target: Target, said: dict[str, str]) -> None:
        if "code" in said:
            raise refusal(said["code"], said["text"], transport=self.name, address=target.address)

    async def connected(self, address: str) -> Link:
        """The connection to an address, which all share."""
        opening = self.links.get(address)
        if opening is None:
            opening = self.links[address] = self.host.spawn(self.connect(address), f"connect to {address}")
        await asyncio.wait({opening})
        try:
            return opening.result()
        except (OSError, ValueError, asyncio.CancelledError) as error:
            raise CannotConnect(describe(error)) from error

    async def connect(self, address: str) -> Link:
        link = self.link(self, address)
        try:
            await link.open()
        except BaseException:
            self.links.pop(address, None)
            raise
        return link

    def forget(self, link: Link) -> None:
        self.links.pop(link.address, None)

    # ── listening ──

    async def listen(self, served: Served, accept: Accept) -> Listener:
        async with self.opening:
            if self.server is None:
                self.server = await self.start_server(self.configured.host, self.configured.port)
        port = self.server.sockets[0].getsockname()[1]
        address = host_and_port(self.host.advertise(self.configured.host), port)
        listener = SocketListener(self, str(served.endpoint), address)
        self.listeners[listener.endpoint], self.endpoints[listener.endpoint] = listener, accept
        return listener

    async def start_server(self, host: str, port: int) -> asyncio.Server:
        names = {"host_variable": "SOCKET_HOST", "port_variable": "SOCKET_PORT"}
        sock = await listening_socket(host, port, **names, backlog=1024)
        server = await asyncio.start_server(self.connected_by, sock=sock, start_serving=False)
        try:
            await server.start_serving()
        except BaseException:
            server.close()
            raise
        return server

    def connected_by(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        each = self.connection(self, reader, writer)
        task = self.incoming[each] = self.host.spawn(each.run(), "socket connection")
        task.add_done_callback(lambda _: self.incoming.pop(each, None))

    async def leave(self, listener: SocketListener) -> None:
        if self.listeners.get(listener.endpoint) is listener:
            del self.listeners[listener.endpoint], self.endpoints[listener.endpoint]
            if not self.listeners:
                await self.stop_listening()

    async def stop_listening(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        await self.end(self.incoming)

    async def end(self, tasks: Mapping[Incoming, asyncio.Task[Any]]) -> None:
        for each, task in tasks.items():
            task.cancel()
            each.writer.transport.abort()
        if tasks:
            await asyncio.wait(list(tasks.values()))

    async def aclose(self) -> None:
        self.closed = True
        for opening in list(self.links.values()):
            if opening.done():
                opening.result().lose()
            else:
                opening.cancel()
        self.listeners.clear()
        self.endpoints.clear()
        await self.stop_listening()

"""A request plane over TCP, right and plain: what the wrong ones in `test_wrong_peers.py` are made from.

A connection for each frame: its size and the endpoint, then its bytes; "ok" or a refusal comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, RequestRefused, describe, refusal
from reqplane.interfaces import Accept, Delivery, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Served
from reqplane.settings import load, port, setting, settings_class
from reqplane.sockets import listening_socket
from reqplane.wire.frame import Frame

HEAD = 8 + 64
"""Bytes in front of a frame: its size, and the endpoint's name filled up with spaces."""
MOST_ANSWER = 1000


@settings_class
class PlainSettings:
    port: int = setting("PLAIN_PORT", default=0, parse=port)


class PlainListener(Listener):
    def __init__(self, owner: PlainTcp, endpoint: str) -> None:
        self.owner, self.endpoint = owner, endpoint

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {"plain": {"where": f"127.0.0.1:{self.owner.listening_at}", "endpoint": self.endpoint}}

    async def drain(self) -> None:
        pass  # the ack is written in the step in which the frame is accepted

    async def close(self) -> None:
        if self.owner.accepts.pop(self.endpoint, None) is not None and not self.owner.accepts:
            await self.owner.close_server()


class PlainTcp(RequestTransport[tuple[str, str]]):
    name: ClassVar[str] = "plain"
    capabilities: ClassVar[Capabilities] = Capabilities(
        refusals=True, shared_address=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = PlainSettings
    loopback: ClassVar[Mapping[str, str]] = {"PLAIN_PORT": "0"}
    limit = 5.0
    """Seconds until the ack."""

    def __init__(self, host: Host) -> None:
        self.host, self.most = host, host.limits.max_frame_bytes
        self.port = load(PlainSettings, host.env).port
        self.listening_at = 0
        self.closed = False
        self.accepts: dict[str, Accept] = {}
        self.server: asyncio.Server | None = None
        self.served: set[asyncio.Task[Any]] = set()
        self.sending: dict[asyncio.Task[None], asyncio.StreamWriter | None] = {}

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host)

    @property
    def max_frame_bytes(self) -> int:
        return self.most

    def target(self, instance: Instance) -> tuple[str, str] | None:
        match instance.transport.get("plain"):
            case {"where": str(where), "endpoint": str(endpoint)} if where.rpartition(":")[2].isdecimal():
                return where, endpoint
            case _:
                return None

    def address(self, target: tuple[str, str]) -> str | None:
        return target[0]

    # ── sending ──

    async def send(self, target: tuple[str, str], frame: Frame, headers: Headers, deadline: float) -> None:
        where, endpoint = target
        if len(frame) > self.most:
            raise FrameTooLarge(len(frame), self.most, "DYN_MAX_FRAME_BYTES sets the limit", address=where)
        if self.closed:
            raise CannotConnect("the transport is closed", address=where)
        until = min(deadline, asyncio.get_running_loop().time() + self.limit)
        exchange = asyncio.create_task(self.exchange(where, endpoint, frame))
        self.sending[exchange] = None
        try:
            done, _ = await asyncio.wait({exchange}, timeout=until - asyncio.get_running_loop().time())
        finally:
            self.let_go(exchange)
        if not done:
            raise DeliveryUnknown("timed_out", "no ack", address=where)
        exchange.result()

    def let_go(self, exchange: asyncio.Task[None]) -> None:
        """Whatever becomes of it."""
        writer = self.sending.pop(exchange)
        exchange.cancel()
        if writer is not None:
            writer.transport.abort()

    async def exchange(self, where: str, endpoint: str, frame: Frame) -> None:
        host, _, number = where.rpartition(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(number))
        except OSError as error:
            raise CannotConnect(describe(error), address=where) from error
        this: Any = asyncio.current_task()
        if this in self.sending:
            self.sending[this] = writer
        try:
            writer.writelines([len(frame).to_bytes(8), endpoint.ljust(64).encode(), *frame.buffers])
            self.judge(await self.answer(reader), where)
        except OSError as error:
            raise self.lost(describe(error), where) from error
        finally:
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        said = b""
        while len(said) < MOST_ANSWER and (more := await reader.read(MOST_ANSWER)):
            said += more
        return said

    def judge(self, said: bytes, where: str) -> None:
        """Take it for an ack, or raise."""
        if said == b"ok":
            return
        code, colon, problem = said.decode(errors="replace").partition(": ")
        if not said.startswith(b"no ") or not colon:
            raise self.lost("closed without an ack", where)
        raise refusal(code.removeprefix("no "), problem, address=where)

    def lost(self, problem: str, where: str) -> Exception:
        return DeliveryUnknown("connection_lost", problem, address=where)

    # ── listening ──

    async def listen(self, served: Served, accept: Accept) -> Listener:
        if self.server is None:
            bound = await listening_socket(
                "127.0.0.1", self.port, host_variable="PLAIN_PORT", port_variable="PLAIN_PORT", backlog=100
            )
            self.listening_at = bound.getsockname()[1]
            try:
                self.server = await asyncio.start_server(self.serve, sock=bound)
            except BaseException:
                bound.close()
                raise
        self.accepts[str(served.endpoint)] = accept
        return PlainListener(self, str(served.endpoint))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self.served.add(task)
        try:
            await self.one(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the frontend is gone, or we go
        finally:
            self.served.discard(task)
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self.read(reader, HEAD)
        size, endpoint = int.from_bytes(head[:8]), head[8:].decode(errors="replace").strip()
        if not self.takes(size):
            writer.write(f"no too_large: {size} bytes are too many".encode())
            return
        frame = await self.read(reader, size)
        self.hand_over(endpoint, frame, writer)

    def hand_over(self, endpoint: str, frame: bytes, writer: asyncio.StreamWriter) -> None:
        accept = self.accepts.get(endpoint)
        if accept is None:
            writer.write(b"no unknown_endpoint: it is not served here")
            return
        try:
            accept(Delivery(frame, {}, "plain"))
        except RequestRefused as error:
            writer.write(f"no {error.code}: {error.problem}".encode())
        except (Exception, asyncio.CancelledError) as error:
            self.host.log.warning("accept failed: %r", error)
            writer.write(b"no refused: the worker failed")
        else:
            self.ack(writer)

    def ack(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ok")

    def takes(self, size: int) -> bool:
        return size <= self.most

    async def read(self, reader: asyncio.StreamReader, size: int) -> bytes:
        return await reader.readexactly(size)

    async def close_server(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.close()
        tasks = list(self.served)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def aclose(self) -> None:
        self.closed = True
        self.accepts.clear()
        await self.close_server()
        for writer in list(self.sending.values()):
            if writer is not None:
                writer.transport.abort()

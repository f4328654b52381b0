"""Transports that do one thing wrong when they listen or close, made from a right one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Any, ClassVar

from plain_tcp import HEAD, PlainListener, PlainTcp
from reqplane.interfaces import Accept, Listener
from reqplane.model import Served
from reqplane.settings import load

Where = tuple[str, str]


class TakesWhatThereIs(PlainTcp):
    """One read is taken for the whole frame."""

    async def read(self, reader: asyncio.StreamReader, size: int) -> bytes:
        return await reader.read(size)


class TakesHalves(PlainTcp):
    """A frame that ends early is taken for a whole one."""

    async def read(self, reader: asyncio.StreamReader, size: int) -> bytes:
        try:
            return await super().read(reader, size)
        except asyncio.IncompleteReadError as error:
            if size == HEAD:
                raise
            return error.partial


class TakesAnySize(PlainTcp):
    def takes(self, size: int) -> bool:
        return True


class DiesOfJunk(PlainTcp):
    """What goes wrong on one connection ends the server."""

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self.read(reader, HEAD)
        size, endpoint = int.from_bytes(head[:8]), head[8:].decode(errors="replace").strip()
        if size > self.most:
            assert self.server is not None
            self.server.close()
            return
        self.hand_over(endpoint, await self.read(reader, size), writer)


class WaitsForConnections(PlainTcp):
    """`Server.wait_closed` as it is since Python 3.12: it waits for every connection."""

    async def close_server(self) -> None:
        if self.server is not None:
            self.server.close()
        while self.served:
            await asyncio.sleep(0.01)
        await super().close_server()


class KeepsItsAddress(PlainTcp):
    async def close_server(self) -> None:
        if self.closed:
            await super().close_server()


class ClosesAll(PlainTcp):
    """The first endpoint that leaves takes the server with it."""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        await super().listen(served, accept)
        return ClosingListener(self, str(served.endpoint))


class ClosingListener(PlainListener):
    async def close(self) -> None:
        if self.owner.accepts.pop(self.endpoint, None) is not None:
            await self.owner.close_server()


class AcksLater(PlainTcp):
    """Acks are written by a task, which drain does not wait for."""

    def ack(self, writer: asyncio.StreamWriter) -> None:
        self.host.spawn(self.acks(writer), "ack")

    async def acks(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(b"ok")
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self.one(reader, writer)


class DrainsToDeath(PlainTcp):
    async def listen(self, served: Served, accept: Accept) -> Listener:
        await super().listen(served, accept)
        return DeadlyListener(self, str(served.endpoint))


class DeadlyListener(PlainListener):
    async def drain(self) -> None:
        await self.close()


class ClosesOnce(PlainTcp):
    """A second close meets what the first one left."""

    async def close_server(self) -> None:
        assert self.server is not None
        await super().close_server()


# ── opening ──


class ReadsTheProcess(PlainTcp):
    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.port = load(type(self).settings or object, os.environ).port  # type: ignore[attr-defined]


class RaisesForeign(PlainTcp):
    def __init__(self, host: Any) -> None:
        try:
            super().__init__(host)
        except Exception as error:
            raise ValueError("a bad port") from error


class PortIsTaken(PlainTcp):
    async def listen(self, served: Served, accept: Accept) -> Listener:
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
            self.listening_at = self.server.sockets[0].getsockname()[1]
        return await super().listen(served, accept)


class ListensAtOnce(PlainTcp):
    @classmethod
    async def open(cls, host: Any) -> ListensAtOnce:
        self = cls(host)
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.listening_at = self.server.sockets[0].getsockname()[1]
        return self


class LeavesItsSocket(PlainTcp):
    """A listen that is cancelled keeps the socket."""

    kept: ClassVar[list[Any]] = []

    async def listen(self, served: Served, accept: Accept) -> Listener:
        if self.server is None and self.port:
            bound = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
            self.kept.append(bound)
            await asyncio.sleep(0)
            bound.close()
        return await super().listen(served, accept)


class AddressOfOne(PlainTcp):
    def address(self, target: Where) -> str | None:
        return f"{target[0]}/{id(target)}"


class Prints(PlainTcp):
    def ack(self, writer: asyncio.StreamWriter) -> None:
        print("a request came")
        super().ack(writer)


class SleepsInAccept(PlainTcp):
    """Blocks while it closes a connection."""

    def ack(self, writer: asyncio.StreamWriter) -> None:
        super().ack(writer)
        time.sleep(0.4)


class KeepsWhoLeft(PlainTcp):
    """Its side of a connection stays open when the frontend has left."""

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super().one(reader, writer)
        writer.write_eof()
        await asyncio.Event().wait()

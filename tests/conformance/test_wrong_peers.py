"""Each of these transports does one thing wrong, and the case about it says so first.

They are made from a right one; what each does is a fault that real transports have had.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from plain_tcp import HEAD, PlainListener, PlainTcp
from reqplane.errors import CannotConnect, DeliveryUnknown, describe
from reqplane.interfaces import Accept, Listener
from reqplane.model import Headers, Served
from reqplane.settings import load
from reqplane.wire.frame import Frame
from reqplane_conformance import RequestTransportConformance
from trying import tried

Where = tuple[str, str]


class TestPlain(RequestTransportConformance):
    transport = PlainTcp


# ── sending ──


class KeepsWhatWasGivenUp(PlainTcp):
    """A connection that nobody reads is closed, not aborted: its buffer stays."""

    def let_go(self, exchange: asyncio.Task[None]) -> None:
        writer = self.sending.pop(exchange)
        if writer is not None:
            writer.close()

    async def aclose(self) -> None:
        await super().aclose()


class SendsAgain(PlainTcp):
    """A retry by itself, as HTTP libraries do for requests that they take for harmless."""

    async def exchange(self, where: str, endpoint: str, frame: Frame) -> None:
        try:
            await super().exchange(where, endpoint, frame)
        except DeliveryUnknown:
            await super().exchange(where, endpoint, frame)


class LossIsNotDelivered(PlainTcp):
    def lost(self, problem: str, where: str) -> Exception:
        return CannotConnect(problem, address=where)


class EndIsAck(PlainTcp):
    """A connection that ends in order counts as an ack."""

    def judge(self, said: bytes, where: str) -> None:
        if said:
            super().judge(said, where)


class AnythingIsAck(PlainTcp):
    def judge(self, said: bytes, where: str) -> None:
        if not said or said.startswith(b"no "):
            super().judge(said, where)


class ReadsToTheEnd(PlainTcp):
    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read()


class ReadsOnce(PlainTcp):
    """Takes what a read gives for the whole answer."""

    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read(1000)

    def judge(self, said: bytes, where: str) -> None:
        super().judge(said, where)


class DecodesAnything(PlainTcp):
    """What a peer says is text, it believes."""

    def judge(self, said: bytes, where: str) -> None:
        super().judge(said.decode("ascii").encode(), where)


class WaitsForEver(PlainTcp):
    """Seconds that are left, negative ones too, are given to a library that takes these for no limit."""

    async def send(self, target: Where, frame: Frame, headers: Headers, deadline: float) -> None:
        now = asyncio.get_running_loop().time()
        await super().send(target, frame, headers, deadline if deadline > now else now + self.limit)


class TimesOutForeign(PlainTcp):
    async def send(self, target: Where, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except DeliveryUnknown as error:
            if error.reason == "timed_out":
                raise TimeoutError from error
            raise


class TimeOutIsNotDelivered(PlainTcp):
    async def send(self, target: Where, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except DeliveryUnknown as error:
            raise CannotConnect(error.problem, address=target[0]) from error


class HasNoDeadline(PlainTcp):
    async def send(self, target: Where, frame: Frame, headers: Headers, deadline: float) -> None:
        await super().send(target, frame, headers, float("inf"))


class SwallowsCancelling(PlainTcp):
    async def send(self, target: Where, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except asyncio.CancelledError as error:
            raise DeliveryUnknown("connection_lost", "given up", address=target[0]) from error


class SaysNotWhere(PlainTcp):
    def lost(self, problem: str, where: str) -> Exception:
        return DeliveryUnknown("connection_lost", problem)

    async def send(self, target: Where, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except CannotConnect as error:
            error.address = None
            raise


class GivesUpForGood(PlainTcp):
    """An address that failed once is not tried again."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.bad: set[str] = set()

    async def exchange(self, where: str, endpoint: str, frame: Frame) -> None:
        if where in self.bad:
            raise CannotConnect("it failed before", address=where)
        try:
            await super().exchange(where, endpoint, frame)
        except (CannotConnect, DeliveryUnknown):
            self.bad.add(where)
            raise


class Blocks(PlainTcp):
    """A synchronous client."""

    async def exchange(self, where: str, endpoint: str, frame: Frame) -> None:
        host, _, number = where.rpartition(":")
        try:
            with socket.create_connection((host, int(number)), 0.7) as connection:
                connection.sendall(len(frame).to_bytes(8) + endpoint.ljust(64).encode() + frame.join())
                await asyncio.sleep(0)
                connection.settimeout(0.5)
                with contextlib.suppress(TimeoutError):
                    connection.recv(1)
        except OSError as error:
            raise CannotConnect(describe(error), address=where) from error
        await super().exchange(where, endpoint, frame)


class LeavesSendersWaiting(PlainTcp):
    async def aclose(self) -> None:
        self.sending.clear()
        await super().aclose()

    def let_go(self, exchange: asyncio.Task[None]) -> None:
        self.sending.setdefault(exchange, None)
        super().let_go(exchange)


class CancelsSenders(PlainTcp):
    async def aclose(self) -> None:
        for exchange in list(self.sending):
            exchange.cancel()
        await super().aclose()


class SendsAfterClose(PlainTcp):
    async def aclose(self) -> None:
        await super().aclose()
        self.closed = False


# ── listening ──


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


WRONG: Mapping[type[PlainTcp], str] = {
    KeepsWhatWasGivenUp: "failure.memory_is_bounded",
    SendsAgain: "failure.ack_lost",
    LossIsNotDelivered: "failure.worker_dies_in_accept",
    EndIsAck: "failure.worker_dies_in_accept",
    AnythingIsAck: "failure.only_our_errors",
    DecodesAnything: "failure.only_our_errors",
    ReadsToTheEnd: "failure.endless_answer",
    ReadsOnce: "failure.bytes_in_pieces",
    WaitsForEver: "failure.deadline_has_passed",
    TimesOutForeign: "failure.only_our_errors",
    TimeOutIsNotDelivered: "failure.frozen_worker",
    HasNoDeadline: "failure.frozen_worker",
    SwallowsCancelling: "life.cancelled_send",
    SaysNotWhere: "failure.errors_say_where",
    GivesUpForGood: "failure.comes_back",
    Blocks: "life.never_blocks_the_loop",
    CancelsSenders: "life.closes_while_sending",
    LeavesSendersWaiting: "life.closes_while_sending",
    SendsAfterClose: "life.send_after_close",
    TakesWhatThereIs: "failure.bytes_in_pieces",
    TakesHalves: "failure.half_a_frame",
    TakesAnySize: "failure.announces_too_much",
    DiesOfJunk: "failure.raw_junk",
    WaitsForConnections: "failure.silent_connections",
    KeepsItsAddress: "life.address_is_free_after_close",
    ClosesAll: "life.one_of_two_closes",
    AcksLater: "life.drain_acks_all",
    DrainsToDeath: "life.drain_goes_on",
    ClosesOnce: "life.closes_twice",
    ReadsTheProcess: "life.settings_come_from_the_host",
    RaisesForeign: "life.wrong_setting",
    PortIsTaken: "life.port_in_use",
    ListensAtOnce: "life.open_listens_on_nothing",
    LeavesItsSocket: "life.cancelled_listen",
    AddressOfOne: "life.shared_address",
    Prints: "life.prints_nothing",
    SleepsInAccept: "life.never_blocks_the_loop",
}
"""The case that is about what each does."""


@pytest.mark.parametrize("subject", WRONG, ids=lambda subject: subject.__name__)
def test_the_case_about_it_fails(subject: type[PlainTcp]):
    found = tried(suite_of(subject), only={WRONG[subject]})
    assert found.first == WRONG[subject], found.told() or "nothing failed"
    assert "it did:" in found.message, found.message


def suite_of(subject: type[Any]) -> type[RequestTransportConformance]:
    return type("TestWrong", (RequestTransportConformance,), {"transport": subject})

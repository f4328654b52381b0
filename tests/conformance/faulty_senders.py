"""Transports that do one thing wrong when they send, made from a right one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from plain_tcp import PlainTcp
from reqplane.errors import CannotConnect, DeliveryUnknown, describe
from reqplane.model import Headers
from reqplane.wire.frame import Frame

Where = tuple[str, str]


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

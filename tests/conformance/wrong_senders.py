"""Wrong request transports whose frontends are at fault, made from the one over TCP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import ClassVar

from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError, describe
from reqplane.interfaces import Host
from reqplane.model import NEVER, Headers
from reqplane.wire.frame import Frame
from socket_plane import REQUEST, Link, SocketTransport, Target

# ── sent twice, or not whole ────────────────────────────────────────────────────────────────────────


class SendsAgain(SocketTransport):
    """A connection that was lost is taken for a stale one, and the request is sent again on a new one."""

    async def bounded(self, target: Target, frame: Frame, headers: Headers, until: float) -> dict[str, str]:
        try:
            return await super().bounded(target, frame, headers, until)
        except DeliveryUnknown as error:
            if error.reason == "timed_out":
                raise
            with suppress(CannotConnect):
                return await super().bounded(target, frame, headers, until)
            raise


class IsImpatient(SocketTransport):
    """An ack that does not come within a second is asked for again, with the whole request."""

    async def bounded(self, target: Target, frame: Frame, headers: Headers, until: float) -> dict[str, str]:
        try:
            soon = min(until, asyncio.get_running_loop().time() + 1.0)
            return await super().bounded(target, frame, headers, soon)
        except DeliveryUnknown as error:
            if error.reason != "timed_out":
                raise
            return await super().bounded(target, frame, headers, until)


class _WritesFirstBuffer(Link):
    async def write(self, before: bytes, frame: Frame) -> None:
        only = Frame(b"")
        only.head = frame.buffers[0]
        number, head, _ = REQUEST.unpack_from(before)
        await super().write(REQUEST.pack(number, head, len(only)) + before[REQUEST.size :], only)


class SendsTheFirstBuffer(SocketTransport):
    """Writes `frame.buffers[0]`, which is the head alone."""

    link: ClassVar[type[Link]] = _WritesFirstBuffer


class _WritesWhatFits(Link):
    async def write(self, before: bytes, frame: Frame) -> None:
        async with self.turn:
            data = b"".join([before, *frame.buffers])
            os.write(self.writer.get_extra_info("socket").fileno(), data)


class WritesWhatFits(SocketTransport):
    """Ignores what `socket.send` returns: how many bytes it took."""

    link: ClassVar[type[Link]] = _WritesWhatFits


class _CountsInThreeBytes(Link):
    async def write(self, before: bytes, frame: Frame) -> None:
        number, head, size = REQUEST.unpack_from(before)
        await super().write(REQUEST.pack(number, head, size % 2**24) + before[REQUEST.size :], frame)


class CountsInThreeBytes(SocketTransport):
    """The length of a frame has three bytes, and `max_frame_bytes` does not say so."""

    link: ClassVar[type[Link]] = _CountsInThreeBytes


class _WritesInTurns(Link):
    async def write(self, before: bytes, frame: Frame) -> None:
        for piece in (before, *frame.buffers):
            self.writer.write(piece)
            await self.writer.drain()
            if self.lost:
                raise ConnectionResetError("the connection was lost")


class MixesFrames(SocketTransport):
    """Waits between two writes to a connection that others write to as well."""

    link: ClassVar[type[Link]] = _WritesInTurns


class _WritesAtOnce(Link):
    async def write(self, before: bytes, frame: Frame) -> None:
        self.writer.writelines([before, *frame.buffers])


class IgnoresBackpressure(SocketTransport):
    """Writes without asking whether the other side reads: all of it waits in memory."""

    link: ClassVar[type[Link]] = _WritesAtOnce


# ── acks ────────────────────────────────────────────────────────────────────────────────────────────


class _AsksNothing(Link):
    async def ask(self, target: Target, frame: Frame, headers: Headers) -> dict[str, str]:
        head = self.head(target, headers)
        await self.write(REQUEST.pack(0, len(head), len(frame)) + head, frame)
        return {}


class FiresAndForgets(SocketTransport):
    """Done when the bytes are written: to a buffer, that is."""

    link: ClassVar[type[Link]] = _AsksNothing


class _AcksInOrder(Link):
    """The oldest that still waits gets the next answer, also if the one that it is for was given up."""

    def answered(self, number: int, said: dict[str, str]) -> None:
        super().answered(next(self.unanswered(), number), said)

    def unanswered(self) -> Iterator[int]:
        return (number for number, answer in self.waiting.items() if not answer.done())


class TakesStaleAcks(SocketTransport):
    """The ack of a send that was cancelled is read by the next one on the same connection."""

    link: ClassVar[type[Link]] = _AcksInOrder


class _AcksInReverse(_AcksInOrder):
    def unanswered(self) -> Iterator[int]:
        return reversed(list(super().unanswered()))


class MixesUpAcks(SocketTransport):
    """The newest that waits gets the next answer: acks and refusals go to the wrong senders."""

    link: ClassVar[type[Link]] = _AcksInReverse


# ── connections and tasks ───────────────────────────────────────────────────────────────────────────


class HangsUpForAll(SocketTransport):
    """A send that is cancelled closes its connection, which others use as well."""

    async def bounded(self, target: Target, frame: Frame, headers: Headers, until: float) -> dict[str, str]:
        try:
            return await super().bounded(target, frame, headers, until)
        except asyncio.CancelledError:
            opened = self.links.get(target.address)
            if opened is not None and opened.done():
                opened.result().lose()
            raise


class ConnectsForAll(SocketTransport):
    """Who comes first connects for all, and who is cancelled then cancels that."""

    async def connected(self, address: str) -> Link:
        if address not in self.links:
            self.links[address] = self.host.spawn(self.connect(address), f"connect to {address}")
        try:
            return await self.links[address]
        except OSError as error:
            raise CannotConnect(describe(error)) from error


class SharesItsPool(SocketTransport):
    """The connections belong to the class, as those of a library's default client do."""

    pool: ClassVar[dict[str, asyncio.Task[Link]]] = {}

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.links = self.pool


class HasAHundredPlaces(SocketTransport):
    """A limit for all addresses together."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.places = asyncio.Semaphore(100)

    async def bounded(self, target: Target, frame: Frame, headers: Headers, until: float) -> dict[str, str]:
        try:
            async with asyncio.timeout_at(until):
                await self.places.acquire()
        except TimeoutError as error:
            raise CannotConnect("all places are taken") from error
        try:
            return await super().bounded(target, frame, headers, until)
        finally:
            self.places.release()


class KeepsBrokenConnections(SocketTransport):
    """A connection that was lost stays in the pool."""

    def forget(self, link: Link) -> None:
        pass


class OpensOneForEach(SocketTransport):
    """A connection for each request, which nobody closes before `aclose`."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.opened: list[Link] = []

    async def connected(self, address: str) -> Link:
        self.links.pop(address, None)
        self.opened.append(link := await super().connected(address))
        return link

    async def aclose(self) -> None:
        await super().aclose()
        for link in self.opened:
            link.lose()


class ItsOwnTimeOutIsCannotConnect(SocketTransport):
    """Right at a deadline; without one it says that nothing was sent, and the frame is taken later."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except DeliveryUnknown as error:
            if deadline == NEVER and error.reason == "timed_out":
                raise CannotConnect("timed out") from error
            raise


class SendsInTheBackground(SocketTransport):
    """Each send is a task that goes on when its sender has been cancelled, and nobody looks after it."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        await asyncio.shield(asyncio.create_task(super().send(target, frame, headers, deadline)))


class LetsForeignErrorsOut(SocketTransport):
    """What asyncio raises comes out of `send` as it is."""

    async def bounded(self, target: Target, frame: Frame, headers: Headers, until: float) -> dict[str, str]:
        try:
            return await super().bounded(target, frame, headers, until)
        except RequestError as error:
            raise error.__cause__ or error from None

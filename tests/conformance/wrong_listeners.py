"""Wrong request transports whose workers are at fault, made from the one over TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from reqplane.errors import RequestRefused
from reqplane.interfaces import Accept, Host, Listener
from reqplane.model import Served
from reqplane.sockets import host_and_port
from socket_plane import Incoming, SocketListener, SocketTransport

# ── acks ────────────────────────────────────────────────────────────────────────────────────────────


class _AcksFirst(Incoming):
    def hand_over(self, number: int, endpoint: str, frame: bytes, headers: dict[str, str]) -> None:
        self.answer(number)
        try:
            self.accept(endpoint, frame, headers)
        except RequestRefused:
            self.host.log.warning("refused, too late")


class AcksBeforeAccept(SocketTransport):
    """Says that a frame has arrived when its bytes have, and asks the worker then."""

    connection: ClassVar[type[Incoming]] = _AcksFirst


class _AcksLast(Incoming):
    def hand_over(self, number: int, endpoint: str, frame: bytes, headers: dict[str, str]) -> None:
        before = asyncio.all_tasks()
        self.accept(endpoint, frame, headers)
        self.host.spawn(self._finish(number, asyncio.all_tasks() - before), "ack")

    async def _finish(self, number: int, handlers: set[asyncio.Task[Any]]) -> None:
        if handlers:
            await asyncio.wait(handlers)
        self.answer(number)


class AcksAfterTheHandler(SocketTransport):
    """An ack means done: it comes when what accept has started is over."""

    connection: ClassVar[type[Incoming]] = _AcksLast


class _DoesNotRefuse(Incoming):
    def refuse(self, number: int, error: RequestRefused) -> None:
        self.host.log.warning("refused: %s", error)


class RefusesBySilence(SocketTransport):
    """A refusal is logged, and its sender waits until its time is over."""

    connection: ClassVar[type[Incoming]] = _DoesNotRefuse


class _HangsUp(Incoming):
    def refuse(self, number: int, error: RequestRefused) -> None:
        raise EOFError


class RefusesByHangingUp(SocketTransport):
    """A refusal ends the connection."""

    connection: ClassVar[type[Incoming]] = _HangsUp


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────


class _ReadsOnce(Incoming):
    async def read(self, size: int) -> bytes:
        return await self.reader.read(size) if size else b""


class SplitsFrames(SocketTransport):
    """One read is one frame, so that a large frame becomes several."""

    connection: ClassVar[type[Incoming]] = _ReadsOnce


class _ReadsWhatIsThere(Incoming):
    async def read(self, size: int) -> bytes:
        frame = await super().read(size)
        buffered: bytearray = self.reader._buffer  # type: ignore[attr-defined]
        frame += bytes(buffered)
        buffered.clear()
        return frame


class MergesFrames(SocketTransport):
    """Whatever has come together is one frame, so that two that were written at once become one."""

    connection: ClassVar[type[Incoming]] = _ReadsWhatIsThere


class _UsesItsBufferAgain(Incoming):
    async def read(self, size: int) -> Any:
        data = await super().read(size)
        self.buffer: bytearray = getattr(self, "buffer", bytearray(1 << 20))
        if size > len(self.buffer):
            return data
        self.buffer[:size] = data
        return memoryview(self.buffer)[:size]


class UsesItsBufferAgain(SocketTransport):
    """Hands out a view of its receive buffer, and fills it again with the next frame."""

    connection: ClassVar[type[Incoming]] = _UsesItsBufferAgain


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────


class _TakesAnySize(Incoming):
    async def read(self, size: int) -> bytes:
        return await self.reader.readexactly(size)


class TrustsItsSenders(SocketTransport):
    """The size is checked where a frame is sent, and not where it arrives."""

    connection: ClassVar[type[Incoming]] = _TakesAnySize


# ── one connection's fault is everybody's ───────────────────────────────────────────────────────────


class _DiesOfAccept(Incoming):
    def accept(self, endpoint: str, frame: bytes | memoryview, headers: dict[str, str]) -> None:
        try:
            super().accept(endpoint, frame, headers)
        except RequestRefused as error:
            if error.__cause__ is None or self.transport.server is None:
                raise
            self.transport.server.close()
            raise EOFError from error


class DiesOfAccept(SocketTransport):
    """An exception that accept raises ends the task that accepts connections."""

    connection: ClassVar[type[Incoming]] = _DiesOfAccept


class _WaitsForItsTurn(Incoming):
    async def run(self) -> None:
        assert isinstance(self.transport, ServesOneAtATime)
        async with self.transport.serving:
            await super().run()


class ServesOneAtATime(SocketTransport):
    """Serves a connection to its end before it looks at the next one."""

    connection: ClassVar[type[Incoming]] = _WaitsForItsTurn

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.serving = asyncio.Lock()


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────


class TellsWhereItIsBound(SocketTransport):
    """Its record has the address that was bound, which may be a wildcard."""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        listener = await super().listen(served, accept)
        assert isinstance(listener, SocketListener)
        assert self.server is not None
        listener.address = host_and_port(*self.server.sockets[0].getsockname()[:2])
        return listener


class GoesOnAfterClose(SocketTransport):
    """Closing stops listening; on the connections that are there everything goes on."""

    async def end(self, tasks: Mapping[Incoming, asyncio.Task[Any]]) -> None:
        if self.closed:
            await super().end(tasks)

    async def leave(self, listener: SocketListener) -> None:
        last = self.endpoints if len(self.endpoints) == 1 else {}
        kept = dict(last)
        await super().leave(listener)
        last.update(kept)

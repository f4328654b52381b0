"""The frontend's end of a shared connection: the streams of one worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.errors import WireError
from reqplane.interfaces import Host
from reqplane.model import Annotated, Body, Broken, Control, End, Prologue
from reqplane.wire import shared

from reqplane_tcp_stream.pending import PendingTcpStream
from reqplane_tcp_stream.shared import SharedConnection
from reqplane_tcp_stream.subjects import Subjects

_STARTED = Prologue()
_WHOLE = End()


class FrontendConnection(SharedConnection):
    """One worker process's shared connection, whose opening was right."""

    has_credit = True

    def __init__(
        self,
        host: Host,
        subjects: Subjects,
        opening: shared.Opening,
        gone: Callable[[FrontendConnection], None],
    ) -> None:
        super().__init__(host)
        self._subjects = subjects
        self._gone = gone
        self._streams: dict[int, PendingTcpStream] = {}
        self._highest = 0
        self.worker = opening.worker
        ours = host.limits.max_frame_bytes
        self.largest = ours if opening.max_frame is None else min(ours, opening.max_frame)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        self._transport.write(shared.welcome(int(self._host.limits.heartbeat * 1000)))
        self.start_heartbeat(self._host.limits.heartbeat)

    # ── what the worker says ──

    def frames_received(self, frames: list[tuple[int, int, bytes | bytearray]]) -> None:
        streams = self._streams
        for kind, number, body in frames:
            if kind == shared.ITEM:
                stream = streams.get(number)
                if stream is not None:
                    stream.item(body)
                elif number > self._highest:
                    self.refuse(number)
            elif number:
                self._stream_frame(kind, number, body)
            elif kind == shared.PING:
                self.answer_ping()
            elif kind == shared.REPORT:
                self._report(body)

    def _stream_frame(self, kind: int, number: int, body: bytes | bytearray) -> None:
        if kind == shared.OPEN:
            self._open_stream(number, bytes(body))
            return
        stream = self._streams.get(number)
        if stream is None:
            if number > self._highest and kind != shared.KILL:  # or two such sides would never end
                self.refuse(number)
        elif kind == shared.PROLOGUE:
            self._prologue(stream, number, body)
        elif kind == shared.ANNOTATED:
            self._annotated(stream, body)
        elif kind == shared.END:
            del self._streams[number]
            stream.finish(End(body) if body else _WHOLE)
            if body:
                self._report(body)
        elif kind == shared.KILL:
            del self._streams[number]
            stream.finish(Broken("the worker gave the stream up"))
        elif kind == shared.CREDIT:
            stream.credit(shared.read_credit(body))

    def _open_stream(self, number: int, subject: bytes) -> None:
        if number <= self._highest:
            raise WireError(f"stream {number} was opened after {self._highest}")
        self._highest = number
        stream = self._subjects.claim(subject)
        if stream is None:
            self.refuse(number)
        else:
            self._streams[number] = stream
            stream.open(self, number)

    def _prologue(self, stream: PendingTcpStream, number: int, body: bytes | bytearray) -> None:
        if body:
            del self._streams[number]
            stream.finish(Prologue(body.decode(errors="replace")))
        elif not stream.started:
            stream.started = True
            stream.part(_STARTED)

    def _annotated(self, stream: PendingTcpStream, body: bytes | bytearray) -> None:
        if stream.full:
            stream.overrun()
        else:
            stream.part(Annotated(body), len(body) or 1)

    def _report(self, body: bytes | bytearray) -> None:
        """A report that can't be read costs nobody an answer."""
        try:
            load = shared.read_load(body)
        except WireError as error:
            self._host.log.warning("a worker's load report is left out: %s", error)
        else:
            self._host.reported(self.worker, load)

    # ── what its streams say ──

    @property
    def sink(self) -> FrontendConnection:
        return self

    def request_item(self, number: int, body: Body) -> None:
        self.send(shared.ITEM, number, body, True)

    def request_end(self, number: int) -> None:
        self.send(shared.END, number)

    def request_cut(self, number: int, control: Control) -> None:
        """The worker knows by what ended the stream, or by the STOP that it gets."""

    def credit(self, number: int, amount: int) -> None:
        self.send(shared.CREDIT, number, shared.credit_body(amount))

    def stop(self, number: int) -> None:
        self.send(shared.STOP, number, urgent=True)

    def kill(self, number: int) -> None:
        """What still comes of the stream is ignored."""
        self.send(shared.KILL, number, urgent=True)
        self._streams.pop(number, None)

    def resume_writing(self) -> None:
        super().resume_writing()
        for stream in list(self._streams.values()):
            stream.wake()

    def closed(self, reason: str) -> None:
        super().closed(reason)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.finish(Broken(reason))
        self._gone(self)

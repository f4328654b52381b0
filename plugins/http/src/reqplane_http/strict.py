"""hypercorn's two protocols, with what they let pass refused.

HTTP/1.1.  h11 is lenient where two readers of one connection (a proxy and a worker) may see different
requests in the same bytes: it takes a bare LF for the end of a line, folds lines, drops the second of two
equal Content-Lengths, and lets Transfer-Encoding win over Content-Length.  Each of them is 400 here, and
the connection ends.

HTTP/2.  h2 bounds how many streams are open and how large headers are when they are decoded.  What it
collects before it looks (a frame of 16 MiB, a header block of 64 frames) is bounded here.  Frames that lead
nowhere it answers for ever: here they use up a credit that only whole requests restore.  Priorities, which
RFC 9113 has given up, are ignored.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import h11
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.utilities import SizeLimitDict
from h11._receivebuffer import ReceiveBuffer
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol
from hyperframe.frame import GoAwayFrame

from reqplane_http.head import MOST_HEAD_BYTES
from reqplane_http.responses import shown

_FRAMING = (b"content-length", b"transfer-encoding")
_VERSIONS = (b"1.1", b"1.0")
_PREFACE = (b"PRI", b"2.0")  # how HTTP/2 begins
_QUOTED = 200  # characters of what was wrong that an answer repeats

CREDIT = 10_000
"""Frames that lead nowhere that a connection may send; each whole request restores some."""
_REQUEST_BRINGS = 8
_RESET_COSTS = 16
_SETTING_COSTS = 10

_MOST_BLOCK_BYTES = 64 * 1024

_CLOSED_STREAMS = 1000  # h2 remembers 65 536: up to 19 MiB a connection
_TREE_STREAMS = 100_000
"""hypercorn's priority tree has room for 1000 streams, and the connection dies when it is full.  Streams that
were reset stay in it until its sending task runs, so when a worker was frozen for a moment and its
frontends have given up all their requests, those and the new ones are in it together."""


# ── HTTP/1.1 ────────────────────────────────────────────────────────────────────────────────────────


class _Lines(ReceiveBuffer):
    """Keeps the lines of the last head; refuses those that do not end in CR LF."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytearray] = []

    def maybe_extract_lines(self) -> list[bytearray] | None:
        before = len(self)
        lines = super().maybe_extract_lines()
        if lines is not None:
            size = before - len(self)
            if size > MOST_HEAD_BYTES:
                raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
            if size != sum(map(len, lines)) + 2 * len(lines) + 2:
                raise h11.RemoteProtocolError("a line of the head does not end in CR LF")
            self.lines = lines
        return lines


class _StrictConnection(h11.Connection):
    """h11's, for requests that can be read in one way only; `problem` tells what was wrong."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MOST_HEAD_BYTES)
        self._receive_buffer = _Lines()
        self.problem = ""

    def next_event(self) -> Any:
        try:
            event: Any = super().next_event()
            if isinstance(event, h11.Request):
                _check(event, list(map(bytes, self._receive_buffer.lines)))
        except h11.RemoteProtocolError as error:
            self._process_error(self.their_role)
            self.problem = str(error)
            raise
        return event


def _check(request: h11.Request, lines: list[bytes]) -> None:
    """Raise if another reader could make something else of this head."""
    framing = [name for line in lines if (name := line.partition(b":")[0].lower()) in _FRAMING]
    if len(framing) > 1:
        raise h11.RemoteProtocolError("one Content-Length or Transfer-Encoding is allowed, there are several")
    if framing == [b"transfer-encoding"] and request.http_version < b"1.1":
        raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")
    if any(line[:1] in (b" ", b"\t") for line in lines):
        raise h11.RemoteProtocolError("a header is folded over several lines")
    if request.method != request.method.upper():
        raise h11.RemoteProtocolError("a method is written in capitals")
    if request.http_version not in _VERSIONS and (request.method, request.http_version) != _PREFACE:
        raise h11.RemoteProtocolError("HTTP/1.1 and HTTP/2 are spoken here", error_status_hint=505)


class Http1(H11Protocol):
    """One HTTP/1.1 connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection: Any = _StrictConnection()

    async def _send_error_response(self, status_code: int) -> None:
        """What was wrong; hypercorn has no words."""
        words = f"this is not HTTP as it should be: {self.connection.problem:.{_QUOTED}}"
        body = shown(words).encode() + b"\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


# ── HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────────


class _Gone:
    """A stream that has ended, for what was already on its way to it."""

    async def handle(self, event: Any) -> None: ...


class _Streams(dict[int, Any]):
    def __missing__(self, stream: int) -> _Gone:
        return _Gone()


class Http2(H2Protocol):
    """One HTTP/2 connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.streams = _Streams()
        h2, tree = cast("Any", self.connection), cast("Any", self.priority)
        h2._frame_dispatch_table[GoAwayFrame] = _take_goaway
        h2._closed_streams = SizeLimitDict(size_limit=_CLOSED_STREAMS)
        tree._maximum_streams = _TREE_STREAMS
        self._credit = CREDIT

    @property
    def owes(self) -> bool:
        """Whether the peer's windows hold an answer back."""
        return any(answer.buffer for answer in self.stream_buffers.values())

    async def go_away(self, why: ErrorCodes = ErrorCodes.NO_ERROR, last_stream: int | None = 0) -> None:
        """Tell the peer that the connection ends; streams above the last one were not looked at."""
        with suppress(ProtocolError):
            self.connection.close_connection(why, last_stream_id=last_stream)
            await self._flush()

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, RawData):
            frames: Any = self.connection.incoming_buffer
            if frames._data and _begins_too_large(frames._data, frames.max_frame_size):
                await self._refuse(ErrorCodes.FRAME_SIZE_ERROR)
            elif frames._headers_buffer and _too_large(frames._headers_buffer):
                await self._refuse(ErrorCodes.ENHANCE_YOUR_CALM)
        elif isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()  # who waits for the peer to take an answer would wait for ever

    async def _refuse(self, why: ErrorCodes) -> None:
        await self.go_away(why, None)
        await self.send(Closed())

    async def _handle_events(self, events: list[Any]) -> None:
        self._credit = min(CREDIT, self._credit - sum(map(self._cost, events)))
        if self._credit < 0:
            await self._refuse(ErrorCodes.ENHANCE_YOUR_CALM)
        else:
            others = [event for event in events if not isinstance(event, ConnectionTerminated)]
            await super()._handle_events(others)
            if not self.streams:  # a stream that was reset tells nobody that it has gone
                await self.send(Updated(idle=True) if len(others) == len(events) else Closed())

    @staticmethod
    def _cost(event: object) -> int:
        """What a frame takes from the connection's credit: nothing, if it is part of a request."""
        match event:
            case RequestReceived():
                return 0
            case DataReceived():
                return 0 if event.data else 1
            case StreamEnded():
                return -_REQUEST_BRINGS
            case StreamReset():
                return _RESET_COSTS
            case RemoteSettingsChanged():
                return 1 + _SETTING_COSTS * len(event.changed_settings)
            case _:
                return 1

    async def _create_stream(self, request: Any) -> None:
        """One with a method or path that hypercorn can't read would end the whole connection."""
        if _readable(request.headers):
            await super()._create_stream(request)
        else:
            self.connection.reset_stream(request.stream_id, ErrorCodes.PROTOCOL_ERROR)

    async def _priority_updated(self, event: Any) -> None: ...


def _take_goaway(_: GoAwayFrame) -> tuple[list[Any], list[Any]]:
    """A peer that leaves still waits for the answers to what it has asked; h2 would give it none."""
    return [], [ConnectionTerminated()]


def _begins_too_large(data: bytearray, most: int) -> bool:
    """h2 looks at a frame's size when all of it has come, and that may be 16 MiB."""
    return len(data) > 2 and int.from_bytes(data[:3], "big") > most


def _too_large(unfinished: list[Any]) -> bool:
    """h2 keeps 64 frames of a header block, 1 MiB, before it decodes them."""
    return sum(len(frame.data) for frame in unfinished) > _MOST_BLOCK_BYTES


def _readable(headers: Any) -> bool:
    """Whether it is a plain request in ASCII; CONNECT would be a WebSocket's."""
    fields = {name: value for name, value in headers if name in (b":method", b":path")}
    return (
        len(fields) == 2
        and all(value.isascii() for value in fields.values())
        and fields[b":method"].isupper()
        and fields[b":method"] != b"CONNECT"
    )


# ── which of the two ────────────────────────────────────────────────────────────────────────────────


class Protocols(ProtocolWrapper):
    """Begins with HTTP/1.1, and goes on with HTTP/2 if the first bytes ask for it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._arguments = arguments[:-1]
        self.protocol = (Http2 if isinstance(self.protocol, H2Protocol) else Http1)(*self._arguments)

    async def handle(self, event: Any) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as error:
            await self._go_on_with_http2(error.data)
        except H2CProtocolRequiredError as error:
            await self._go_on_with_http2(error.data, error.headers, error.settings)

    async def _go_on_with_http2(self, data: bytes, *upgrade: Any) -> None:
        self.protocol = Http2(*self._arguments)
        await self.protocol.initiate(*upgrade)
        if data:
            await self.protocol.handle(RawData(data))

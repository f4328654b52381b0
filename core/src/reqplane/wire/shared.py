"""The shared call-home connection, version 1: one TCP connection for all streams of two processes.

The worker connects and opens with a header-only frame
`{"shared":1,"process":"…","worker":"…","max_frame":33554432}`, where `process` is what the frontend drew at
its start and put into each request's head: a frontend that was restarted behind the same address is another
process, and never meets frames meant for its predecessor.  The frontend answers
`{"shared":1,"heartbeat_ms":1000}` or closes.

From then on both sides send two-part frames with a header of 5 bytes: kind u8, stream u32 big-endian.
The worker numbers streams from 1 up and never uses a number again; 0 is the connection itself.

    1 OPEN       16 bytes of the subject        6 STOP     empty
    2 PROLOGUE   error text, or empty           7 KILL     empty
    3 ITEM       the value, no envelope         8 CREDIT   u32 bytes
    4 ANNOTATED  {"event","comment",…}          9 PING    10 PONG
    5 END        empty, or a load report       11 REPORT   load, JSON      12 BYE   no new streams

A request that is itself a stream comes by the same stream: the frontend sends ITEM and, when it is whole,
END; the worker sends CREDIT.

Credit counts body bytes of ITEM and ANNOTATED (an empty one counts as 1), for each stream and direction,
starting at the offered window.  A sender whose credit is above zero may send one whole item of any legal
size; the reader gives credit back when its application has consumed half the window.  So a stream holds at
most a window and one item, and no side ever has to stop reading the socket; a sender that does not keep to
this is killed.  The offer's `max_frame` is the largest item that the frontend takes, the opening's the
largest that the worker takes; a larger one would cost the connection.

Unknown kinds are ignored.  A stream number up to the highest opened is ignored when it is not known any
more; one above it is answered with KILL.
"""

from __future__ import annotations

import functools
import json
import struct
from dataclasses import dataclass
from typing import Any, Final, cast

from reqplane.errors import WireError
from reqplane.model import Body, Load
from reqplane.wire.frame import PREFIX_BYTES, Frame, FrameDecoder

OPEN: Final = 1
PROLOGUE: Final = 2
ITEM: Final = 3
ANNOTATED: Final = 4
END: Final = 5
STOP: Final = 6
KILL: Final = 7
CREDIT: Final = 8
PING: Final = 9
PONG: Final = 10
REPORT: Final = 11
BYE: Final = 12

_HEADER = struct.Struct(">BI")
HEADER_BYTES = _HEADER.size
_HEAD = struct.Struct(">QQQBI")
_CREDIT = struct.Struct(">I")
SUBJECT_BYTES = 16
OPENING_LIMIT = 4096
"""Bytes of the opening frames, both ways."""


def head(kind: int, stream: int, body_length: int) -> bytes:
    """What goes before a body of that length: the frame's prefix and header, 29 bytes."""
    return _HEAD.pack(HEADER_BYTES, body_length, 0, kind, stream)


def credit_body(amount: int) -> bytes:
    return _CREDIT.pack(amount)


def read_credit(body: Body) -> int:
    """The bytes that a CREDIT frame gives."""
    if len(body) != _CREDIT.size:
        raise WireError(f"a CREDIT has {len(body)} bytes, wanted {_CREDIT.size}")
    return _CREDIT.unpack(body)[0]


class SharedDecoder:
    """Bytes after the opening, cut into (kind, stream, body).

    `limit` bounds a body in bytes.  Frames before broken bytes are still given out: then `failed` says
    what is wrong with the rest, and the connection is lost.
    """

    __slots__ = ("_frames", "failed")

    def __init__(self, limit: int) -> None:
        self._frames = FrameDecoder(limit + PREFIX_BYTES + HEADER_BYTES)
        self.failed: WireError | None = None

    def feed(self, data: Body) -> list[tuple[int, int, bytes | bytearray]]:
        """The frames that these bytes complete; WireError if there are none because they are broken."""
        if self.failed is not None:
            raise self.failed
        unpack = _HEADER.unpack
        events: list[tuple[int, int, bytes | bytearray]] = []
        for header, body in self._frames.feed(data):
            if len(header) != HEADER_BYTES:
                return self._broken(header, events)
            kind, stream = unpack(header)
            events.append((kind, stream, body))
        self.failed = self._frames.failed
        return events

    def _broken(
        self, header: bytes, events: list[tuple[int, int, bytes | bytearray]]
    ) -> list[tuple[int, int, bytes | bytearray]]:
        self.failed = WireError(
            f"a shared connection's frame has a header of {len(header)} bytes, wanted {HEADER_BYTES}"
        )
        if not events:
            raise self.failed
        return events

    @property
    def pending(self) -> bool:
        """True in the middle of a frame."""
        return self._frames.pending


# ── the opening ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Opening:
    """A worker's first frame: which frontend process it wants, and its own incarnation.

    `max_frame` is the largest item in bytes that it takes; None = it does not say.
    """

    process: str
    worker: int
    max_frame: int | None = None


def opening(process: str, worker: int, max_frame: int | None = None) -> bytes:
    """The worker's first frame."""
    members: dict[str, Any] = {"shared": 1, "process": process, "worker": str(worker)}
    if max_frame is not None:
        members["max_frame"] = max_frame
    return Frame(_dump(members)).head


def read_opening(header: bytes, body: bytes) -> Opening:
    """Read it; WireError if it is something else."""
    members = _handshake(header, body, "opening")
    process, worker = members.get("process"), members.get("worker")
    if not isinstance(process, str) or not isinstance(worker, str):
        raise WireError("the opening wants a process and a worker, both strings")
    if not worker.isascii() or not worker.isdigit() or len(worker) > 20:
        raise WireError(f"the opening's worker is {worker!r:.40}, wanted a number")
    largest = members.get("max_frame")
    return Opening(process, int(worker), largest if type(largest) is int and largest > 0 else None)


def welcome(heartbeat_ms: int) -> bytes:
    """The frontend's answer."""
    return Frame(_dump({"shared": 1, "heartbeat_ms": heartbeat_ms})).head


def read_welcome(header: bytes, body: bytes) -> int:
    """The frontend's heartbeat in milliseconds."""
    heartbeat = _handshake(header, body, "welcome").get("heartbeat_ms")
    if not isinstance(heartbeat, int) or not 0 < heartbeat < 2**31:
        raise WireError(f"the welcome's heartbeat_ms is {heartbeat!r:.40}, wanted milliseconds")
    return heartbeat


def _handshake(header: bytes, body: bytes, what: str) -> dict[str, Any]:
    try:
        members: object = json.loads(header)
    except (ValueError, RecursionError):
        members = None
    if body or not isinstance(members, dict) or cast("dict[str, Any]", members).get("shared") != 1:
        raise WireError(f"wanted the {what} of a shared connection of version 1, got {bytes(header)!r:.80}")
    return cast("dict[str, Any]", members)


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# ── load reports ────────────────────────────────────────────────────────────────────────────────────


def load_body(load: Load) -> bytes:
    """A load report: the body of REPORT, and of END where there is one."""
    text = f'{{"running":{load.running},"queued":{load.queued}'
    if load.capacity is not None:
        text += f',"capacity":{load.capacity}'
    if load.endpoint is not None:
        text += f',"endpoint":"{load.endpoint}"'  # a path has nothing that JSON would escape
    return f"{text}}}".encode()


def read_load(body: Body) -> Load:
    """Read one; WireError if it is not a load report."""
    return _read_load(bytes(body))


@functools.lru_cache(1024)  # one comes with each answer, and busy workers repeat themselves
def _read_load(body: bytes) -> Load:
    try:
        members: object = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        found = cast("dict[str, Any]", members)
        running, queued, capacity = found.get("running"), found.get("queued", 0), found.get("capacity")
        counts = (running, queued, 0 if capacity is None else capacity)
        endpoint = found.get("endpoint")
        named = endpoint is None or isinstance(endpoint, str)
        if named and all(type(count) is int and 0 <= count < 2**31 for count in counts):
            return Load(cast(int, running), cast(int, queued), capacity, endpoint)
    raise WireError(f"a load report wants running, queued and capacity, got {body!r:.80}")

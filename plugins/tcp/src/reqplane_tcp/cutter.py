"""Cuts what a frontend sends into requests (the form is in wire.py).

A request goes to its taker in the same step: no queue and no task for each.  One that came whole is copied
once, out of the chunk; what is not whole yet gets a buffer of its own, where the rest is received into.

Dynamo 0.7 sends no headers.  Behind the path stands then the payload's length and the payload, whose first
eight bytes are a frame's header length, so its upper half is zero; or else the headers' length and a `{`.
The first request tells for its whole connection, by the eight bytes behind its path.
"""

from __future__ import annotations

from typing import Protocol

from reqplane.errors import WireError
from reqplane.interfaces import Budget
from reqplane.model import Body

from reqplane_tcp.chunk import Chunk
from reqplane_tcp.intake import Intake
from reqplane_tcp.wire import LONG, SHORT

MOST_PATH = 1024
"""Bytes of a path."""
_TELLING = 8
_BRACE = ord("{")


class Taker(Protocol):
    """Whom requests are handed to."""

    def wants(self, path: bytes, headers: bytes, size: int) -> bool:
        """Whether a payload that is not whole yet is to be kept.  WireError: the connection is given up."""
        ...

    def take(self, path: bytes, headers: bytes, size: int, payload: Body | None) -> None:
        """A request; None: its payload was passed over.  `headers` are empty where the form has none."""
        ...

    def no_room(self) -> None:
        """The payload that is under way does not fit in; it is passed over."""
        ...


class Cutter:
    """The bytes of one connection, as they come.  WireError: the rest can't be read."""

    def __init__(self, chunk: Chunk, budget: Budget, taker: Taker) -> None:
        self._chunk = chunk
        self._budget = budget
        self._taker = taker
        self.has_headers: bool | None = None
        """Which form this connection has; None while it has not told."""
        self._rest = b""
        self._intake: Intake | None = None
        self._passing = 0  # bytes of a payload that are still to be passed over
        self._under_way = (b"", b"", 0)  # path, headers and size of the payload that is not whole yet
        self._trusted = 0  # the largest payload that has come whole
        self._head = b""  # of the last request, up to the payload's length
        self._path = self._headers = b""

    @property
    def pending(self) -> bool:
        """In the middle of a request."""
        return bool(self._rest or self._passing) or self._intake is not None

    def buffer(self) -> memoryview:
        """Where the next bytes go."""
        if self._intake is not None:
            room = self._intake.buffer()
            if len(room):
                return room
            self._passing = self._intake.missing
            self.close()
            self._taker.no_room()
        return self._chunk.window(self._rest)

    def filled(self, count: int) -> None:
        """So many of them are there."""
        if self._intake is not None:
            self._take_in(self._intake, count)
        elif self._passing:
            self._pass_over(count)
        else:
            end = len(self._rest) + count
            self._rest = b""
            self._cut(0, end)

    def close(self) -> None:
        """Hold nothing of the budget any more."""
        if self._intake is not None:
            self._intake.release()
            self._intake = None

    # ── requests that came whole ──

    def _cut(self, at: int, end: int) -> None:
        chunk, view, take = self._chunk.bytes, self._chunk.view, self._taker.take
        while at < end:
            head = self._head
            start = at + len(head) + LONG.size
            if not head or start > end or not chunk.startswith(head, at):  # mostly it is as before
                start = self._read_head(at, end)
                if not start:
                    self._rest = bytes(view[at:end])
                    return
            size: int = LONG.unpack_from(chunk, start - LONG.size)[0]
            stop = start + size
            if stop > end:
                self._begin(start, size, end)
                return
            at = stop
            take(self._path, self._headers, size, bytes(view[start:stop]))

    def _read_head(self, at: int, end: int) -> int:
        """Everything in front of a payload; where that starts, or 0 if it is not whole yet."""
        chunk, view = self._chunk.bytes, self._chunk.view
        after = at + SHORT.size
        if after > end:
            return 0
        path_size: int = SHORT.unpack_from(chunk, at)[0]
        if path_size > MOST_PATH:
            raise WireError(f"a path of {path_size} bytes, at most {MOST_PATH} are allowed")
        path_end = after + path_size
        if self.has_headers is None:
            if path_end + _TELLING > end:
                return 0
            self.has_headers = chunk[path_end + 2] == _BRACE and any(view[path_end + 4 : path_end + _TELLING])
        headers = b""
        head_end = path_end
        if self.has_headers:
            if path_end + SHORT.size > end:
                return 0
            headers_at = path_end + SHORT.size
            head_end = headers_at + SHORT.unpack_from(chunk, path_end)[0]
            headers = bytes(view[headers_at : min(head_end, end)])
        if head_end + LONG.size > end:
            return 0
        self._head = bytes(view[at:head_end])
        self._path, self._headers = bytes(view[after:path_end]), headers
        return head_end + LONG.size

    # ── those that did not ──

    def _begin(self, start: int, size: int, end: int) -> None:
        self._under_way = self._path, self._headers, size
        first = self._chunk.view[start:end]
        if self._taker.wants(self._path, self._headers, size):
            intake = Intake(self._budget, size)
            if intake.begin(first, self._trusted):
                self._intake = intake
                return
            self._taker.no_room()
        self._passing = size - len(first)

    def _take_in(self, intake: Intake, count: int) -> None:
        if intake.filled(count):
            path, headers, size = self._under_way
            self._trusted = max(self._trusted, size)
            self.close()  # `accept` reserves for itself, in this same step
            self._taker.take(path, headers, size, intake.body)

    def _pass_over(self, count: int) -> None:
        used = min(self._passing, count)
        self._passing -= used
        if not self._passing:
            path, headers, size = self._under_way
            self._taker.take(path, headers, size, None)
            self._cut(used, count)

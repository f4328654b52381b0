"""Cuts what a NATS server sends into messages and lines.

    MSG  subject number [reply] size                then so many bytes, then a line break
    HMSG subject number [reply] header-size size    the same, the first of them a header block
    INFO, PING, PONG, +OK, -ERR                     a line

A message goes to the handler of its subscription's number in the same step: no queue, no task and no object
for each.  A large one is received into a buffer of its own, so that it is copied once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from reqplane.model import Body

Handler: TypeAlias = Callable[[bytes, bytes, bytes, Body], None]
"""Takes a message: its subject, where to reply (empty: nowhere), its header block (or empty), its payload."""

_CHUNK = 256 * 1024
"""Bytes that are read at once."""
_OWN_BUFFER_FROM = 64 * 1024
_MOST_MESSAGE = 128 * 1024 * 1024
"""Twice what a NATS server may be configured to take."""
_MOST_LINE = 1024 * 1024
_M, _H = b"MH"


class Cutter:
    """The bytes of one connection, as they come; ValueError and IndexError: they are not NATS."""

    def __init__(self, handlers: Mapping[bytes, Handler], take_line: Callable[[bytes], None]) -> None:
        self._handlers = handlers
        self._take_line = take_line
        self._chunk = memoryview(bytearray(_CHUNK))
        self._parts: list[bytes] = []  # of what is not whole yet
        self._missing = 0
        # A large message under way: its words, its buffer, and how much of that is there.
        self._words: list[bytes] = []
        self._large: memoryview | None = None
        self._filled = 0

    def buffer(self) -> memoryview:
        """Where the next bytes go."""
        return self._chunk if self._large is None else self._large[self._filled :]

    def filled(self, count: int) -> None:
        """So many of them are there."""
        if self._large is not None:
            self._filled += count
            if self._filled == len(self._large):
                whole, self._large = self._large, None
                self._hand_over(self._words, whole)
            return
        data = bytes(self._chunk[:count])
        if self._parts:
            self._parts.append(data)
            self._missing -= count
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        rest, self._missing = self._cut(data)
        if rest < len(data):
            self._parts.append(data[rest:] if rest else data)

    def _cut(self, data: bytes) -> tuple[int, int]:
        """Hand over what is whole; where the rest starts, and how many bytes it lacks at least."""
        handlers = self._handlers
        at, size = 0, len(data)
        while at < size:
            end = data.find(b"\r\n", at)
            if end < 0:
                if size - at > _MOST_LINE:
                    raise ValueError("a line without an end")
                return at, 1
            kind = data[at]
            if kind != _M and kind != _H:
                self._take_line(data[at : end + 2])
                at = end + 2
                continue
            words = data[at:end].split()
            start = end + 2
            stop = start + int(words[-1])
            if stop + 2 > size or stop < start:
                return self._unfinished(data, words, at, start, stop)
            if kind == _H:
                self._hand_over(words, memoryview(data[start : stop + 2]))
            elif (handler := handlers.get(words[2])) is not None:  # else unsubscribed meanwhile
                handler(words[1], words[3] if len(words) == 5 else b"", b"", data[start:stop])
            at = stop + 2
        return at, 0

    def _unfinished(self, data: bytes, words: list[bytes], at: int, start: int, stop: int) -> tuple[int, int]:
        size = len(data)
        if not 0 <= stop - start <= _MOST_MESSAGE:
            raise ValueError(f"a message of {stop - start} bytes")
        if stop - start < _OWN_BUFFER_FROM:
            return at, stop + 2 - size
        self._words, self._large = words, memoryview(bytearray(stop + 2 - start))
        self._filled = size - start
        self._large[: self._filled] = data[start:]
        return size, 0

    def _hand_over(self, words: list[bytes], whole: memoryview) -> None:
        """Any message, with its line break."""
        handler = self._handlers.get(words[2])
        if handler is None:
            return
        if words[0] == b"MSG":
            handler(words[1], words[3] if len(words) == 5 else b"", b"", whole[:-2])
            return
        header = int(words[-2])
        if not 0 <= header <= len(whole) - 2:
            raise ValueError(f"{header} bytes of headers in a message of {len(whole) - 2}")
        reply = words[3] if len(words) == 6 else b""
        handler(words[1], reply, bytes(whole[:header]), whole[header:-2])

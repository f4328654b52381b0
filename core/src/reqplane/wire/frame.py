"""The two-part frame: every message on every plane is one.

    bytes 0-7    header length   u64 big-endian
    bytes 8-15   body length     u64 big-endian
    bytes 16-23  checksum        u64 big-endian; 0 = none, else xxh3-64 of header and body
    bytes 24-    header, then body

The form is Dynamo's (recorded from its wheels).  A frame delimits itself, so several may follow one
another in a stream.  A length above the limit is an error before anything is allocated for it.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from typing import Any, cast

from reqplane.errors import WireError
from reqplane.model import Body

PREFIX = struct.Struct(">QQQ")
PREFIX_BYTES = PREFIX.size

_OWN_BUFFER_FROM = 64 * 1024
"""A body of this size gets a buffer of its own to be received into, instead of being cut out later."""


class Frame:
    """A frame to be sent, in two pieces that are never joined on the way out.

    `head` is the 24-byte prefix and the header; `body` follows it on the wire as it is.
    """

    __slots__ = ("body", "head")

    def __init__(self, header: bytes, body: Body = b"") -> None:
        self.head = PREFIX.pack(len(header), len(body), 0) + header
        self.body = body

    @property
    def buffers(self) -> tuple[bytes, Body]:
        """The pieces in wire order."""
        return self.head, self.body

    @property
    def header(self) -> bytes:
        return self.head[PREFIX_BYTES:]

    def __len__(self) -> int:
        return len(self.head) + len(self.body)

    def join(self) -> bytes:
        """One bytes object, for a plane that needs one.  Copies."""
        return b"".join((self.head, self.body))


def _find_xxh3() -> Callable[[bytes], int] | None:
    try:
        module = cast(Any, importlib.import_module("xxhash"))
    except ImportError:
        return None
    return module.xxh3_64_intdigest


_xxh3 = _find_xxh3()


def _verify(checksum: int, header: Body, body: Body) -> None:
    """Compare a checksum that was sent; without xxhash it can't be, and is ignored."""
    if checksum and _xxh3 is not None and _xxh3(bytes(header) + bytes(body)) != checksum:
        raise WireError("the frame's checksum does not match its bytes")


def _check_lengths(header: int, body: int, limit: int) -> None:
    if header + body + PREFIX_BYTES > limit:
        raise WireError(
            f"the frame announces {header} + {body} bytes, at most {limit - PREFIX_BYTES} are allowed"
        )


def split(data: Body | Frame, limit: int) -> tuple[bytes, Body]:
    """Take apart bytes that are exactly one frame: (header, body).

    The body is a view of `data`, not a copy.  Raises WireError if the bytes are fewer or more than one
    frame, or if it is larger than `limit`.
    """
    if isinstance(data, Frame):
        return data.header, data.body
    if len(data) < PREFIX_BYTES:
        raise WireError(f"a frame has at least {PREFIX_BYTES} bytes, got {len(data)}")
    header_length, body_length, checksum = PREFIX.unpack_from(data)
    _check_lengths(header_length, body_length, limit)
    body_at = PREFIX_BYTES + header_length
    if len(data) != body_at + body_length:
        raise WireError(
            f"the frame announces {header_length} + {body_length} bytes, "
            f"{len(data) - PREFIX_BYTES} follow its prefix"
        )
    view = memoryview(data)
    header, body = bytes(view[PREFIX_BYTES:body_at]), view[body_at:]
    if checksum:
        _verify(checksum, header, body)
    return header, body


class FrameDecoder:
    """Cuts a byte stream into frames, however it is split up.

    `limit` bounds a whole frame in bytes.  Frames before broken bytes are still given out: then `failed`
    says what is wrong with the rest, and every further `feed` raises it.
    """

    __slots__ = ("_buffer", "_filled", "_large", "_large_head", "_need", "failed", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._need = PREFIX_BYTES  # bytes the buffer must hold before looking at it again gets further
        self.failed: WireError | None = None
        # A large body under way: its own buffer, how much of it is there, and (header, checksum).
        self._large: bytearray | None = None
        self._filled = 0
        self._large_head: tuple[bytes, int] = (b"", 0)

    def feed(self, data: Body) -> list[tuple[bytes, bytes | bytearray]]:
        """The frames, as (header, body), that these bytes complete; WireError if there are none because
        the bytes are broken."""
        if self.failed is not None:
            raise self.failed
        frames: list[tuple[bytes, bytes | bytearray]] = []
        try:
            self._feed(bytes(data) if isinstance(data, memoryview) else data, frames)
        except WireError as error:
            self.failed = error
            if not frames:
                raise
        return frames

    def _feed(self, data: bytes | bytearray, frames: list[tuple[bytes, bytes | bytearray]]) -> None:
        at = 0
        if self._large is not None:
            at = self._fill(data, 0, frames)
        elif self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        size = len(data)
        self._need = PREFIX_BYTES
        while size - at >= PREFIX_BYTES:
            header_length, body_length, checksum = PREFIX.unpack_from(data, at)
            if header_length + body_length + PREFIX_BYTES > self.limit:
                _check_lengths(header_length, body_length, self.limit)
            body_at = at + PREFIX_BYTES + header_length
            end = body_at + body_length
            if end > size:
                if body_length >= _OWN_BUFFER_FROM and body_at <= size:
                    self._large = bytearray(body_length)
                    self._filled = 0
                    self._large_head = (bytes(data[at + PREFIX_BYTES : body_at]), checksum)
                    at = self._fill(data, body_at, frames)
                else:
                    self._need = (body_at if body_length >= _OWN_BUFFER_FROM else end) - at
                break
            header = data[at + PREFIX_BYTES : body_at]
            body = data[body_at:end]
            if checksum:
                _verify(checksum, header, body)
            frames.append((bytes(header), body))
            at = end
        if at < size:
            self._buffer += data[at:] if at else data

    def _fill(self, data: bytes | bytearray, at: int, frames: list[tuple[bytes, bytes | bytearray]]) -> int:
        """Move bytes into the large body; returns how far `data` is used up."""
        large = self._large
        assert large is not None
        take = min(len(large) - self._filled, len(data) - at)
        large[self._filled : self._filled + take] = memoryview(data)[at : at + take]
        self._filled += take
        if self._filled == len(large):
            header, checksum = self._large_head
            if checksum:
                _verify(checksum, header, large)
            frames.append((header, large))
            self._large = None
        return at + take

    @property
    def pending(self) -> bool:
        """True in the middle of a frame: an end of the stream now cuts it off."""
        return bool(self._buffer) or self._large is not None


def take_first(data: Body, limit: int) -> tuple[bytes, bytes, bytes] | None:
    """The first frame of a connection whose kind that frame decides: (header, body, what follows).

    None while it is incomplete.  Only this frame is held to `limit`.
    """
    if len(data) < PREFIX_BYTES:
        return None
    header_length, body_length, checksum = PREFIX.unpack_from(data)
    _check_lengths(header_length, body_length, limit)
    body_at = PREFIX_BYTES + header_length
    end = body_at + body_length
    if len(data) < end:
        return None
    header, body = bytes(data[PREFIX_BYTES:body_at]), bytes(data[body_at:end])
    _verify(checksum, header, body)
    return header, body, bytes(data[end:])

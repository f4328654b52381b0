"""HPACK header blocks without memory.

The headers of a target never change, so their block is made once and its bytes go out with every request;
only the few headers of the request itself are encoded each time.  That needs an encoder that never puts
anything into the peer's dynamic table: literals, marked "never indexed".  They are not Huffman coded,
which costs more time than it saves bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from hpack import Encoder
from reqplane.model import Headers

# Indices of HPACK's static table (RFC 7541, appendix A), as first bytes of a field.
_METHOD_POST = b"\x83"
_SCHEME_HTTP = b"\x86"
_AUTHORITY = b"\x11"
_METHOD = b"\x12"
_PATH = b"\x14"
_CONTENT_TYPE = b"\x1f\x10"
_NEW_NAME = b"\x10"


def _length(size: int) -> bytes:
    """An integer with a 7-bit prefix, the first bit 0: not Huffman coded."""
    if size < 127:
        return bytes((size,))
    encoded = bytearray((127,))
    size -= 127
    while size >= 128:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


_LENGTHS = [_length(size) for size in range(512)]


def _text(value: bytes) -> bytes:
    size = len(value)
    return (_LENGTHS[size] if size < 512 else _length(size)) + value


@lru_cache(256)
def _name(name: str) -> bytes:
    return _NEW_NAME + _text(name.lower().encode())


def target_block(authority: str, path: str, content_type: str = "application/octet-stream") -> bytes:
    """What every POST to a target begins with."""
    return b"".join(
        (
            _METHOD_POST,
            _SCHEME_HTTP,
            _AUTHORITY + _text(authority.encode()),
            _PATH + _text(path.encode()),
            _CONTENT_TYPE + _text(content_type.encode()),
        )
    )


def request_block(
    method: bytes, authority: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The whole block of any request; `headers` have lower-case names."""
    fields = [_METHOD + _text(method), _SCHEME_HTTP, _AUTHORITY + _text(authority), _PATH + _text(path)]
    fields += [_NEW_NAME + _text(name) + _text(value) for name, value in headers]
    return b"".join(fields)


def fits(value: str) -> bool:
    """Whether HTTP can carry it as a header's value."""
    return value.isascii() and value.isprintable() and value == value.strip()


def headers_block(headers: Headers) -> bytes:
    """The headers of one request.

    A value that HTTP can't carry is left out: peers answer it by ending the whole connection, and it
    may come from outside, in a trace header.
    """
    fields: list[bytes] = []
    for name, value in headers.items():
        if fits(value):
            fields.append(_name(name))
            fields.append(_text(value.encode()))
    return b"".join(fields)


class BlockEncoder(Encoder):
    """Hands h2 the block that was put into `block`, whatever headers h2 passes."""

    block = b""

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        if self.header_table.resized:  # the peer changed its table's size and waits for our word on it
            return super().encode(()) + self.block
        return self.block

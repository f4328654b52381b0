"""How many lists and mappings a payload may hold, and how many there are, without building them.

An empty list is one byte of msgpack and 72 bytes of memory, a mapping of one member 3 and 240; all else
takes ten to fifteen times its bytes, texts of two letters 30.  MAX_CONTAINERS bounds the first two to 120 MB
in all; the limit on frames bounds the rest.  Payloads that are too short to hold so many, which is nearly
all, are not looked at.
"""

from __future__ import annotations

from typing import Any

from reqplane.errors import PayloadError
from reqplane.model import Body

MAX_CONTAINERS = 500_000
"""How many lists and mappings a payload may hold, all levels together."""

_PIECE = 1 << 18


def too_many(size: int) -> PayloadError:
    """The error for a payload of `size` bytes that holds more than it may."""
    return PayloadError(
        f"its {size} bytes hold more than {MAX_CONTAINERS} lists and mappings, the most that is allowed; "
        "send fewer and longer lists, bytes, or several payloads"
    )


# ── msgpack ─────────────────────────────────────────────────────────────────────────────────────────

_MSGPACK_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
"""The bytes that a list or a mapping can begin with.  Numbers and texts have them too."""


_STEPS = 64
"""How many values of a payload are passed over one by one.  Where it is large because of a few long texts or
bytes, that is the whole of it; the rest is copied and looked at byte by byte."""


def msgpack_may_hold_too_many(data: Body) -> bool:
    """Whether a msgpack payload must be counted exactly.  Each takes a byte at least."""
    rest = bytes(data[_passed_over(data) :])
    if len(rest) <= MAX_CONTAINERS - _STEPS:
        return False
    return len(rest) - len(rest.translate(None, _MSGPACK_CONTAINERS)) > MAX_CONTAINERS - _STEPS


def _passed_over(data: Body) -> int:
    """Where the value begins that comes after the first few; the members of a list follow it."""
    at = 0
    for _ in range(_STEPS):
        if at >= len(data):
            break
        kind = data[at]
        if 0xA0 <= kind <= 0xBF:
            at += 1 + (kind & 0x1F)
        elif 0xC0 <= kind <= 0xDF:
            head, length = _MSGPACK_HEADS[kind - 0xC0]
            if length:
                head += int.from_bytes(data[at + 1 : at + 1 + length], "big")
            at += head
        else:
            at += 1
    return at


_MSGPACK_HEADS = (
    *((1, 0),) * 4,  # nil, false, true
    *((2, 1), (3, 2), (5, 4)),  # bytes, behind a length of so many bytes
    *((3, 1), (4, 2), (6, 4)),  # extensions
    *((5, 0), (9, 0)),  # floats
    *((2, 0), (3, 0), (5, 0), (9, 0)) * 2,  # integers
    *((3, 0), (4, 0), (6, 0), (10, 0), (18, 0)),  # extensions of a fixed length
    *((2, 1), (3, 2), (5, 4)),  # texts
    *((3, 0), (5, 0)) * 2,  # lists and mappings: what is in them comes next
)
"""By the first byte, from 0xC0: how many bytes there are without what the length tells, and its size.
From the specification of msgpack."""


class Counter:
    """Counts lists and mappings while they are built: hand each to it once it is whole.

    Those that are not whole yet are at most as many as levels.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = MAX_CONTAINERS

    def __call__(self, items: list[Any]) -> list[Any]:
        self._left -= 1
        if self._left < 0:
            raise too_many(self._size)
        return items


# ── json ────────────────────────────────────────────────────────────────────────────────────────────


def check_json(data: Body) -> None:
    """PayloadError if JSON holds too many.  What is not JSON may pass."""
    text = bytes(data)
    if _brackets(text) > MAX_CONTAINERS and _brackets_outside_strings(text) > MAX_CONTAINERS:
        raise too_many(len(data))


def _brackets(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _brackets_outside_strings(text: bytes) -> int:
    """Exact for JSON, as far as it is JSON.  Piece by piece, since the pieces between quotes take memory."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, in_string = 0, 0
    for start in range(0, len(bare), _PIECE):
        runs = bare[start : start + _PIECE].split(b'"')
        count += _brackets(b" ".join(runs[in_string::2]))
        in_string = (in_string + len(runs) - 1) % 2
    return count

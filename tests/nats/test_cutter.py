"""However the bytes come in, the same messages go out."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reqplane.model import Body
from reqplane_nats.cutter import Cutter

Message = tuple[bytes, bytes, bytes, bytes]


class Taken:
    """What a cutter hands over."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.lines: list[bytes] = []
        self.cutter = Cutter({b"7": self._take}, self.lines.append)

    def _take(self, subject: bytes, reply: bytes, head: bytes, payload: Body) -> None:
        self.messages.append((subject, reply, head, bytes(payload)))

    def feed(self, data: bytes, sizes: list[int]) -> None:
        """In pieces of these sizes, then the rest."""
        while data:
            room = self.cutter.buffer()
            count = min(len(room), len(data), sizes.pop(0) if sizes else len(data))
            room[:count] = data[:count]
            self.cutter.filled(count)
            data = data[count:]


LARGE = os.urandom(200_000)
HEAD = b"NATS/1.0\r\na: b\r\n\r\n"
SENT = b"".join(
    (
        b'INFO {"a":1}\r\nPING\r\n',
        b"MSG a.b 7 5\r\nhe\r\no\r\n",
        b"MSG a.b 7 in.box 0\r\n\r\n",
        b"MSG a.b 8 in.box 3\r\nnot\r\n",
        b"HMSG a.b 7 %d %d\r\n%sxyz\r\n" % (len(HEAD), len(HEAD) + 3, HEAD),
        b"PONG\r\n",
        b"MSG a.b 7 in.box %d\r\n%s\r\n" % (len(LARGE), LARGE),
        b"HMSG a.b 7 in.box %d %d\r\n%s%s\r\n" % (len(HEAD), len(HEAD) + len(LARGE), HEAD, LARGE),
        b"MSG a.b 8 %d\r\n%s\r\n" % (len(LARGE), LARGE),
        b"+OK\r\n",
    )
)
WANTED: list[Message] = [
    (b"a.b", b"", b"", b"he\r\no"),
    (b"a.b", b"in.box", b"", b""),
    (b"a.b", b"", HEAD, b"xyz"),
    (b"a.b", b"in.box", b"", LARGE),
    (b"a.b", b"in.box", HEAD, LARGE),
]


@given(st.lists(st.integers(1, 300_000), max_size=30))
def test_pieces_of_any_size(sizes: list[int]) -> None:
    taken = Taken()
    taken.feed(SENT, sizes)
    assert taken.messages == WANTED
    assert taken.lines == [b'INFO {"a":1}\r\n', b"PING\r\n", b"PONG\r\n", b"+OK\r\n"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_small_pieces_all_the_way(size: int) -> None:
    taken = Taken()
    start = SENT[: SENT.index(b"PONG")]
    taken.feed(start, [size] * len(start))
    assert taken.messages == WANTED[:3]


@given(st.binary(max_size=300))
def test_junk_ends_in_an_error_or_in_waiting(junk: bytes) -> None:
    taken = Taken()
    try:
        taken.feed(junk, [])
        taken.feed(b"\r\n", [])
    except (ValueError, IndexError):
        pass


@pytest.mark.parametrize("size", [b"-1", b"-100", b"999999999999", b"x", b"1e3"])
def test_sizes_that_can_not_be(size: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Taken().feed(b"MSG a 7 %s\r\n" % size, [])

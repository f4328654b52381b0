"""Bytes cut into requests, however they are split up."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reqplane.errors import WireError
from reqplane.host import InflightBytes
from reqplane.model import Body
from reqplane_tcp.chunk import READ_BYTES, Chunk
from reqplane_tcp.cutter import MOST_PATH, Cutter
from reqplane_tcp.intake import FIRST_BYTES

from .conftest import PATH, frame
from .scripted import message, old_message

Taken = tuple[bytes, bytes, int, bytes | None]
FRAME = frame().join()
MIB = 1 << 20


class Collector:
    """Takes everything but what it does not want."""

    def __init__(self, most: int = 1 << 30, budget: int = 1 << 30, unwanted: bytes = b"no") -> None:
        self.got: list[Taken] = []
        self.payloads: list[Body | None] = []
        self.budget = InflightBytes(budget)
        self.held: list[int] = []
        self.refused = 0
        self._most = most
        self._unwanted = unwanted
        self.chunk = Chunk()
        self.cutter = Cutter(self.chunk, self.budget, self)

    def wants(self, path: bytes, headers: bytes, size: int) -> bool:
        if size > self._most:
            raise WireError("too large")
        return path != self._unwanted

    def take(self, path: bytes, headers: bytes, size: int, payload: Body | None) -> None:
        self.held.append(self.budget.used)
        self.payloads.append(payload)
        self.got.append((path, headers, size, None if payload is None else bytes(payload)))

    def no_room(self) -> None:
        self.refused += 1

    def feed(self, data: bytes) -> None:
        """As a loop does: as many bytes at a time as there is room for."""
        while data:
            room = self.cutter.buffer()
            part = data[: len(room)]
            room[: len(part)] = part
            del room
            self.cutter.filled(len(part))
            data = data[len(part) :]

    def feed_all(self, parts: Iterable[bytes]) -> list[Taken]:
        for part in parts:
            self.feed(part)
        return self.got


def pieces(data: bytes, largest: int, chance: random.Random) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        size = chance.randint(1, largest)
        yield data[at : at + size]
        at += size


def test_requests_that_come_together():
    one = Collector()
    one.feed(message() + message(path="x/y", headers=b'{"a":"b"}') + message())
    assert [path for path, *_ in one.got] == [PATH.encode(), b"x/y", PATH.encode()]
    assert [headers for _, headers, *_ in one.got] == [b"{}", b'{"a":"b"}', b"{}"]
    assert {payload for *_, payload in one.got} == {FRAME}
    assert not one.cutter.pending


def test_the_old_form():
    one = Collector()
    one.feed(old_message() + old_message(path="other"))
    assert one.got == [(b"generate", b"", len(FRAME), FRAME), (b"other", b"", len(FRAME), FRAME)]
    assert one.cutter.has_headers is False


@pytest.mark.parametrize("size", [0x7B22, 0x27B22, 0x27B7D, 0x7B7B, 0x7B, 0x017B0000])
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_the_old_form_with_a_length_that_looks_like_headers(size: int, step: int):
    payload = frame(bytes(size - 24 - 10), b'{"id":"1"}').join()
    assert len(payload) == size
    data = old_message(payload)
    one = Collector()
    one.feed_all(data[at : at + step] for at in range(0, min(len(data), 200), step))
    assert one.cutter.has_headers is False
    one.feed(data[min(len(data), -(-200 // step) * step) :])
    assert one.got == [(b"generate", b"", size, payload)]


@pytest.mark.parametrize("headers", [b"{}", b'{"a":"b"}', b"{" + b" " * 300 + b"}"])
def test_the_form_with_headers(headers: bytes):
    one = Collector()
    one.feed(message(headers=headers))
    assert one.cutter.has_headers is True
    assert one.got[0][1] == headers


REQUEST = st.tuples(
    st.sampled_from(["p", "1f/a/b/c", "no", ""]),
    st.sampled_from([b"{}", b'{"a":"b"}', b'{"request-id":"1"}']),
    st.sampled_from([0, 1, 5, 100, 3000, 70_000, 300_000]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUEST, max_size=6), st.booleans(), st.integers(0, 2**32))
def test_the_same_however_it_is_split(requests: list[tuple[str, bytes, int]], old: bool, seed: int):
    chance = random.Random(seed)
    make = [
        old_message(frame(bytes(size)).join(), path=path)
        if old
        else message(frame(bytes(size)).join(), path=path, headers=headers)
        for path, headers, size in requests
    ]
    stream = b"".join(make)
    largest = max(len(stream) // chance.choice([1, 10, 300]), 7)
    whole, split_up = Collector(unwanted=b"none"), Collector(unwanted=b"none")
    assert whole.feed_all([stream]) == split_up.feed_all(pieces(stream, largest, chance))
    wanted = [
        (path.encode(), b"" if old else headers, len(frame(bytes(size)).join()))
        for path, headers, size in requests
    ]
    assert [taken[:3] for taken in whole.got] == wanted
    for one in (whole, split_up):
        assert not one.cutter.pending
        assert one.budget.used == 0
        assert set(one.held) <= {0}


def test_every_beginning_waits_for_the_rest():
    data = message(headers=b'{"a":"b"}')
    for cut in range(1, len(data)):
        one = Collector()
        one.feed(data[:cut])
        assert one.cutter.pending
        assert not one.got
        one.feed(data[cut:])
        assert len(one.got) == 1


# ── large payloads ──────────────────────────────────────────────────────────────────────────────────


def test_a_large_payload_is_received_into_a_buffer_of_its_own():
    one = Collector()
    payload = frame(bytes(MIB)).join()
    one.feed(message(payload))
    (got,) = one.payloads
    assert isinstance(got, bytearray)
    assert got == payload


def test_a_connection_that_has_shown_it_gets_the_whole_buffer_at_once():
    one = Collector()
    payload = frame(bytes(8 * MIB)).join()
    one.feed(message(payload))
    one.feed(message(payload)[: READ_BYTES + 1])
    assert one.budget.used == len(payload)
    one.cutter.close()
    assert one.budget.used == 0


def test_what_is_announced_is_not_believed_at_once():
    one = Collector()
    one.feed(message(b"x", size=512 * MIB))
    assert one.budget.used == FIRST_BYTES
    one.feed(bytes(FIRST_BYTES - 2))
    assert one.budget.used == FIRST_BYTES
    one.feed(bytes(2))
    assert one.budget.used == 2 * FIRST_BYTES


def test_a_payload_that_is_not_wanted_is_passed_over():
    one = Collector()
    one.feed(message(bytes(MIB), path="no") + message())
    assert one.got[0] == (b"no", b"{}", MIB, None)
    assert one.got[1][3] == FRAME
    assert one.refused == 0


def test_a_payload_for_which_there_is_no_room_is_passed_over():
    one = Collector(budget=1000)
    one.budget.take(1)
    one.feed(message(bytes(MIB)) + message())
    assert one.got[0][2:] == (MIB, None)
    assert one.got[1][3] == FRAME
    assert (one.refused, one.budget.used) == (1, 1)


def test_the_room_may_run_out_on_the_way():
    one = Collector(budget=MIB)
    data = message(bytes(4 * MIB))
    one.feed(data[:100_000])
    one.budget.take(MIB // 2)
    one.feed(data[100_000:] + message())
    assert one.got[0][2:] == (4 * MIB, None)
    assert one.got[1][3] == FRAME
    assert (one.refused, one.budget.used) == (1, MIB // 2)


def test_one_that_is_alone_may_have_any_size():
    one = Collector(budget=1000)
    one.feed(message(bytes(4 * MIB)))
    assert one.got[0][3] == bytes(4 * MIB)
    assert one.budget.used == 0


# ── what can't be read ──────────────────────────────────────────────────────────────────────────────


def test_a_long_path():
    one = Collector()
    one.feed(message(path="x" * MOST_PATH))
    assert len(one.got) == 1
    with pytest.raises(WireError, match="a path of 1025 bytes, at most 1024 are allowed"):
        one.feed(message(path="x" * (MOST_PATH + 1)))


@pytest.mark.parametrize("junk", [b"\xff" * 100_000, b"GET / HTTP/1.1\r\n\r\n" * 100], ids=["ones", "http"])
def test_junk(junk: bytes):
    one = Collector()
    with pytest.raises(WireError):
        one.feed(junk)


def test_all_the_headers_that_fit():
    one = Collector()
    headers = b'{"a":"' + b"x" * 65_500 + b'"}'
    data = message(path="x" * MOST_PATH, headers=headers)
    one.feed_all(data[at : at + 999] for at in range(0, len(data), 999))
    assert one.got[0][1] == headers


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 100))
def test_any_bytes_are_cut_or_refused(data: bytes, step: int):
    one = Collector(most=1 << 20)
    with suppress(WireError):
        one.feed_all(data[at : at + step] for at in range(0, len(data), step))
    one.cutter.close()
    assert one.budget.used == 0


def test_a_chunk_serves_several_connections():
    """What one has received is not the other's, though both receive into the same bytes."""
    first, second = Collector(), Collector()
    second.chunk = first.chunk
    second.cutter = Cutter(first.chunk, second.budget, second)
    data, other = message(headers=b'{"a":"1"}'), message(headers=b'{"b":"2"}')
    for at in range(0, len(data), 10):
        first.feed(data[at : at + 10])
        second.feed(other[at : at + 10])
    assert first.got[0][1] == b'{"a":"1"}'
    assert second.got[0][1] == b'{"b":"2"}'

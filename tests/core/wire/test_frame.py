"""The two-part frame, against recorded bytes and against junk."""

from __future__ import annotations

import itertools
import struct
import tracemalloc

import pytest
from golden_frames import golden
from hypothesis import given
from hypothesis import strategies as st
from reqplane.errors import WireError
from reqplane.wire.frame import Frame, FrameDecoder, split, take_first

LIMIT = 1 << 20
NAMES = ["request, Dynamo 0.7.1", "handshake", "item, json", "item, msgpack", "sentinel", "stop"]

frames = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=200)), max_size=6)


def decode(data: bytes, cuts: list[int], limit: int = LIMIT) -> list[tuple[bytes, bytes]]:
    decoder = FrameDecoder(limit)
    found = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        found += [(header, bytes(body)) for header, body in decoder.feed(data[start:end])]
    assert not decoder.pending
    return found


@pytest.mark.parametrize("name", NAMES)
def test_recorded_frames_are_written_and_read(name: str) -> None:
    data, header, body = golden(name)
    frame = Frame(header, body)
    assert frame.join() == b"".join(frame.buffers) == data
    assert len(frame) == len(data)
    read_header, read_body = split(data, LIMIT)
    assert (read_header, bytes(read_body)) == (header, body)
    assert decode(data, []) == [(header, body)]
    assert take_first(data + b"rest", LIMIT) == (header, body, b"rest")


@given(frames, st.lists(st.integers(min_value=0), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_frames(sent, cuts) -> None:
    data = b"".join(Frame(header, body).join() for header, body in sent)
    assert decode(data, cuts) == sent


@given(frames, st.binary(min_size=24, max_size=24), st.lists(st.integers(min_value=0), max_size=8))
def test_whole_frames_before_broken_bytes_come_however_they_are_split(sent, junk, cuts) -> None:
    broken = struct.pack(">QQQ", 2**60, 0, 0) + junk
    data = b"".join(Frame(header, body).join() for header, body in sent) + broken
    decoder = FrameDecoder(LIMIT)
    found = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        try:
            found += decoder.feed(data[start:end])
        except WireError:
            break
    assert [(header, bytes(body)) for header, body in found] == sent
    assert decoder.failed is not None


@pytest.mark.parametrize("size", [65_535, 65_536, 300_000])
@pytest.mark.parametrize("chunk", [1000, 65_536, 10**6])
def test_large_bodies_arrive_in_pieces_of_any_size(size: int, chunk: int) -> None:
    body = bytes(i % 251 for i in range(size))
    data = Frame(b"head", body).join() + Frame(b"next", b"small").join()
    decoder = FrameDecoder(LIMIT)
    found = [one for at in range(0, len(data), chunk) for one in decoder.feed(data[at : at + chunk])]
    assert [(header, bytes(part)) for header, part in found] == [(b"head", body), (b"next", b"small")]


@given(st.binary(max_size=200))
def test_junk_is_a_wire_error_or_waits_for_more(junk: bytes) -> None:
    decoder = FrameDecoder(4096)
    try:
        decoder.feed(junk)
    except WireError:
        with pytest.raises(WireError):
            decoder.feed(b"")
    for read in (split, take_first):
        try:
            read(junk, 4096)
        except WireError:
            continue


@pytest.mark.parametrize("lengths", [(0, LIMIT), (LIMIT, 0), (2**63, 2**63), (0, 2**64 - 1)])
def test_a_length_above_the_limit_is_refused_before_anything_is_allocated(lengths) -> None:
    prefix = struct.pack(">QQQ", *lengths, 0)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="at most"):
            FrameDecoder(LIMIT).feed(prefix)
        with pytest.raises(WireError, match="at most"):
            split(prefix, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"", b"x" * 23, Frame(b"h", b"b").join()[:-1], Frame(b"h", b"b").join() + b"x"]
)
def test_what_is_not_exactly_one_frame_says_so(data: bytes) -> None:
    with pytest.raises(WireError, match=r"a frame has at least|the frame announces"):
        split(data, LIMIT)


def test_a_wrong_checksum_is_noticed_where_xxhash_is_installed() -> None:
    pytest.importorskip("xxhash", reason="checksums are verified with xxhash, which is not installed")
    with pytest.raises(WireError, match="checksum"):
        split(struct.pack(">QQQ", 1, 1, 1) + b"hb", LIMIT)


def test_a_dribbled_header_is_not_parsed_again_and_again() -> None:
    data = Frame(b"h" * 60_000, b"b").join()
    decoder = FrameDecoder(LIMIT)
    found = [one for at in range(0, len(data), 10) for one in decoder.feed(data[at : at + 10])]
    assert len(found) == 1

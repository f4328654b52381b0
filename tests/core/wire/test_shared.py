"""The shared connection's frames."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reqplane.errors import WireError
from reqplane.model import Load
from reqplane.wire import shared
from reqplane.wire.frame import Frame, split

streams = st.integers(min_value=0, max_value=2**32 - 1)
events = st.lists(st.tuples(st.integers(0, 255), streams, st.binary(max_size=50)), max_size=8)


def test_an_item_is_the_bytes_that_the_description_says() -> None:
    assert shared.head(shared.ITEM, 7, 2) + b"hi" == bytes.fromhex(
        "00000000000000050000000000000002000000000000000003000000076869"
    )


def test_the_opening_frames_are_header_only_json() -> None:
    data = shared.opening("ab" * 16, 17)
    assert split(data, 4096)[0] == b'{"shared":1,"process":"' + b"ab" * 16 + b'","worker":"17"}'
    assert shared.read_opening(*map(bytes, split(data, 4096))) == shared.Opening("ab" * 16, 17)
    told = shared.opening("ab" * 16, 17, 1 << 20)
    assert split(told, 4096)[0].endswith(b'"worker":"17","max_frame":1048576}')
    assert shared.read_opening(*map(bytes, split(told, 4096))) == shared.Opening("ab" * 16, 17, 1 << 20)
    answer = shared.welcome(1000)
    assert split(answer, 4096)[0] == b'{"shared":1,"heartbeat_ms":1000}'
    assert shared.read_welcome(*map(bytes, split(answer, 4096))) == 1000


@given(events, st.lists(st.integers(min_value=0), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_events(sent, cuts) -> None:
    data = b"".join(shared.head(kind, stream, len(body)) + body for kind, stream, body in sent)
    decoder = shared.SharedDecoder(4096)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found = []
    for start, end in itertools.pairwise(edges):
        found += decoder.feed(data[start:end])
    assert found == sent
    assert not decoder.pending


@given(st.binary(max_size=300))
def test_junk_is_a_wire_error_or_waits_for_more(junk: bytes) -> None:
    try:
        shared.SharedDecoder(4096).feed(junk)
    except WireError:
        return


@given(st.binary(max_size=60), st.binary(max_size=3))
def test_junk_instead_of_an_opening_is_a_wire_error(header: bytes, body: bytes) -> None:
    for read in (shared.read_opening, shared.read_welcome):
        with pytest.raises(WireError):
            read(header, body)


@pytest.mark.parametrize(
    "header",
    [
        b'{"shared":1}',
        b'{"shared":2,"process":"p","worker":"1"}',
        b'{"shared":1,"process":1,"worker":"1"}',
        b'{"shared":1,"process":"p","worker":"-1"}',
        b'{"shared":1,"process":"p","worker":7}',
        '{"shared":1,"process":"p","worker":"²"}'.encode(),
    ],
)
def test_an_opening_that_lacks_something_is_a_wire_error(header: bytes) -> None:
    with pytest.raises(WireError):
        shared.read_opening(header, b"")


@pytest.mark.parametrize("largest", ["null", "0", "-1", "true", '"1"', "1.5", "[1]"])
def test_a_largest_item_that_is_none_is_left_out(largest: str) -> None:
    header = f'{{"shared":1,"process":"p","worker":"1","max_frame":{largest}}}'.encode()
    assert shared.read_opening(header, b"") == shared.Opening("p", 1)


def test_a_header_of_another_length_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="wanted 5"):
        shared.SharedDecoder(4096).feed(Frame(b"four").join())


def test_credit_is_four_bytes() -> None:
    assert shared.read_credit(shared.credit_body(70_000)) == 70_000
    with pytest.raises(WireError):
        shared.read_credit(b"123")


def test_a_load_report_is_read_back_and_junk_is_not() -> None:
    load = Load(running=3, queued=1, capacity=8)
    assert shared.read_load(shared.load_body(load)) == load
    for junk in (b"", b"[]", b'{"running":-1}', b'{"running":true}', b'{"running":1,"capacity":"x"}'):
        with pytest.raises(WireError):
            shared.read_load(junk)

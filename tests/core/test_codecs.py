"""The codecs: what arrives is what was sent, or a PayloadError."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.errors import PayloadError
from reqplane.interfaces import PayloadCodec

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
)
JSON_VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (math.inf, -math.inf)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
MSGPACK_VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9) | st.binary(), inner),
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(params=[MsgpackCodec, JsonCodec], ids=["msgpack", "json"])
def codec(request: pytest.FixtureRequest) -> PayloadCodec:
    return request.param()


@given(MSGPACK_VALUES)
def test_what_msgpack_carries_arrives_equal(value: Any):
    codec = MsgpackCodec()
    assert codec.decode(codec.encode(value)) == value


@given(JSON_VALUES)
def test_what_json_carries_arrives_equal(value: Any):
    codec = JsonCodec()
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded(codec: PayloadCodec, wrap: Any):
    assert codec.decode(wrap(codec.encode({"a": [1, "ä"]}))) == {"a": [1, "ä"]}


def test_a_tuple_arrives_as_a_list(codec: PayloadCodec):
    assert codec.decode(codec.encode((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, "\ud800", {"\udfff": 1}, nested(100_000)],
    ids=["object", "set", "text", "key", "deep"],
)
def test_a_value_that_cannot_be_carried_is_refused(codec: PayloadCodec, value: Any):
    with pytest.raises(PayloadError, match=rf"the request can't be carried: {codec.name}: .") as caught:
        codec.encode(value)
    assert caught.value.__cause__ is not None


def test_a_value_that_holds_itself_is_refused(codec: PayloadCodec):
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PayloadError):
        codec.encode(endless)


def test_numbers_at_the_edge():
    assert JsonCodec().decode(JsonCodec().encode(2**64)) == 2**64
    assert math.isnan(MsgpackCodec().decode(MsgpackCodec().encode(math.nan)))
    with pytest.raises(PayloadError):
        MsgpackCodec().encode(2**64)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(PayloadError):
            JsonCodec().encode(value)


def test_json_has_no_bytes():
    with pytest.raises(PayloadError):
        JsonCodec().encode({"data": b"x"})


def test_a_refused_value_leaves_nothing_behind(codec: PayloadCodec):
    with pytest.raises(PayloadError):
        codec.encode([1, 2, {"deep": [3, object()]}])
    assert codec.decode(codec.encode([4])) == [4]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        b"\xc1",
        b"\x91" * 5_000_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\x91\x01\x02",
        b"\xa1\xff",
        b"\x93\x01\x02",
    ],
    ids=["empty", "trailing", "reserved", "deep", "array", "text", "map", "key", "utf8", "cut"],
)
def test_bytes_that_are_not_msgpack(data: bytes):
    with pytest.raises(PayloadError, match=r"not msgpack: ."):
        MsgpackCodec().decode(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"1 2", b"{", b"NaN", b"-Infinity", b"[" * 5_000_000, b'"\xff"', b"\xef\xbb\xbf1", b"1" * 5000],
    ids=["empty", "trailing", "cut", "nan", "infinity", "deep", "utf8", "bom", "digits"],
)
def test_bytes_that_are_not_json(data: bytes):
    with pytest.raises(PayloadError, match=r"not json: ."):
        JsonCodec().decode(data)


@given(st.binary(max_size=64))
def test_junk_is_decoded_or_refused_and_nothing_else(data: bytes):
    for codec in (MsgpackCodec(), JsonCodec()):
        with contextlib.suppress(PayloadError):
            codec.decode(data)


def test_json_is_compact_utf8():
    assert JsonCodec().encode({"ä": [1, 2]}) == '{"ä":[1,2]}'.encode()
    assert json.loads(JsonCodec().encode("€")) == "€"

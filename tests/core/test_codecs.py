"""The codecs: what arrives is what was sent, or a PayloadError."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import itertools
import json
import math
import subprocess
import sys
import uuid
from typing import Any, NamedTuple

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.containers import MAX_CONTAINERS
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


MSGPACK = (MsgpackCodec(), MsgpackCodec(None))
JSON = (JsonCodec(), JsonCodec(None))
"""With msgspec, and without."""


@pytest.fixture(params=[*MSGPACK, *JSON], ids=["msgpack+msgspec", "msgpack", "json+msgspec", "json"])
def codec(request: pytest.FixtureRequest) -> PayloadCodec:
    return request.param


@given(MSGPACK_VALUES)
def test_what_msgpack_carries_arrives_equal(value: Any):
    for codec in MSGPACK:
        assert codec.decode(codec.encode(value)) == value


@given(JSON_VALUES)
def test_what_json_carries_arrives_equal(value: Any):
    for codec in JSON:
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


@pytest.mark.parametrize("codec", MSGPACK)
def test_numbers_at_the_edge_of_msgpack(codec: PayloadCodec):
    assert math.isnan(codec.decode(codec.encode(math.nan)))
    for value in (2**64, -(2**63) - 1):
        with pytest.raises(PayloadError):
            codec.encode([value])


@pytest.mark.parametrize("codec", JSON)
def test_numbers_at_the_edge_of_json(codec: PayloadCodec):
    for value in (2**64, -(2**63) - 1, 10**4299):
        assert codec.decode(codec.encode([value])) == [value]
    for value in (math.nan, math.inf, -math.inf, 10**5000):
        with pytest.raises(PayloadError):
            codec.encode([value])


@pytest.mark.parametrize("codec", JSON)
@pytest.mark.parametrize("value", [b"x", b"", bytearray(b"x"), memoryview(b"x")])
def test_json_has_no_bytes(codec: PayloadCodec, value: Any):
    with pytest.raises(PayloadError):
        codec.encode({"data": value})


def test_any_value_is_carried_500_levels_deep(codec: PayloadCodec):
    assert codec.decode(codec.encode(nested(500))) == nested(500)


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
        b"\x81\x80\x02",
        b"\x81\x91\x80\x02",
        b"\xd4\x05x",
        b"\x81\xd4\x05x\x01",
        b"\xa1\xff",
        b"\x93\x01\x02",
    ],
    ids=[
        "empty",
        "trailing",
        "reserved",
        "deep",
        "array",
        "text",
        "map",
        "key",
        "keys",
        "ext",
        "ext key",
        "utf8",
        "cut",
    ],
)
def test_bytes_that_are_not_msgpack(data: bytes):
    for codec in MSGPACK:
        with pytest.raises(PayloadError, match=r"not msgpack: ."):
            codec.decode(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"1 2", b"{", b"NaN", b"-Infinity", b"[" * 600_000, b'"\xff"', b"\xef\xbb\xbf1", b"1" * 5000],
    ids=["empty", "trailing", "cut", "nan", "infinity", "deep", "utf8", "bom", "digits"],
)
def test_bytes_that_are_not_json(data: bytes):
    for codec in JSON:
        with pytest.raises(PayloadError, match=r"not json: ."):
            codec.decode(data)


def test_json_is_compact_utf8():
    for codec in JSON:
        assert codec.encode({"ä": [1, 2]}) == '{"ä":[1,2]}'.encode()
        assert json.loads(codec.encode("€")) == "€"


# ── with msgspec and without: the same results ──────────────────────────────────────────────────────


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    ONE = "one"


class Shouted(str, enum.Enum):  # noqa: UP042 - a text other than its value
    ONE = "one"

    def __new__(cls, value: str) -> Shouted:
        member = str.__new__(cls, value.upper())
        member._value_ = value
        return member


class Plain(enum.Enum):
    ONE = 1


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


Text = type("Text", (str,), {})
Whole = type("Whole", (int,), {})
Real = type("Real", (float,), {})
Items = type("Items", (list,), {})
Members = type("Members", (dict,), {})
Raw = type("Raw", (bytes,), {})

ODD = [
    *(Number.ONE, Word.ONE, Shouted.ONE, Plain.ONE, Pair(1, 2), Point(1)),
    *(Text("x"), Whole(1), Real(1.5), Raw(b"x"), bytearray(b"x"), memoryview(b"x"), memoryview(b"xyz")[::2]),
    *(datetime.datetime(2020, 1, 2), datetime.date(2020, 1, 2), datetime.timedelta(1)),
    *(uuid.UUID(int=1), decimal.Decimal("1.5"), fractions.Fraction(1, 2), 1j, object(), ..., range(3), int),
    *(msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)),
    *(2**64, -(2**63) - 1, 10**400, math.nan, math.inf, -0.0, "\ud800", "a\0b", b"", "", True, 1, 1.0),
]
CONTAINERS = [
    *(Items([1]), Members(a=1), collections.OrderedDict(a=1), collections.defaultdict(int, a=1)),
    *({1, 2}, frozenset([1]), collections.deque([1]), collections.Counter("a"), [], {}, ()),
]
odd = st.sampled_from(ODD)
keys = odd.filter(lambda key: key.__hash__ is not None and not isinstance(key, memoryview | bytearray))
anything = st.recursive(
    st.sampled_from([*ODD, *CONTAINERS]) | SCALARS | st.floats() | st.integers() | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | keys | st.tuples(keys), inner, max_size=4)
    ),
    max_leaves=10,
)


def written(codec: PayloadCodec, value: Any) -> Any:
    try:
        return codec.encode(value)
    except PayloadError:
        return PayloadError


def read(codec: PayloadCodec, data: bytes) -> Any:
    """What bytes mean to a codec, as text: that tells 1 from True and NaN from nothing."""
    try:
        return repr(codec.decode(data))
    except PayloadError:
        return PayloadError


def agree(pair: tuple[PayloadCodec, PayloadCodec], value: Any) -> None:
    with_msgspec, without = written(pair[0], value), written(pair[1], value)
    if PayloadError in (with_msgspec, without):
        assert with_msgspec is without
        return
    meanings = {read(codec, data) for codec, data in itertools.product(pair, (with_msgspec, without))}
    assert len(meanings) == 1


@pytest.mark.parametrize("value", [*ODD, *CONTAINERS], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("pair", [MSGPACK, JSON], ids=["msgpack", "json"])
def test_an_odd_value_is_the_same_in_all_places(pair: Any, value: Any):
    agree(pair, value)
    agree(pair, [None, value])
    agree(pair, {"a": value})
    with contextlib.suppress(TypeError, ValueError):
        agree(pair, {value: 1})
        agree(pair, {(value, 2): 1})


@given(anything)
@example({1: 1, "1": 2})
@example({None: 1, True: 2, 1.5: 3})
def test_any_value_is_encoded_alike(value: Any):
    agree(MSGPACK, value)
    agree(JSON, value)


@pytest.mark.parametrize("value", [Plain.ONE, Point(1), {1}, uuid.UUID(int=1), datetime.date(2020, 1, 2)])
def test_what_only_msgspec_could_write_is_refused(codec: PayloadCodec, value: Any):
    with pytest.raises(PayloadError):
        codec.encode({"a": [value]})


@given(st.binary(max_size=64))
@example(b"\x81\x92\x01\x91\x02\x03")
def test_any_bytes_are_the_same_msgpack(data: bytes):
    assert read(MSGPACK[0], data) == read(MSGPACK[1], data)


def cut_or_changed(draw: Any, data: bytes) -> bytes:
    where = draw(st.integers(0, len(data)))
    return data[:where] + draw(st.binary(max_size=2)) + data[where + draw(st.integers(0, 3)) :]


@given(st.data(), MSGPACK_VALUES)
def test_damaged_msgpack_is_read_alike(data: Any, value: Any):
    damaged = cut_or_changed(data.draw, MSGPACK[1].encode(value))
    assert read(MSGPACK[0], damaged) == read(MSGPACK[1], damaged)


@given(st.data(), JSON_VALUES)
def test_damaged_json_is_read_alike(data: Any, value: Any):
    damaged = cut_or_changed(data.draw, JSON[1].encode(value))
    assert read(JSON[0], damaged) == read(JSON[1], damaged)


@given(st.text(alphabet='[]{}:,"\\/ \t\n\r0123456789.eE+-truefalsnNI\x00\x1f\x7fä\u2028', max_size=30))
@example('{"a":1,"a":2}')
@example('"\\ud800"')
@example('"\\ud83d\\ude00"')
@example("1e999")
@example("-0")
def test_any_text_is_the_same_json(text: str):
    data = text.encode()
    assert read(JSON[0], data) == read(JSON[1], data)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_any_number_is_the_same_json(number: str):
    assert read(JSON[0], number.encode()) == read(JSON[1], number.encode())


@given(st.integers(-(2**40), 2**40), st.integers(0, 999_999), st.booleans())
@example(2**33, 0, True)
def test_a_timestamp_of_others_arrives_as_a_datetime(seconds: int, microseconds: int, as_key: bool):
    packed: Any = msgpack.packb(msgpack.Timestamp(seconds, microseconds * 1000))
    data = b"\x81" + packed + b"\x01" if as_key else packed
    assert read(MSGPACK[0], data) == read(MSGPACK[1], data)
    if abs(seconds) < 2**30:
        assert "datetime" in read(MSGPACK[0], data)


# ── payloads that are larger than they look ─────────────────────────────────────────────────────────

DECODE_ALL = """
import resource, sys
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.errors import PayloadError

codec, before = eval(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for made in sys.argv[2:]:
    try:
        codec.decode(eval(made))
        print("decoded")
    except PayloadError as error:
        print(error)
scale = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale >> 20)
"""


def decoded_apart(codec: str, *made: str) -> tuple[list[str], int]:
    """What comes of decoding these in a process of its own, and by how many MiB that grew at the most."""
    command = [sys.executable, "-c", DECODE_ALL, codec, *made]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *outcomes, grown = done.stdout.splitlines()
    return outcomes, int(grown)


MSGPACK_BOMBS = {
    "empty lists": "b'\\x90'",
    "empty maps": "b'\\x80'",
    "lists of one": "b'\\x91\\xc0'",
    "maps of one": "b'\\x81\\xc0\\x80'",
    "maps of texts": "b'\\x81\\xc0\\xa2ab'",
    "nested lists": "b'\\x91' * 511 + b'\\xc0'",
    "nested maps": "b'\\x81\\xc0' * 511 + b'\\xc0'",
}
JSON_BOMBS = {
    "empty lists": "b'[],'",
    "empty maps": "b'{},'",
    "maps of one": "b'{\"\":{}},'",
    "nested lists": "b'[' * 400 + b']' * 400 + b','",
    "nested maps": "b'{\"a\":' * 400 + b'1' + b'}' * 400 + b','",
    "behind texts": 'rb\'"\\\\","\\"",[],\'',
}


def bombs(codec: str) -> list[str]:
    """Code for lists of 8 MiB that repeat something small, and two of 32 MiB."""
    packed = "Msgpack" in codec
    form = "b'\\xdd' + ({0}).to_bytes(4) + ({1}) * {0}" if packed else "b'[' + ({1}) * {0} + b'1]'"
    made = MSGPACK_BOMBS if packed else JSON_BOMBS
    sizes = [(8 << 20, name) for name in made] + [(32 << 20, "empty lists"), (32 << 20, "maps of one")]
    return [form.format(size // len(eval(made[name])), made[name]) for size, name in sizes]


@pytest.mark.parametrize("codec", ["MsgpackCodec()", "MsgpackCodec(None)", "JsonCodec()", "JsonCodec(None)"])
def test_a_bomb_is_refused_before_it_takes_memory(codec: str):
    outcomes, grown = decoded_apart(codec, *bombs(codec))
    for outcome in outcomes:
        assert f"more than {MAX_CONTAINERS} lists and mappings" in outcome
    assert grown < 256


@pytest.mark.parametrize("codec", ["MsgpackCodec()", "MsgpackCodec(None)"])
def test_lists_that_lie_about_their_length_take_nothing(codec: str):
    """A thousand, each the first item of the one before: 8 MB that would be 64 GB."""
    outcomes, grown = decoded_apart(codec, "(b'\\xdd' + (8_000_000).to_bytes(4)) * 1000 + bytes(8_000_000)")
    assert "not msgpack" in outcomes[0]
    assert grown < 64


def test_the_refusal_says_what_was_found_and_what_to_do():
    size = MAX_CONTAINERS + 1
    for codec in MSGPACK:
        with pytest.raises(PayloadError) as caught:
            codec.decode(b"\xdd" + size.to_bytes(4) + b"\x90" * size)
        assert caught.value.problem == (
            "its 500006 bytes hold more than 500000 lists and mappings, the most that is allowed; "
            "send fewer and longer lists, bytes, or several payloads"
        )


def test_as_many_as_are_allowed_are_decoded(codec: PayloadCodec):
    value = [[]] * (MAX_CONTAINERS - 1)
    data = codec.encode(value)
    assert codec.decode(data) == value
    with pytest.raises(PayloadError, match="more than"):
        codec.decode(codec.encode([value]))


@pytest.mark.parametrize(
    "value",
    [
        [n % 150_000 for n in range(1 << 20)],
        [1] * (1 << 20),
        [0.1 + n for n in range(100_000)],
        "[{" * (1 << 20),
        ['"[\\', "["] * 600_000,
        [{"id": n, "tags": ["[", "{"], "at": {"x": 1.5}} for n in range(40_000)],
    ],
    ids=["tokens", "ones", "embedding", "brackets", "quoted brackets", "documents"],
)
def test_large_payloads_of_ordinary_kinds_are_carried(codec: PayloadCodec, value: Any):
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("codec", MSGPACK)
def test_large_bytes_are_carried(codec: PayloadCodec):
    value = [bytes(range(256)) * 4096, b"\x90" * (4 << 20)]
    assert codec.decode(codec.encode(value)) == value

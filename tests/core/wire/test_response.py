"""Dynamo's form of a response stream, against recorded frames."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import itertools

import pytest
from golden_frames import golden, recorded_failures
from hypothesis import given
from hypothesis import strategies as st
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.errors import HandlerFailed, PayloadError, WireError
from reqplane.model import Annotated, Broken, Control, End, Prologue
from reqplane.wire import response
from reqplane.wire.dialect import Dialect, EnvelopedDialect, Fields
from reqplane.wire.failure import INVALID_ARGUMENT, SHORT_TEXT, error_fields, error_from

ITEMS = ("prologue", "item, json", "error item, Dynamo 0.7.1", "end, json", "sentinel")


def test_frames_are_written_as_recorded() -> None:
    assert response.handshake("d3b3f1a0-2b6c-4f0e-8a3d-1c4e5f607182") == golden("handshake")[0]
    assert response.prologue(None) == golden("prologue")[0]
    assert response.prologue("text") == golden("prologue with error")[0]
    assert b"".join(response.item(golden("item, json")[2])) == golden("item, json")[0]
    assert response.sentinel() == golden("sentinel")[0]
    assert response.control(Control.STOP) == golden("stop")[0]
    assert response.control(Control.KILL) == golden("kill")[0]


def test_frames_are_read_as_recorded() -> None:
    assert response.read_handshake(*golden("handshake")[1:]).stream_type == "response"
    assert response.read_control(*golden("stop")[1:]) is Control.STOP
    assert response.read_control(*golden("kill")[1:]) is Control.KILL
    stream = b"".join(golden(name)[0] for name in ITEMS)
    bodies = [golden(name)[2] for name in ITEMS[1:-1]]
    assert response.ResponseReader(4096).feed(stream) == [Prologue(None), *bodies, End()]


def test_the_connection_of_a_request_is_as_recorded() -> None:
    name = "handshake of a request"
    assert response.handshake("909fb74b-cc24-41e8-8823-70f79961e81f", "request") == golden(name)[0]
    assert response.read_handshake(*golden(name)[1:]).stream_type == "request"
    whole, header, body = golden("item of a request, msgpack")
    assert b"".join(response.item(body)) == whole
    assert response.read_requested(header, body) == body
    assert response.read_requested(*golden("sentinel")[1:]) == End()
    assert response.read_requested(*golden("stop")[1:]) is Control.STOP
    assert response.read_requested(*golden("kill")[1:]) is Control.KILL


@pytest.mark.parametrize(("header", "body"), [(b'"bogus"', b""), (b'"sentinel"', b"x"), (b'"stop"', b"x")])
def test_anything_else_on_the_connection_of_a_request(header: bytes, body: bytes) -> None:
    with pytest.raises(WireError, match='wanted an item, "sentinel", "stop" or "kill"'):
        response.read_requested(header, body)


@given(st.lists(st.integers(min_value=0), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_events(cuts: list[int]) -> None:
    stream = b"".join(golden(name)[0] for name in ITEMS)
    whole = response.ResponseReader(4096).feed(stream)
    reader = response.ResponseReader(4096)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    found = []
    for start, end in itertools.pairwise(edges):
        found += reader.feed(stream[start:end])
    assert found == whole


@given(st.binary(max_size=200))
def test_junk_is_a_wire_error_or_waits_for_more(junk: bytes) -> None:
    for read in (
        response.ResponseReader(4096).feed,
        lambda data: response.read_handshake(data, b""),
        lambda data: response.read_control(data, b""),
    ):
        try:
            read(junk)
        except WireError:
            continue


@pytest.mark.parametrize(
    "names",
    [("item, json",), ("sentinel",), ("prologue", "prologue"), ("prologue", "sentinel", "item, json")],
)
def test_frames_in_the_wrong_order_are_a_wire_error(names: tuple[str, ...]) -> None:
    reader = response.ResponseReader(4096)
    with contextlib.suppress(WireError):
        found = reader.feed(b"".join(golden(name)[0] for name in names))
        assert 0 < len(found) < len(names)
    assert reader.failed is not None
    with pytest.raises(WireError):
        reader.feed(b"")


@pytest.mark.parametrize(("codec", "name"), [(JsonCodec(), "item, json"), (MsgpackCodec(), "item, msgpack")])
def test_items_are_wrapped_as_recorded(codec, name: str) -> None:
    dialect = EnvelopedDialect(codec.name, codec)
    assert dialect.item({"i": 0}) == golden(name)[2]
    (fields,) = dialect.read([golden(name)[2]])
    assert isinstance(fields, Fields)
    assert fields.members == {"data": {"i": 0}}


@pytest.mark.parametrize("codec", [JsonCodec(), MsgpackCodec()])
def test_an_enveloped_stream_ends_at_its_end_marker(codec) -> None:
    dialect = EnvelopedDialect(codec.name, codec)
    assert dialect.read([Prologue(), dialect.end(b"")]) == [Prologue(), End()]
    assert (
        JsonCodec().encode({"complete_final": True})
        == golden("end, json")[2]
        == EnvelopedDialect("json", JsonCodec()).end(b"")
    )


def test_only_the_end_marker_makes_an_enveloped_answer_whole() -> None:
    dialect = EnvelopedDialect("json", JsonCodec())
    end = golden("end, json")[2]
    (broken,) = dialect.read([End()])  # the sentinel alone
    assert isinstance(broken, Broken)
    assert dialect.read([Broken("lost")]) == [Broken("lost")]
    for after in (End(), Broken("lost"), b"junk"):
        assert dialect.read([end, after]) == [End()]


def test_what_is_no_envelope_breaks_the_stream_after_the_items_before_it() -> None:
    dialect = EnvelopedDialect("json", JsonCodec())
    for junk in (b"1", b"[]", b"{}", b'{"complete_final":1}', b'{"data":1,"complete_final":false}'):
        good, broken = dialect.read([dialect.item(0), junk, dialect.item(1)])
        assert isinstance(good, Fields)
        assert isinstance(broken, Broken)
        assert "envelope" in broken.reason


def test_a_codec_without_envelope_needs_a_shared_connection() -> None:
    with pytest.raises(WireError, match="needs a shared"):
        EnvelopedDialect("strange", JsonCodec())


# ── failures ──


@pytest.mark.parametrize("version", ["0.7.1", "1.6.1"])
def test_recorded_error_items_are_errors(version: str) -> None:
    (fields,) = EnvelopedDialect("json", JsonCodec()).read([golden(f"error item, Dynamo {version}")[2]])
    assert isinstance(fields, Fields)
    error = error_from(fields.members, 3)
    assert isinstance(error, HandlerFailed)
    assert error.items_received == 3
    assert error.error_type == "ValueError"
    assert error.problem == "ValueError: early bad"


@pytest.mark.parametrize(("version", "member"), [("0.7.1", "comment"), ("1.6.1", "error")])
def test_a_value_error_is_written_as_recorded(version: str, member: str) -> None:
    (recorded,) = EnvelopedDialect("json", JsonCodec()).read([golden(f"error item, Dynamo {version}")[2]])
    assert isinstance(recorded, Fields)
    assert error_fields(ValueError("early bad"))[member] == recorded.members[member]


TEXT = "text of it"
RECORDED = {row["exception"]: row["error"] for row in recorded_failures()}
BUILTIN = [name for name in RECORDED if hasattr(builtins, name)]


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_exceptions_are_written_as_recorded(name: str) -> None:
    cls = getattr(builtins, name)
    error = (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte") if "Decode" in name else cls(TEXT)
    )
    assert error_fields(error)["error"] == RECORDED[name]


async def test_a_cancellation_that_nobody_asked_for_is_written_as_recorded() -> None:
    assert error_fields(asyncio.CancelledError("x"))["error"] == RECORDED["CancelledError"]


def test_a_class_within_another_is_written_with_both_names() -> None:
    class Odd(ValueError):
        pass

    fields = error_fields(Odd("x"))
    assert fields["error"]["message"].endswith("<locals>.Odd: x")
    assert fields["error"]["class"] == "InvalidRequest"
    error = error_from(fields, 0)
    assert isinstance(error, HandlerFailed)
    assert error.error_type == "Odd"


class Told(Exception):
    failure_kind = INVALID_ARGUMENT


def test_an_exception_may_say_itself_what_it_is() -> None:
    assert error_fields(Told(TEXT))["error"] == RECORDED["InvalidArgument"]


@pytest.mark.parametrize("codec", [JsonCodec(), MsgpackCodec()])
def test_failures_of_any_text_can_be_carried(codec) -> None:
    dialect = Dialect(codec.name, codec)
    fields = dialect.fields(Annotated(dialect.failure(ValueError("\ud800" + "x" * 10_000))))
    error = error_from(fields.members, 0)
    assert isinstance(error, HandlerFailed)
    assert len(error.problem) < 5000


def test_an_item_that_could_not_be_encoded_keeps_its_index() -> None:
    error = error_from(error_fields(PayloadError("too large an integer", index=4), uncarried=True), 4)
    assert isinstance(error, PayloadError)
    assert error.index == 4


@pytest.mark.parametrize("text", ["ä", "\x00", "\ud800", "\U0001f600", "\\"])
@pytest.mark.parametrize("codec", [JsonCodec(), MsgpackCodec()])
def test_in_few_words_a_failure_fits_into_the_smallest_frame_limit(codec, text: str) -> None:
    for error in (ValueError(text * 2000), PayloadError(text * 2000, index=1), Told(text * 2000)):
        assert len(Dialect(codec.name, codec).failure(error, uncarried=True, most=SHORT_TEXT)) < 4096


@given(
    st.dictionaries(
        st.sampled_from(["event", "comment", "error", "data"]),
        st.none() | st.text() | st.lists(st.integers()),
    )
)
def test_strange_error_items_are_errors_all_the_same(fields: dict) -> None:
    assert str(error_from(fields, 0))


def test_words_that_older_dynamos_put_in_front_are_taken_off() -> None:
    """Recorded from 0.7.1 and 0.9.1."""
    words = "a python exception was caught while processing the async generator: ValueError: early bad"
    error = error_from({"event": "error", "comment": [words]}, 0)
    assert isinstance(error, HandlerFailed)
    assert (error.problem, error.error_type) == ("ValueError: early bad", "ValueError")

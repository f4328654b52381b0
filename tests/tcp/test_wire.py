"""Bytes: Dynamo's as they were recorded, and ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reqplane.errors import (
    FrameTooLarge,
    InvalidFrame,
    RequestRefused,
    UnknownEndpoint,
    WireError,
    WorkerBusy,
    WorkerDraining,
    refusal,
)
from reqplane.model import Instance
from reqplane.wire.frame import split
from reqplane.wire.request import decode_head
from reqplane_tcp import answers, wire
from reqplane_tcp.target import parse, path_of, takes_headers

from .conftest import ENDPOINT, INCARNATION, PATH
from .scripted import RECORDED, message, old_message, recorded, text

REQUESTS = [one["name"] for one in RECORDED if "frame_hex" in one]
CODES = ("invalid_frame", "unknown_endpoint", "wrong_instance", "draining", "busy", "not_allowed", "refused")


# ── requests ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_is_made_of_what_we_write(name: str):
    found = recorded(name)
    parts = [wire.path_block(found["path"])]
    if found["headers"]:
        parts.append(wire.headers_block(json.loads(found["headers"])))
    size = wire.LONG.pack(len(found["frame"]))
    assert b"".join([*parts, size, found["frame"]]) == found["message"]


@pytest.mark.parametrize("name", REQUESTS)
def test_its_frame_is_one_that_we_read(name: str):
    header, body = split(recorded(name)["frame"], 1 << 20)
    head = decode_head(header)
    assert head.connection.address.startswith("192.0.2.2:")
    assert bytes(body) in (b'{"n":2}', b"\x81\xa1n\x02")


def test_the_two_forms():
    payload = b"x" * 7
    assert message(payload, path="p", headers=b'{"a":"b"}') == b'\0\x01p\0\x09{"a":"b"}\0\0\0\x07xxxxxxx'
    assert old_message(payload, path="p") == b"\0\x01p\0\0\0\x07xxxxxxx"
    assert wire.NO_HEADERS == b"\0\x02{}"
    assert bytes(4) == wire.ACK


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5))
def test_headers_are_json(headers: dict[str, str]):
    block = wire.headers_block(headers)
    assert int.from_bytes(block[:2], "big") == len(block) - 2
    assert wire.read_headers(block[2:]) == {name.lower(): value for name, value in headers.items()}


def test_headers_that_do_not_fit():
    assert len(wire.headers_block({"a": "x" * 65527})) == 2 + 65535
    with pytest.raises(WireError, match="the headers have 65536 bytes, at most 65535 fit"):
        wire.headers_block({"a": "x" * 65528})


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"1", b"null", b"\xff", b"[" * 60000])
def test_what_are_no_headers(junk: bytes):
    with pytest.raises(WireError, match="the headers are"):
        wire.read_headers(junk)


# ── records ─────────────────────────────────────────────────────────────────────────────────────────


def test_our_path_is_dynamos():
    assert path_of(ENDPOINT, INCARNATION) == PATH


@pytest.mark.parametrize("name", REQUESTS)
def test_which_form_a_worker_takes_is_told_by_its_path(name: str):
    found = recorded(name)
    assert takes_headers(found["path"]) == bool(found["headers"])


@pytest.mark.parametrize(
    "path", ["generate", "beef", "default/backend/generate", "1f/", "12345678901234567/x", "1F/x"]
)
def test_a_path_without_an_id(path: str):
    assert not takes_headers(path)


@pytest.mark.parametrize(
    ("member", "found"),
    [
        ("10.0.0.2:36155/43b7/default/backend/generate", ("10.0.0.2:36155", "43b7/default/backend/generate")),
        ("host:9999/generate", ("host:9999", "generate")),
        ("[::1]:9/1f/x", ("[::1]:9", "1f/x")),
        ("0.0.0.0:9/1f/x", ("127.0.0.1:9", "1f/x")),
        ("[::]:9/1f/x", ("127.0.0.1:9", "1f/x")),
    ],
)
def test_addresses(member: str, found: tuple[str, str]):
    assert parse({"tcp": member, "other": 1}, "0.0.0.0") == found


@pytest.mark.parametrize(
    "member",
    [
        *(None, 1, [], {}, "", "/", "host:9", "host:9/", "host/x", "host:0/x", "host:65536/x", "host:x/y"),
        *(":9/x", "a b:9/x", "h:9/a b", "h:9/\n", "h:9/é", "http://h:9/x"),
        *("h:9/" + "x" * 1025, "x" * 100_000),
    ],
    ids=range(20),
)
def test_what_is_no_address(member: object):
    assert parse({"tcp": member}, "0.0.0.0") is None


def test_a_wildcard_in_a_record_is_this_machine():
    assert parse({"tcp": "0.0.0.0:9/1f/x"}, "10.0.0.7") == ("10.0.0.7:9", "1f/x")
    assert parse(Instance(ENDPOINT, 0, 1, {}).transport, "10.0.0.7") is None


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────


def heard(words: str) -> object:
    return answers.verdict(words.encode(), 100, "h:9")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unknown endpoint, Dynamo 1.6.1", UnknownEndpoint),
        ("unknown endpoint, Dynamo 0.7.1 and 0.9.1", UnknownEndpoint),
        ("path that is no text, Dynamo 0.9.1 and 1.6.1", RequestRefused),
        ("too large, Dynamo 0.9.1 and 1.6.1", FrameTooLarge),
        ("too large, Dynamo 0.7.1", FrameTooLarge),
    ],
)
def test_answers_of_dynamos_workers(name: str, kind: type[Exception]):
    found = recorded(name)
    assert text(found["text"]) == wire.answer(found["text"].encode()) == found["message"]
    error = heard(found["text"])
    assert type(error) is kind
    assert found["text"] in str(error)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Server overloaded: worker at capacity", WorkerBusy),
        ("Server unavailable: worker pool channel closed", WorkerDraining),
        ("anything else", RequestRefused),
        ("OK", RequestRefused),
        ("\0", RequestRefused),
        ("Server unavailable", RequestRefused),
        ("\ud7ff" * 20_000, RequestRefused),
    ],
    ids=range(7),
)
def test_other_texts(words: str, kind: type[Exception]):
    error = heard(words)
    assert type(error) is kind
    assert len(str(error)) < 10_000


def test_the_limit_of_the_other_side_is_told():
    error = heard("Read error: message too large: 34603059 bytes (max: 33554432 bytes)")
    assert isinstance(error, FrameTooLarge)
    assert (error.size, error.limit) == (100, 33554432)


@pytest.mark.parametrize("code", [*CODES, "moon_phase", "x2"])
def test_a_refusal_of_ours_there_and_back(code: str):
    error = refusal(code, "there are [7] of them: ask [another]")
    written = answers.refused(code, answers.words_of(error))
    back = answers.verdict(written[4:], 100, "h:9")
    assert isinstance(back, RequestRefused)
    assert (type(back), back.code, back.problem) == (type(error), code, error.problem)
    assert (back.transport, back.address) == ("tcp", "h:9")


@pytest.mark.parametrize("code", CODES)
def test_dynamos_clients_know_each_of_our_refusals(code: str):
    """By these beginnings: in other words it is none for them, and they wait for ever."""
    written = answers.refused(code, "x")[4:]
    assert written.startswith(b"Server overloaded: " if code == "busy" else b"Server unavailable: ")
    assert answers.GOODBYE.startswith(b"Server unavailable: ")


def test_an_invalid_frame_is_told_in_the_guides_words():
    written = answers.refused("invalid_frame", answers.words_of(InvalidFrame("too short")))
    assert b"Two Part Codec Error: Invalid message: too short" in written
    assert str(answers.verdict(written[4:], 1, "h:9")).count("Invalid message") == 1


@given(st.text(max_size=2000))
def test_any_words_keep_their_code(words: str):
    written = answers.refused("busy", words)
    assert len(written) <= answers.MOST_ANSWER
    error = answers.verdict(written[4:], 1, "h:9")
    assert isinstance(error, WorkerBusy)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_refusal(said: bytes):
    assert isinstance(answers.verdict(said, 1, "h:9"), RequestRefused | FrameTooLarge)

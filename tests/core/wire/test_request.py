"""A request's head: written as Dynamo writes it, read with suspicion."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from golden_frames import golden
from hypothesis import given
from hypothesis import strategies as st
from reqplane.errors import WireError
from reqplane.model import ConnectionInfo, SharedOffer
from reqplane.wire import request as request_module
from reqplane.wire.request import MAX_HEADER_BYTES, HeadTemplate, RequestHead, decode_head

OFFER = SharedOffer("0123456789abcdef" * 2, 262144)
INFO = ConnectionInfo("10.0.0.1:9000", "551d0fbf-2b6c-4f0e-8a3d-1c4e5f607182", "request-1", OFFER)


def render(info: ConnectionInfo, codec: str = "msgpack", **more) -> bytes:
    return HeadTemplate("ns.comp.ep", codec, info).render(info, **more)


def test_the_recorded_head_is_read() -> None:
    _, header, _ = golden("request, Dynamo 0.7.1")
    assert decode_head(header) == RequestHead(
        request_id="67ec643a-5d3e-4c1b-9f2a-0d5b7c8e9f10",
        connection=ConnectionInfo(
            "127.0.0.1:46719",
            "551d0fbf-2b6c-4f0e-8a3d-1c4e5f607182",
            "67ec643a-5d3e-4c1b-9f2a-0d5b7c8e9f10",
        ),
    )


def test_what_is_written_has_the_recorded_form_and_our_members_beside_it() -> None:
    _, header, _ = golden("request, Dynamo 0.7.1")
    recorded, ours = (
        json.loads(header),
        json.loads(render(INFO, timeout=1.5, headers={"traceparent": "00-1"})),
    )
    assert [key for key in ours if key in recorded] == list(recorded)
    assert set(ours) - set(recorded) == {"payload_codec", "endpoint", "timeout_ms", "headers"}
    recorded_info, info = (json.loads(head["connection_info"]["info"]) for head in (recorded, ours))
    assert list(info) == [*recorded_info, "shared"]
    assert info["shared"] == {"v": 1, "process": OFFER.process, "window": 262144}


def test_metadata_is_read_and_written_as_recorded() -> None:
    _, header, _ = golden("request with metadata, Dynamo 1.6.1")
    head = decode_head(header)
    assert head.metadata == {"later": "1", "tenant": "x", "Ünï": "ö"}
    assert json.loads(render(INFO, metadata=head.metadata))["metadata"] == head.metadata
    assert "metadata" not in json.loads(render(INFO, metadata={}))


@pytest.mark.parametrize("metadata", [{"a": 5}, {"a": None}, ["a"], "a", 1])
def test_metadata_that_is_none_is_refused(metadata: object) -> None:
    head = json.loads(render(INFO)) | {"metadata": metadata}
    with pytest.raises(WireError, match="metadata"):
        decode_head(json.dumps(head).encode())


def test_no_metadata_and_null_are_the_same() -> None:
    head = json.loads(render(INFO)) | {"metadata": None}
    assert decode_head(json.dumps(head).encode()).metadata == {}


@pytest.mark.parametrize("largest", [4096, 32 << 20])
def test_the_offer_tells_the_largest_item(largest: int) -> None:
    offer = SharedOffer(OFFER.process, OFFER.window, max_frame=largest)
    info = ConnectionInfo(INFO.address, INFO.subject, "r", offer)
    members = json.loads(json.loads(render(info))["connection_info"]["info"])
    assert members["shared"]["max_frame"] == largest
    assert decode_head(render(info)).connection == info


@pytest.mark.parametrize("largest", [None, 0, -1, True, "1", 1.5, [1]])
def test_a_largest_item_that_is_none_is_left_out(largest: object) -> None:
    head = json.loads(render(INFO))
    info = json.loads(head["connection_info"]["info"])
    info["shared"]["max_frame"] = largest
    head["connection_info"]["info"] = json.dumps(info)
    assert decode_head(json.dumps(head).encode()).connection == INFO


REQUEST = ConnectionInfo(INFO.address, "909fb74b-cc24-41e8-8823-70f79961e81f", "request-1")
STREAMED = replace(INFO, request=REQUEST)


def test_the_recorded_head_of_a_stream_is_read() -> None:
    _, header, body = golden("request that is a stream, Dynamo 1.6.1")
    address, request_id = "192.0.2.2:40363", "2c2f4b58-9ed7-43ed-acc8-e85c8ef8048b"
    request = ConnectionInfo(address, "909fb74b-cc24-41e8-8823-70f79961e81f", request_id)
    connection = ConnectionInfo(address, "8ac8d60f-8e96-4b60-ae18-3546f3f028be", request_id, request=request)
    assert decode_head(header) == RequestHead(request_id, connection, "msgpack")
    assert not body


def test_the_head_of_a_stream_has_the_recorded_form_and_our_members_beside_it() -> None:
    _, header, _ = golden("request that is a stream, Dynamo 1.6.1")
    recorded, ours = json.loads(header), json.loads(render(STREAMED))
    assert [key for key in ours if key in recorded] == list(recorded)
    assert set(ours) - set(recorded) == {"endpoint"}
    assert ours["request_type"] == recorded["request_type"]
    name = "request_stream_connection_info"
    assert ours[name]["transport"] == recorded[name]["transport"]
    theirs, info = json.loads(recorded[name]["info"]), json.loads(ours[name]["info"])
    assert list(info) == list(theirs)
    assert info["stream_type"] == theirs["stream_type"]


@given(st.text(max_size=30))
def test_the_head_of_a_stream_is_read_back(request_id: str) -> None:
    info = replace(STREAMED, context=request_id, request=replace(REQUEST, context=request_id))
    try:
        header = render(info, timeout=1.5, headers={"traceparent": "00-1"})
    except UnicodeEncodeError:
        return
    head = decode_head(header)
    assert (head.request_id, head.connection, head.timeout) == (request_id, info, 1.5)


def test_one_template_writes_both_kinds() -> None:
    template = HeadTemplate("single_in.single_in.ep", "msgpack", INFO)
    assert template.matches(STREAMED)
    for info in (INFO, STREAMED, INFO):
        head = decode_head(template.render(info))
        assert (head.connection, head.endpoint) == (info, "single_in.single_in.ep")


def test_json_is_not_announced_since_its_absence_means_json() -> None:
    assert "payload_codec" not in json.loads(render(INFO, codec="json"))


@given(st.text(max_size=30), st.floats(min_value=0.001, max_value=1e6))
def test_what_is_written_is_read_back(request_id: str, timeout: float) -> None:
    info = ConnectionInfo(INFO.address, INFO.subject, request_id, OFFER)
    try:
        header = render(info, timeout=timeout, headers={"traceparent": "00-1"})
    except UnicodeEncodeError:
        return
    head = decode_head(header)
    assert head.request_id == head.connection.context == request_id
    assert head.connection == info
    assert head.endpoint == "ns.comp.ep"
    assert head.timeout == pytest.approx(timeout, abs=0.001)
    assert head.headers == {"traceparent": "00-1"}


def test_a_template_fits_only_its_own_address_and_offer() -> None:
    template = HeadTemplate("ns.comp.ep", "msgpack", INFO)
    assert template.matches(INFO)
    assert not template.matches(ConnectionInfo("10.0.0.2:9000", INFO.subject, "r", OFFER))
    assert not template.matches(ConnectionInfo(INFO.address, INFO.subject, "r"))


def test_unknown_members_are_ignored_on_both_levels() -> None:
    head = json.loads(render(INFO))
    info = json.loads(head["connection_info"]["info"]) | {"new": 1}
    head |= {"new": [1], "connection_info": {"transport": "tcp_server", "info": json.dumps(info), "new": {}}}
    assert decode_head(json.dumps(head).encode()).connection == INFO


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"id": None}, "id is missing"),
        ({"id": 7}, "id is 7, wanted a string"),
        ({"timeout_ms": "soon"}, "timeout_ms"),
        ({"timeout_ms": -1}, "timeout_ms"),
        ({"timeout_ms": True}, "timeout_ms"),
        ({"timeout_ms": 2**80}, "timeout_ms"),
        ({"headers": []}, "headers"),
        ({"endpoint": 1}, "endpoint"),
        ({"payload_codec": {}}, "payload_codec"),
        ({"connection_info": None}, "connection_info"),
        ({"connection_info": {"info": "[]"}}, "connection_info.info"),
        ({"connection_info": {"info": "{}"}}, "address is missing"),
        ({"request_type": "many_in"}, "request_stream_connection_info is missing"),
        ({"request_stream_connection_info": 1}, "request_stream_connection_info is 1, wanted an object"),
        ({"request_stream_connection_info": {"info": "{}"}}, "address is missing"),
    ],
)
def test_a_broken_head_says_what_was_wanted(change: dict, wanted: str) -> None:
    head = json.loads(render(INFO)) | change
    with pytest.raises(WireError, match=wanted):
        decode_head(json.dumps(head).encode())


@pytest.mark.parametrize(
    "shared", [None, 1, {}, {"v": 2, "process": "x", "window": 1}, {"v": 1, "window": 0}]
)
def test_an_offer_of_another_version_is_no_offer(shared) -> None:
    head = json.loads(render(INFO))
    info = json.loads(head["connection_info"]["info"]) | {"shared": shared}
    head["connection_info"]["info"] = json.dumps(info)
    assert decode_head(json.dumps(head).encode()).connection.shared is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(json.loads(render(INFO, timeout=1)))), json_values))
def test_members_of_any_kind_are_a_wire_error_or_a_head(change: dict) -> None:
    try:
        decode_head(json.dumps(json.loads(render(INFO)) | change).encode())
    except WireError:
        return


@given(st.binary(max_size=100))
def test_junk_is_a_wire_error(junk: bytes) -> None:
    with pytest.raises(WireError):
        decode_head(junk)


def test_nesting_without_end_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        decode_head(b"[" * 100_000)


def test_a_header_is_read_up_to_its_limit() -> None:
    header = render(INFO)
    filler = b" " * (MAX_HEADER_BYTES - len(header))
    assert decode_head(header + filler).connection == INFO
    with pytest.raises(WireError, match="the request's header has 65537 bytes, at most 65536 are allowed"):
        decode_head(header + filler + b" ")


# ── with msgspec and without: the same results ──────────────────────────────────────────────────────


def read(header: bytes) -> Any:
    try:
        return decode_head(header)
    except WireError as error:
        return "not JSON" if "is not JSON" in str(error) else str(error)


def agree(header: bytes) -> None:
    with_msgspec = read(header)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_module, "_quick_loads", None)
        assert read(header) == with_msgspec


HEAD = json.loads(render(INFO, timeout=1, headers={"traceparent": "00-1"}))
CONNECTION_INFO = json.loads(HEAD["connection_info"]["info"])
odd_values = json_values | st.floats() | st.sampled_from(["\ud800", "\0", 10**30, -0.0])


def members(of: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some that are known, some that are not."""
    return st.dictionaries(st.sampled_from(list(of)) | st.text(max_size=3), odd_values, max_size=3)


@given(members(HEAD), members(HEAD["connection_info"]), members(CONNECTION_INFO), st.booleans())
def test_any_members_on_any_level_are_read_alike(
    top: dict, middle: dict, inner: dict, ascii_only: bool
) -> None:
    info = json.dumps(CONNECTION_INFO | inner, ensure_ascii=ascii_only)
    connection = HEAD["connection_info"] | {"info": info} | middle
    head = HEAD | {"connection_info": connection, "request_stream_connection_info": connection} | top
    agree(json.dumps(head, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


@given(st.integers(0, 600), st.integers(0, 4), st.binary(max_size=4))
def test_a_damaged_header_is_read_alike(where: int, length: int, instead: bytes) -> None:
    header = render(INFO, timeout=1.5, headers={"traceparent": "00-1"})
    agree(header[:where] + instead + header[where + length :])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_a_header_in_another_encoding_is_read_alike(encoding: str) -> None:
    agree(render(INFO).decode().encode(encoding))


def test_the_last_of_two_members_counts() -> None:
    header = render(INFO)
    agree(header[:-1] + b',"id":"another"}')
    assert decode_head(header[:-1] + b',"id":"another"}').request_id == "another"

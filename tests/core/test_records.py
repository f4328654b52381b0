"""Discovery records: every form that is known to exist is read, and junk is told from a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reqplane.errors import WireError
from reqplane.model import EndpointId, Instance
from reqplane.wire.records import (
    MAX_RECORD_BYTES,
    as_dynamo,
    dynamo_file,
    dynamo_key,
    dynamo_name,
    encode_record,
    guide_key,
    instance_name,
    leaving,
    make_record,
    parse_key,
    parse_record,
    record_key,
)

ENDPOINT = EndpointId("default", "backend", "generate")
GUIDE_KEY = "v1/instances/namespace.default.component.backend.endpoint.generate.instance.0"
DYNAMO_KEY = "v1/instances/default/backend/generate/43b7bcedd4be931f"
DYNAMO_FILE = "v1/instances/default%2Fbackend%2Fgenerate%2F43b7bcedd4be931f"
DYNAMO_ID = 0x43B7BCEDD4BE931F
GUIDE_TRANSPORT = {
    "http_tcp": {
        "http_endpoint": "http://host:8081/v1/dynamo/namespace.default.component.backend.endpoint.generate.instance.0",
        "tcp_endpoint": "host:9000",
    }
}

# Recorded from Dynamo 1.6.1.
DYNAMO_TCP = (
    b'{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"default",'
    b'"instance_id":4879576450941752095,'
    b'"transport":{"tcp":"10.0.0.2:36155/43b7bcedd4be931f/default/backend/generate"},'
    b'"device_type":"cuda","request_plane_codec":"msgpack"}'
)


RECORDED: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[1] / "golden" / "records.json").read_text()
)


# ── the forms that exist ────────────────────────────────────────────────────────────────────────────


def test_guide_key() -> None:
    assert guide_key(ENDPOINT, 0) == GUIDE_KEY
    assert GUIDE_KEY.endswith("/" + instance_name(ENDPOINT, 0))


@pytest.mark.parametrize(
    ("key", "instance_id"),
    [
        (GUIDE_KEY, 0),
        (DYNAMO_KEY, DYNAMO_ID),
        (DYNAMO_FILE, DYNAMO_ID),
        ("v1/instances/default/backend/generate/0", 0),
        ("v1/instances/default/backend/generate/ffffffffffffffff", 2**64 - 1),
        (GUIDE_KEY[:-1] + str(2**64 - 1), 2**64 - 1),
    ],
)
def test_both_key_layouts(key: str, instance_id: int) -> None:
    assert parse_key(key) == (ENDPOINT, instance_id)


def test_percent_encoded_parts() -> None:
    key = "v1/instances/my%2Dns%2Fmy_comp%2Fgenerate%2Fa"
    assert parse_key(key) == (EndpointId("my-ns", "my_comp", "generate"), 10)


def test_the_guides_value_may_hold_nothing_but_transport() -> None:
    instance = parse_record(GUIDE_KEY, json.dumps({"transport": GUIDE_TRANSPORT}))
    assert instance == Instance(ENDPOINT, 0, 0, GUIDE_TRANSPORT, codec="json", planes=("http",))


@pytest.mark.parametrize("key", [DYNAMO_KEY, DYNAMO_FILE])
def test_dynamo_tcp(key: str) -> None:
    assert parse_record(key, DYNAMO_TCP) == Instance(
        ENDPOINT,
        DYNAMO_ID,
        DYNAMO_ID,
        {"tcp": "10.0.0.2:36155/43b7bcedd4be931f/default/backend/generate"},
        codec="msgpack",
        planes=("tcp",),
        dynamo=True,
        device_type="cuda",
    )


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["name"])
def test_what_dynamo_has_written(recorded: dict[str, str]) -> None:
    _, plane, backend = recorded["name"].split(", ")
    value = json.loads(recorded["value"])
    assert parse_record(recorded["key"], recorded["value"].encode()) == Instance(
        EndpointId(f"rec-{plane}-{backend}", "backend", "generate"),
        value["instance_id"],
        value["instance_id"],
        value["transport"],
        codec="msgpack" if "1.6.1" in recorded["name"] else "json",
        planes=(plane,),
        dynamo=True,
        device_type=value.get("device_type"),
    )


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["name"])
def test_we_write_what_dynamo_would(recorded: dict[str, str]) -> None:
    """All but the device, and what Dynamo ignores."""
    value = json.loads(recorded["value"])
    theirs = parse_record(recorded["key"], value)
    endpoint, number = theirs.endpoint, theirs.instance_id
    guide = make_record(endpoint, number, number, theirs.transport, theirs.codec, theirs.planes)
    ours = as_dynamo(guide)
    assert {name: ours[name] for name in value if name != "device_type"} == {
        name: member for name, member in value.items() if name != "device_type"
    }
    name = dynamo_file(endpoint, number) if "file" in recorded["name"] else dynamo_name(endpoint, number)
    assert recorded["key"] == f"v1/instances/{name}"


@pytest.mark.parametrize(
    ("transport", "plane"),
    [
        ({"nats_tcp": "default_backend.generate-43b7bcedd4be931f"}, "nats"),
        ({"http": "http://host:8888/v1/rpc/generate"}, "http"),
        ({"tcp": "host:9999/generate"}, "tcp"),
        ({"something_new": {"a": 1}}, "something_new"),
    ],
)
def test_dynamos_other_transports(transport: dict[str, Any], plane: str) -> None:
    value = {"type": "Endpoint", "instance_id": DYNAMO_ID, "transport": transport}
    instance = parse_record(DYNAMO_KEY, json.dumps(value).encode())
    assert (instance.transport, instance.planes, instance.codec) == (transport, (plane,), "json")


def test_all_planes_beside_the_one_that_dynamo_may_see() -> None:
    everything = {"tcp": "host:1/x", "http_tcp": {"http_endpoint": "http://host:8081/x"}}
    value = {"transport": {"tcp": "host:1/x"}, "transports": everything}
    instance = parse_record(DYNAMO_KEY, value)
    assert instance.transport == everything
    assert instance.planes == ("tcp", "http")


def test_our_own_record_comes_back() -> None:
    optional: dict[str, Any] = {"capacity": 8, "version": "0.1.0", "started": 1795552000.125}
    record = make_record(ENDPOINT, 0, 2**63 - 1, GUIDE_TRANSPORT, "msgpack", ["http"], **optional)
    assert record["reqplane"] == 1
    instance = parse_record(GUIDE_KEY, encode_record(record))
    assert instance == Instance(ENDPOINT, 0, 2**63 - 1, GUIDE_TRANSPORT, "msgpack", ("http",), **optional)


def test_what_is_not_known_is_left_out() -> None:
    assert not {"capacity", "version", "started"} & make_record(ENDPOINT, 0, 1, {}, "json", []).keys()


@pytest.mark.parametrize(
    "version", [7, "", "1.0\x1b[2J", "1.0\n", "v" * 65, "1 0", ["1"], {}, True], ids=lambda it: repr(it)[:12]
)
def test_what_is_no_version_counts_as_absent(version: Any) -> None:
    assert parse_record(GUIDE_KEY, {"transport": {}, "version": version}).version is None


@pytest.mark.parametrize("started", ["now", -1, 1e12, 10**5000, True, [], {}], ids=lambda it: repr(type(it)))
def test_what_is_no_time_counts_as_absent(started: Any) -> None:
    assert parse_record(GUIDE_KEY, {"transport": {}, "started": started}).started is None


def test_null_counts_as_absent_and_unknown_members_are_ignored() -> None:
    value = {"transport": {"tcp": "a:1"}, "incarnation": None, "planes": None, "capacity": None, "x": [1]}
    assert parse_record(DYNAMO_KEY, value) == Instance(
        ENDPOINT, DYNAMO_ID, DYNAMO_ID, {"tcp": "a:1"}, planes=("tcp",)
    )


def test_one_plane_in_two_members_is_named_once() -> None:
    value = {"transport": {"http": "http://a:1", "http_tcp": {"http_endpoint": "http://a:1"}}}
    assert parse_record(DYNAMO_KEY, value).planes == ("http",)


# ── junk ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "key",
    [
        "",
        "v1/instances/",
        "v1/models/default/backend/generate/0",
        "v1/instances/default/backend/generate",
        "v1/instances/default/backend/generate/xyz",
        "v1/instances/default/backend/generate/0/1",
        "v1/instances/default/backend/generate/10000000000000000",
        "v1/instances/../backend/generate/0",
        "v1/instances/default/back%20end/generate/0",
        "v1/instances/default/back%2Fend/generate/0",
        "v1/instances/..%2F..%2Fetc/backend/generate/0",
        "v1/instances/default/backend%00/generate/0",
        "v1/instances/*/backend/>/0",
        "v1/instances/default//generate/0",
        f"v1/instances/default/{'b' * 129}/generate/0",
        f"v1/instances/default/backend/{'g' * 100_000}/0",
        "v1/instances/default/backend/generate\x1b[2J/0",
        "v1/instances/http:/example.org/generate/0",
        GUIDE_KEY[:-1],
        GUIDE_KEY[:-1] + "-1",
        GUIDE_KEY[:-1] + "01",
        GUIDE_KEY[:-1] + str(2**64),
        GUIDE_KEY + "\n",
        "v1/instances/namespace.a.b.component.backend.endpoint.generate.instance.0",
    ],
)
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(WireError) as raised:
        parse_record(key, {"transport": {}})
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"\xff", "wanted JSON"),
        (b"", "wanted JSON"),
        (b'{"transport": {"a": NaN}}', "NaN"),
        (b'{"transport": {"a": 1e999}}', "too large"),
        (b"[" * 60_000, "wanted JSON"),
        (b'{"a":' * 10_000, "wanted JSON"),
        (b'{"transport":{"a":' + b"[" * 500 + b"]" * 500 + b"}}", "nested at most 16 deep"),
        (b'{"incarnation": ' + b"9" * 5000 + b"}", "wanted JSON"),
        (b" " * (MAX_RECORD_BYTES + 1), "65536 bytes, found 65537"),
        (b"[]", "wanted an object, found a list"),
        ({}, "'transport' wanted an object, found nothing"),
        ({"transport": "\x1b[2J\u202e"}, r"found '\x1b[2J\u202e'"),
        ({"transport": {}, "type": "x" * 60_000}, "found 'xxx"),
        ({"transport": "tcp"}, "'transport' wanted an object, found 'tcp'"),
        ({"transport": {}, "transports": []}, "'transports' wanted an object"),
        ({"transport": {}, "incarnation": "1"}, "'incarnation' wanted a whole number"),
        ({"transport": {}, "incarnation": True}, "found true"),
        ({"transport": {}, "incarnation": 1.0}, "found 1.0"),
        ({"transport": {}, "incarnation": -1}, "found -1"),
        ({"transport": {}, "incarnation": 10**5000}, "a number of 16610 bits"),
        ({"transport": {}, "capacity": []}, "'capacity'"),
        ({"transport": {}, "request_plane_codec": 5}, "'request_plane_codec' wanted a text, found 5"),
        ({"transport": {}, "planes": "http"}, "'planes' wanted a list"),
        ({"transport": {}, "planes": [1]}, "'planes' wanted names"),
        ({"transport": {}, "type": "Model"}, "wanted 'Endpoint', found 'Model'"),
        ({"transport": {}, "namespace": "other"}, "wanted 'default' as in the key, found 'other'"),
        ({"transport": {}, "component": "other"}, "as in the key"),
        ({"transport": {}, "endpoint": "other"}, "as in the key"),
        ({"transport": {}, "instance_id": 7}, "wanted 0 as in the key, found 7"),
    ],
)
def test_values_that_are_none(value: Any, complaint: str) -> None:
    with pytest.raises(WireError) as raised:
        parse_record(GUIDE_KEY, value)
    assert complaint in str(raised.value)
    assert GUIDE_KEY in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


def test_what_nobody_would_read_is_not_written() -> None:
    with pytest.raises(WireError, match="at most 65536"):
        encode_record({"transport": {"a": "x" * MAX_RECORD_BYTES}})
    with pytest.raises(WireError, match="JSON"):
        encode_record({"transport": object()})
    with pytest.raises(WireError, match="JSON"):
        encode_record({"transport": float("nan")})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.sampled_from(
    [
        *("type", "namespace", "component", "endpoint", "instance_id", "incarnation"),
        *("transport", "transports", "planes", "capacity", "request_plane_codec", "version", "started"),
    ]
)
_RECORDS = st.dictionaries(_MEMBERS, _JSON | st.just("default") | st.just({"tcp": "a:1"}), max_size=8)
_KEYS = st.sampled_from([GUIDE_KEY, DYNAMO_KEY, DYNAMO_FILE]) | st.text().map(
    lambda name: f"v1/instances/{name}"
)
_VALUES = st.binary() | st.text() | _JSON | _RECORDS | _RECORDS.map(json.dumps)


@given(_KEYS | st.text(), _VALUES)
@example(GUIDE_KEY, "\ud800")
@example("v1/instances/%ff%fe/a/b/0", {"transport": {}})
@example(GUIDE_KEY, {"transport": {1: 2}})
def test_anything_is_an_instance_or_a_wire_error(key: str, value: Any) -> None:
    try:
        instance = parse_record(key, value)
    except WireError:
        return
    assert isinstance(instance, Instance)
    assert 0 <= instance.instance_id < 2**64


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63 - 1),
    st.dictionaries(st.text(min_size=1), st.text() | st.dictionaries(st.text(), st.text()), max_size=3),
    st.none() | st.integers(0, 2**32),
)
def test_what_is_made_is_read(
    instance_id: int, incarnation: int, transports: dict[str, Any], capacity: int | None
) -> None:
    record = make_record(ENDPOINT, instance_id, incarnation, transports, "json", ["http", "nats"], capacity)
    assert parse_record(guide_key(ENDPOINT, instance_id), encode_record(record)) == Instance(
        ENDPOINT, instance_id, incarnation, transports, "json", ("http", "nats"), capacity
    )


# ── Dynamo's form ───────────────────────────────────────────────────────────────────────────────────

ALL_PLANES = {
    "http_tcp": {"http_endpoint": "http://10.0.0.2:8081/v1/dynamo/x", "h2c": True, "batch": 1},
    "http": "http://10.0.0.2:8081/v1/rpc/generate",
    "nats_tcp": "default_backend.generate-43b7bcedd4be931f",
    "tcp": "10.0.0.2:36155/43b7bcedd4be931f/default/backend/generate",
}


def guide_record(*keys: str, codec: str = "msgpack") -> dict[str, Any]:
    transports = {key: ALL_PLANES[key] for key in keys}
    planes = ["http", "nats", "tcp"]
    return make_record(ENDPOINT, DYNAMO_ID, DYNAMO_ID, transports, codec, planes, version="0.1.0")


def test_dynamos_key() -> None:
    assert dynamo_key(ENDPOINT, DYNAMO_ID) == DYNAMO_KEY
    assert f"v1/instances/{dynamo_file(ENDPOINT, DYNAMO_ID)}" == DYNAMO_FILE
    odd = EndpointId("My-NS", "Back_End", "Gen-1")
    recorded = "My%2DNS%2FBack%5FEnd%2FGen%2D1%2Fb60a18155472334f"
    assert dynamo_file(odd, 0xB60A18155472334F) == recorded
    assert parse_key(f"v1/instances/{recorded}") == (odd, 0xB60A18155472334F)
    assert record_key(ENDPOINT, DYNAMO_ID, dynamo=True) == DYNAMO_KEY
    assert record_key(ENDPOINT, 0, dynamo=False) == GUIDE_KEY


def test_dynamos_record_is_what_dynamo_writes_and_more() -> None:
    recorded = json.loads(DYNAMO_TCP)
    del recorded["device_type"]
    ours = as_dynamo(guide_record("tcp", "nats_tcp"))
    assert {name: ours[name] for name in recorded} == recorded
    assert list(ours)[: len(recorded)] == list(recorded)
    assert ours["transports"] == {key: ALL_PLANES[key] for key in ("tcp", "nats_tcp")}
    assert ours["incarnation"] == ours["instance_id"]


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        (("nats_tcp", "tcp"), "nats_tcp"),
        (("tcp", "nats_tcp"), "tcp"),
        (("http_tcp", "http", "nats_tcp"), "http"),
        (("http_tcp", "nats_tcp"), "nats_tcp"),
    ],
)
def test_dynamo_sees_the_first_plane_that_it_knows(keys: tuple[str, ...], shown: str) -> None:
    record = as_dynamo(guide_record(*keys))
    assert record["transport"] == {shown: ALL_PLANES[shown]}
    assert list(record["transports"]) == list(keys)


def test_dynamos_record_comes_back_whole() -> None:
    guide = guide_record("http_tcp", "http", "tcp")
    instance = parse_record(DYNAMO_KEY, encode_record(as_dynamo(guide)))
    assert instance == parse_record(GUIDE_KEY[:-1] + str(DYNAMO_ID), encode_record(guide))
    assert not instance.dynamo
    assert instance.transport == guide["transport"]


def test_a_worker_that_dynamo_could_not_find() -> None:
    with pytest.raises(WireError, match="none of this worker's planes, http, nats, tcp; wanted tcp or nats"):
        as_dynamo(guide_record("http_tcp"))
    with pytest.raises(WireError, match="no codec 'yaml'; wanted json or msgpack"):
        as_dynamo(guide_record("tcp", codec="yaml"))


def test_one_that_leaves_says_so_in_this_form_too() -> None:
    assert parse_record(DYNAMO_KEY, leaving(as_dynamo(guide_record("tcp")))).draining

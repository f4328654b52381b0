"""Settings, targets, header blocks: no sockets."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st
from reqplane.errors import SettingsError
from reqplane.model import Instance
from reqplane.settings import load
from reqplane_http.blocks import BlockEncoder, headers_block, request_block, target_block
from reqplane_http.plugin import reqplane_request_transports
from reqplane_http.settings import HttpSettings
from reqplane_http.target import parse_target
from reqplane_http.transport import HttpTransport

from .conftest import ENDPOINT, OpenTransport


def test_the_plugin_offers_the_plane() -> None:
    (offered,) = reqplane_request_transports()
    assert offered is HttpTransport
    assert offered.name == "http"
    assert offered.settings is HttpSettings


def test_the_guides_defaults() -> None:
    """Statements 7 to 10."""
    settings = load(HttpSettings, {})
    assert (settings.host, settings.port, settings.root_path) == ("0.0.0.0", 8081, "/v1/dynamo")
    assert settings.request_timeout == 5
    assert (settings.pool_max_idle_per_host, settings.pool_idle_timeout) == (100, 90)
    assert (settings.keep_alive_interval, settings.keep_alive_timeout) == (30, 10)


def test_each_setting_is_honoured() -> None:
    """Statement 11."""
    settings = load(
        HttpSettings,
        {
            "DYN_HTTP_RPC_HOST": "10.0.0.1",
            "DYN_HTTP_RPC_PORT": "0",
            "DYN_HTTP_RPC_ROOT_PATH": "/",
            "DYN_HTTP_RPC_ADVERTISE_HOST": "worker-1",
            "DYN_HTTP_REQUEST_TIMEOUT": "2.5",
        },
    )
    assert (settings.host, settings.port, settings.root_path) == ("10.0.0.1", 0, "")
    assert (settings.advertise_host, settings.request_timeout) == ("worker-1", 2.5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DYN_HTTP_RPC_HOST", "http://x"),
        ("DYN_HTTP_RPC_PORT", "65536"),
        ("DYN_HTTP_RPC_ROOT_PATH", "v1"),
        ("DYN_HTTP_RPC_ADVERTISE_HOST", "0.0.0.0"),
        ("DYN_HTTP_RPC_ADVERTISE_HOST", "[::]"),
        ("DYN_HTTP_RPC_ADVERTISE_HOST", "0"),
        ("DYN_HTTP_REQUEST_TIMEOUT", "0"),
        ("DYN_HTTP2_POOL_MAX_IDLE_PER_HOST", "0"),
        ("DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS", "-1"),
        ("DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS", "x"),
        ("DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS", "x"),
    ],
)
def test_a_wrong_setting_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(HttpSettings, {variable: value})
    assert [problem[:2] for problem in caught.value.problems] == [(variable, value)]


@pytest.mark.parametrize(
    ("record", "address", "path"),
    [
        ({"http_tcp": {"http_endpoint": "http://10.0.0.1:8081/v1/x"}}, "10.0.0.1:8081", "/v1/x"),
        ({"http": "http://host:8888/v1/rpc/generate"}, "host:8888", "/v1/rpc/generate"),
        ({"http_tcp": {"http_endpoint": "http://[::1]:80/a?b=c"}}, "[::1]:80", "/a?b=c"),
        ({"http_tcp": {"tcp_endpoint": "x:1"}, "http": "http://h:1/p"}, "h:1", "/p"),
        ({"http_tcp": {"http_endpoint": "http://0.0.0.0:81/p"}}, "127.0.0.1:81", "/p"),
        ({"http_tcp": {"http_endpoint": "http://[::]:81/p"}}, "127.0.0.1:81", "/p"),
        ({"http_tcp": {"http_endpoint": "http://0:81/p"}}, "127.0.0.1:81", "/p"),
    ],
)
async def test_targets(record: Any, address: str, path: str, transport: OpenTransport) -> None:
    plane = await transport({"DYN_HTTP_RPC_HOST": "0.0.0.0"})
    target = plane.target(Instance(ENDPOINT, 0, 7, record))
    assert target is not None
    assert (target.address, target.path) == (address, path)


async def test_a_wildcard_record_and_a_frontend_with_a_host(transport: OpenTransport) -> None:
    """Statement 12."""
    plane = await transport({"DYN_HTTP_RPC_HOST": "backend"})
    record = {"http_tcp": {"http_endpoint": "http://0.0.0.0:8081/p"}}
    target = plane.target(Instance(ENDPOINT, 0, 7, record))
    assert target is not None
    assert target.origin == ("backend", 8081)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"nats_tcp": "x"},
        {"http_tcp": None},
        {"http_tcp": "http://h:1/p"},
        {"http_tcp": {"http_endpoint": 7}},
        {"http": {"x": 1}},
        *({"http": url} for url in ("", "h:1/p", "https://h:1/p", "http://h/p", "http://:1/p", "http://h:1")),
        *({"http": url} for url in ("http://h:x/p", "http://h:99999/p", "http://h:1/ü", "http://h:1/a b")),
        *({"http": url} for url in ("http://h:1/a\r\nb", "http://[::1/p", "http://h:0/p")),
    ],
)
async def test_foreign_records_are_no_target(record: Any, transport: OpenTransport) -> None:
    plane = await transport()
    assert plane.target(Instance(ENDPOINT, 0, 7, record)) is None


def test_a_target_is_small_and_says_what_it_is() -> None:
    target = parse_target("http://h:1/p", "0.0.0.0")
    assert repr(target) == "Target(http://h:1/p)"
    assert not hasattr(target, "__dict__")


values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=700).map(str.strip)
names = st.from_regex(r"[a-z][a-z0-9-]{0,200}", fullmatch=True)


@given(st.dictionaries(names, values, max_size=5))
def test_header_blocks_are_what_a_decoder_reads(headers: dict[str, str]) -> None:
    block = target_block("host:1", "/path") + headers_block(headers)
    decoded = Decoder().decode(block)
    assert [tuple(field) for field in decoded] == [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "host:1"),
        (":path", "/path"),
        ("content-type", "application/octet-stream"),
        *headers.items(),
    ]


def test_a_whole_block() -> None:
    block = request_block(b"HEAD", b"h:1", b"/" + b"x" * 300, [(b"accept", b"*/*")])
    assert [tuple(field) for field in Decoder().decode(block)] == [
        (":method", "HEAD"),
        (":scheme", "http"),
        (":authority", "h:1"),
        (":path", "/" + "x" * 300),
        ("accept", "*/*"),
    ]


def test_a_new_table_size_is_confirmed_once() -> None:
    encoder, decoder = BlockEncoder(), Decoder()
    decoder.max_allowed_table_size = 0
    encoder.header_table_size = 0
    encoder.block = headers_block({"a": "b"})
    assert isinstance(encoder, Encoder)
    for _ in range(2):
        assert [tuple(field) for field in decoder.decode(encoder.encode([]))] == [("a", "b")]
    assert encoder.encode([]) == encoder.block

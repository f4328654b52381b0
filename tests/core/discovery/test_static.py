"""The static backend: a list in a variable, which nobody registers in."""

from __future__ import annotations

import asyncio
import logging

import pytest
from core.discovery.world import FakeHost, Seen, record
from reqplane.discovery.static import StaticDiscovery
from reqplane.errors import DiscoveryUnavailable, SettingsError
from reqplane.model import EndpointId

GENERATE = EndpointId("default", "backend", "generate")
EMBED = EndpointId("default", "backend", "embed")
ROOT = "/v1/dynamo/namespace.default.component.backend.endpoint"


async def opened(instances: str, **env: str) -> StaticDiscovery:
    return await StaticDiscovery.open(FakeHost({"DYN_STATIC_INSTANCES": instances, **env}))


async def listing(discovery: StaticDiscovery, endpoint: EndpointId | None = None):
    seen = Seen(discovery.watch(endpoint))
    changes = await seen.listed()
    await seen.close()
    return [change.instance for change in changes if change.up]


async def url(entry: str) -> str:
    (instance,) = await listing(await opened(entry))
    return instance.transport["http_tcp"]["http_endpoint"]


async def complaint(instances: str) -> str:
    with pytest.raises(SettingsError) as raised:
        await opened(instances)
    ((variable, _, problem),) = raised.value.problems
    assert variable == "DYN_STATIC_INSTANCES"
    return problem


# ── the list ────────────────────────────────────────────────────────────────────────────────────────


async def test_each_entry_is_an_instance_by_its_place_in_the_list() -> None:
    discovery = await opened(
        "default.backend.generate=http://a:1/x, default.backend.embed=http://a:1/y,"
        "dyn://default.backend.generate=h2c://b:2/x,"
    )
    everything = await listing(discovery)
    assert [(one.endpoint, one.instance_id) for one in everything] == [
        (GENERATE, 0),
        (EMBED, 1),
        (GENERATE, 2),
    ]
    assert [one.instance_id for one in await listing(discovery, GENERATE)] == [0, 2]
    assert everything[2].transport == {"http_tcp": {"http_endpoint": "h2c://b:2/x"}}
    assert all(one.planes == ("http",) for one in everything)
    assert await listing(discovery, EndpointId("a", "b", "c")) == []


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("http://a:8081/v1/x", "http://a:8081/v1/x"),
        ("http://a:8081/v1/x?y=1", "http://a:8081/v1/x?y=1"),
        ("http://a:8081", f"http://a:8081{ROOT}.generate"),
        ("http://a:8081/", f"http://a:8081{ROOT}.generate"),
        ("HTTP://A", f"http://a:80{ROOT}.generate"),
        ("h2c://a/x", "h2c://a:80/x"),
        ("http://[::1]:9/x", "http://[::1]:9/x"),
    ],
)
async def test_a_url_is_completed(given: str, whole: str) -> None:
    assert await url(f"default.backend.generate={given}") == whole


async def test_incarnations_last_and_differ() -> None:
    both = "default.backend.generate=http://a:1,default.backend.generate=http://b:1"
    first, second = await listing(await opened(both))
    again = await listing(await opened("default.backend.generate=http://b:1"))
    assert first.incarnation != second.incarnation
    assert again[0].incarnation == second.incarnation
    assert all(0 <= one.incarnation < 2**63 for one in (first, second))


async def test_the_codec_is_this_sides_own() -> None:
    entry = "default.backend.generate=http://a:1"
    assert [one.codec for one in await listing(await opened(entry))] == ["msgpack"]
    codec = {"DYN_REQUEST_PLANE_CODEC": "json"}
    assert [one.codec for one in await listing(await opened(entry, **codec))] == ["json"]


@pytest.mark.parametrize("instances", ["", " ", ","])
async def test_an_empty_list_says_how_to_write_one(instances: str) -> None:
    assert "such as default.backend.generate=http://balancer:8081" in await complaint(instances)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("http://a:1/x", "no '='"),
        ("=http://a:1", "not an endpoint path"),
        ("backend.generate=http://a:1", "not an endpoint path"),
        ("../x.b.c=http://a:1", "endpoint path"),
        ("a.b.c%2fd=http://a:1", "endpoint path"),
        ("a.b.c\0=http://a:1", "endpoint path"),
        ("a.*.c=http://a:1", "endpoint path"),
        ("a.b.>=http://a:1", "endpoint path"),
        (f"a.b.{'c' * 129}=http://a:1", "endpoint path"),
        ("a.b.c=", "wanted a URL"),
        ("a.b.c=a:1", "wanted a URL"),
        ("a.b.c=https://a:1", "wanted a URL http://"),
        ("a.b.c=http:///x", "wanted a URL"),
        ("a.b.c=http://a:0", "from 1 to 65535"),
        ("a.b.c=http://a:65536", "ort out of range"),
        ("a.b.c=http://a:port", "port"),
        ("a.b.c=http://0.0.0.0:1", "not a wildcard"),
        ("a.b.c=http://[::]:1", "not a wildcard"),
        ("a.b.c=http://[::1", "Invalid IPv6"),
        ("a.b.c=http://a:1/ x", "visible ASCII"),
        ("a.b.c=http://a:1/ä", "visible ASCII"),
        ("a.b.c=http://a:1/\x1b[2J", "visible ASCII"),
        ("a.b.c=http://a:1/#x", "'#'"),
    ],
)
async def test_an_entry_that_is_none(entry: str, why: str) -> None:
    problem = await complaint(f"default.backend.generate=http://a:1,{entry}")
    assert f"number 1, {entry!r}"[:60] in problem
    assert why in problem
    assert "number 0" not in problem
    assert problem.isprintable()


async def test_all_wrong_entries_are_told_at_once() -> None:
    problem = await complaint("x,a.b.c=http://a:1,y=http://b:1,a.b.c=http://a:1")
    assert [number for number in range(4) if f"number {number}," in problem] == [0, 2, 3]
    assert "it stands there twice" in problem


@pytest.mark.parametrize(
    "entry",
    ["a.b.c=http://user:s3cret@a:1", "a.b.c=http://user:s3/cret@a:1", "a.b.c=http://u:s3,cret@a", "s3cret@a"],
)
async def test_a_password_is_refused_and_not_told(entry: str) -> None:
    with pytest.raises(SettingsError, match="without user name and password") as raised:
        await opened(f"a.b.c=http://b:1,{entry}")
    assert "s3" not in str(raised.value)
    assert "cret" not in str(raised.value)


# ── a backend like the others ───────────────────────────────────────────────────────────────────────


async def test_a_worker_registers_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    discovery = await opened("default.backend.generate=http://a:1")
    registration = await discovery.reserve(GENERATE, 11)
    assert registration.instance_id == 0
    for _ in range(2):
        await registration.publish(record(GENERATE, 0, 11))
        await registration.renew()
    assert caplog.text.count("default.backend.generate is not registered anywhere") == 1
    assert len(await listing(discovery)) == 1
    await registration.withdraw()
    await registration.withdraw()
    assert len(await listing(discovery)) == 1
    assert not registration.lost.done()


async def test_after_the_listing_nothing_comes_until_it_is_closed() -> None:
    discovery = await opened("default.backend.generate=http://a:1")
    watch = discovery.watch(None)
    assert len(await anext(watch)) == 1
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await discovery.aclose()
    await discovery.aclose()
    assert await waiting is None
    assert [batch async for batch in discovery.watch(None)] == []
    with pytest.raises(DiscoveryUnavailable):
        await discovery.reserve(GENERATE, 1)


async def test_it_says_where_it_looks() -> None:
    assert (await opened("a.b.c=http://a:1")).where == "the list DYN_STATIC_INSTANCES"

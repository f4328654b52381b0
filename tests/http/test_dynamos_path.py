"""DYN_WIRE_PROFILE=dynamo: endpoints are at Dynamo's paths too, and Dynamo's records lead to them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from reqplane.errors import UnknownEndpoint
from reqplane.model import EndpointId, Instance
from reqplane_http.answers import verdict

from .conftest import ENDPOINT, OpenTransport, StartWorker, Worker, frame, soon

PROFILE = {"DYN_WIRE_PROFILE": "dynamo"}


@pytest.fixture
def http1() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False)


def dynamos_url(worker: Worker) -> str:
    return worker.listener.record(0)["http"]


async def test_one_endpoint_at_both_paths(http1: httpx.AsyncClient, worker: StartWorker) -> None:
    here = await worker(PROFILE)
    assert dynamos_url(here) == f"{here.origin}/v1/rpc/generate"
    async with http1:
        for url in (here.url, dynamos_url(here)):
            assert (await http1.post(url, content=frame(b"abc").join())).status_code == 202
        assert (await http1.get(dynamos_url(here))).status_code == 405
        assert (await http1.post(f"{here.origin}/v1/rpc/nope", content=frame().join())).status_code == 404
        assert (await http1.get(f"{here.origin}/health")).json()["endpoints"] == {str(ENDPOINT): "ready"}
    assert here.bodies() == [b"abc", b"abc"]


async def test_a_root_path_that_was_set_counts_here_too(worker: StartWorker) -> None:
    here = await worker({**PROFILE, "DYN_HTTP_RPC_ROOT_PATH": "/our/rpc"})
    assert (
        dynamos_url(here)
        == f"{here.listener.record(0)['http_tcp']['http_endpoint'].split('/our')[0]}/our/rpc/generate"
    )


async def test_the_guides_profile_has_none_of_it(http1: httpx.AsyncClient, worker: StartWorker) -> None:
    here = await worker()
    assert here.listener.record(0).keys() == {"http_tcp"}
    async with http1:
        assert (await http1.post(f"{here.origin}/v1/rpc/generate")).status_code == 404


async def test_endpoints_of_one_name_have_different_paths(
    http1: httpx.AsyncClient, transport: OpenTransport
) -> None:
    plane = await transport(PROFILE)
    ids = [EndpointId("default", component, "generate") for component in ("one", "two", "three")]
    first, second = [await Worker(plane, plane.max_frame_bytes).listen(one) for one in ids[:2]]
    assert dynamos_url(first) == f"{first.origin}/v1/rpc/generate"
    assert dynamos_url(second) == f"{first.origin}/v1/rpc/default.two.generate"
    async with http1:
        for here in (first, second):
            answer = await http1.post(dynamos_url(here), content=frame(dynamos_url(here).encode()).join())
            assert answer.status_code == 202
        assert first.bodies() == [dynamos_url(first).encode()]
        assert second.bodies() == [dynamos_url(second).encode()]
        await first.listener.close()
        assert (await http1.post(dynamos_url(first), content=frame().join())).status_code == 404
        assert (await http1.post(dynamos_url(second), content=frame().join())).status_code == 202
    third = await Worker(plane, plane.max_frame_bytes).listen(ids[2])
    assert dynamos_url(third) == dynamos_url(first)


@pytest.mark.parametrize(
    "path", ["/v1/rpc/generate", "/v1/rpc/default.backend.generate", "/another/root/generate", "/x?y=z"]
)
async def test_dynamos_record_is_a_target_whatever_its_path(transport: OpenTransport, path: str) -> None:
    """HTTP/1.1 and one frame a POST: its records announce nothing else."""
    plane = await transport()
    target = plane.target(instance({"http": f"http://10.0.0.2:8888{path}"}))
    assert target is not None
    assert (target.address, target.path) == ("10.0.0.2:8888", path)
    assert (target.most_by_h2, target.lane) == (0, None)


async def test_our_own_record_in_dynamos_form_keeps_what_we_know(
    transport: OpenTransport, worker: StartWorker
) -> None:
    here = await worker(PROFILE)
    plane = await transport()
    target = plane.target(instance(here.listener.record(0)))
    assert target is not None
    assert target.most_by_h2
    assert target.lane is not None
    await plane.send(target, frame(b"abc"), {}, soon(5))
    assert here.bodies() == [b"abc"]


async def test_a_frontend_sends_where_dynamos_record_says(
    transport: OpenTransport, worker: StartWorker
) -> None:
    here = await worker(PROFILE)
    plane = await transport()
    target = plane.target(instance({"http": dynamos_url(here)}))
    assert target is not None
    await plane.send(target, frame(b"abc"), {"traceparent": "00-1"}, soon(5))
    assert here.bodies() == [b"abc"]
    assert here.got[0].headers == {"traceparent": "00-1"}


def test_what_dynamo_says_where_it_serves_nothing() -> None:
    """Recorded from 0.7.1 and 0.9.1.  Another worker may well serve it."""
    error = verdict(404, None, "Endpoint not found", 100, "10.0.0.2:8888")
    assert isinstance(error, UnknownEndpoint)
    assert error.retry_elsewhere


def instance(transport: Any) -> Instance:
    return Instance(ENDPOINT, 7, 7, transport)

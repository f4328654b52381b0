"""The guide, 15 to 18: what travels, and on which connections."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import Fleet
from .places import Frontend, Place, Running, eventually, served
from .wiretap import PREFACE, Wiretap, make_frame

pytestmark = pytest.mark.system

URL = "http://localhost:8081/v1/dynamo/namespace.default.component.backend.endpoint.generate"


def listening(process: Running) -> list[int]:
    return [int(port) for port in re.findall(r":(\d+) \(LISTEN\)", process.sockets())]


def connected_to(process: Running, port: int) -> int:
    """How many connections it has to this port."""
    return len(re.findall(rf"->\S+:{port} \(ESTABLISHED\)", process.sockets()))


def test_guide_15_posts_arrive_by_http2_and_by_http1_on_one_port(machine: Place, over_http: Fleet):
    """From curl, with a frame that was made by hand and names an address where nobody listens."""
    info = {"address": "127.0.0.1:9999", "subject": "s", "context": "c", "stream_type": "response"}
    header = {
        **{"id": "c", "request_type": "single_in", "response_type": "many_out"},
        "connection_info": {"transport": "tcp_server", "info": json.dumps(info)},
    }
    (machine.folder / "frame").write_bytes(make_frame(header, b"{}"))
    curl = (
        f"curl -sS -X POST --data-binary @{machine.folder}/frame -w '%{{http_code}} %{{http_version}}' {URL}"
    )
    assert machine.types(f"{curl}.instance.0 --http1.1") == "202 1.1"
    assert machine.types(f"{curl}.instance.0 --http2-prior-knowledge") == "202 2"
    assert machine.types(f"{curl} --http1.1") == "202 1.1"
    assert len(eventually(lambda: re.findall("127.0.0.1:9999", over_http.workers[0].printed())))


def test_guide_16_the_frontend_pools_connections(fleets: dict[str, Fleet]):
    fleet = fleets["http"]
    fleet.ask(count=30, workers=2)
    fleet.ask(count=60, at_once=True)
    for worker in fleet.workers:
        assert 1 <= max(connected_to(fleet.frontend, port) for port in listening(worker)) <= 2


def test_guide_16_size_and_idle_time_of_the_pool_are_settings(here: Place):
    """By HTTP/1.1, where each request needs a connection for itself."""
    path, env = "pool.backend.generate", {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "static"}
    worker = here.worker(path, **env, DYN_STATIC_INSTANCES=f"{path}=http://nowhere:1")
    port = int(worker.says(r"serving .* at http://127\.0\.0\.1:(\d+)/")[1])
    frontend = here.frontend(
        **env,
        DYN_STATIC_INSTANCES=f"{path}=http://127.0.0.1:{port}",
        DYN_HTTP2_POOL_MAX_IDLE_PER_HOST="3",
        DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS="1",
    )
    answers = frontend.ask(path, count=20, at_once=True, workers=1)
    assert not any(answer["error"] for answer in answers)
    assert 1 <= connected_to(frontend, port) <= 3
    eventually(lambda: connected_to(frontend, port) == 0)


# ── HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────────


def tapped(here: Place, tap: Wiretap, path: str) -> tuple[Running, Frontend]:
    """A worker that tells others the tap's address, and a frontend."""
    advertised = f"127.0.0.1:{tap.port}"
    worker = here.worker(path, DYN_REQUEST_PLANE="http", DYN_HTTP_RPC_ADVERTISE_HOST=advertised)
    frontend = here.frontend(DYN_REQUEST_PLANE="http")
    tap.target = int(worker.says(r"Starting HTTP endpoint server on 127\.0\.0\.1:(\d+)")[1])
    served(worker)
    return worker, frontend


def test_guide_17_http2_is_on_the_wire(here: Place):
    """Nobody has asked for it: cleartext, by prior knowledge, many requests on one connection."""
    with Wiretap() as tap:
        _, frontend = tapped(here, tap, "h2.backend.generate")
        answers = frontend.ask("h2.backend.generate", count=20, at_once=True, workers=1)
        assert not any(answer["error"] for answer in answers)
        (said,) = tap.said
        assert said.startswith(PREFACE)
        assert b"HTTP/1.1" not in said


def test_guide_17_an_origin_without_http2_gets_http1_and_nothing_is_lost(here: Place):
    """Its answer to the preface is `HTTP/1.1 400`, as that of the guide's own nginx.

    That it is asked again after a minute: test_guide_17_it_is_asked_again_after_a_minute, in tests/http.
    """
    with Wiretap(only_http1=True) as tap:
        _, frontend = tapped(here, tap, "h1.backend.generate")
        answers = frontend.ask("h1.backend.generate", count=20, workers=1)
        assert not any(answer["error"] for answer in answers)
        assert len({answer["items"][0]["id"] for answer in answers}) == 20
        preface, *posts = tap.said
        assert preface.startswith(PREFACE)
        assert posts
        assert all(said.startswith(b"POST /v1/dynamo/namespace.h1.") for said in posts)


# ── the way back ────────────────────────────────────────────────────────────────────────────────────


def test_guide_18_the_worker_calls_home_by_tcp_on_each_plane(each: Fleet):
    """The frontend listens, and each worker has connected to it."""
    assert len({answer["items"][0]["pid"] for answer in each.ask(count=4, workers=2)}) == 2
    (port,) = listening(each.frontend)
    for worker in each.workers:
        assert connected_to(worker, port) == 1

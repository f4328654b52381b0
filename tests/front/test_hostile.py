"""Clients that break the rules, or go as far as they allow."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fleet import PATH, Fleet
from front.conftest import RunningFront, curl, error, eventually

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("kv"))
    fleet.start("speak")
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def front(shared: Fleet) -> RunningFront:
    front = RunningFront(shared, DYN_MAX_FRAME_BYTES="200000")
    eventually(lambda: curl(front.calls(), "-d", '{"n": 0}').status == 200)
    return front


def connect(front: RunningFront) -> socket.socket:
    host, _, port = front.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def post(body: bytes, *headers: str, target: str = f"/v1/endpoints/{PATH}", version: str = "1.1") -> bytes:
    head = [f"POST {target} HTTP/{version}", "host: front", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def said(front: RunningFront, sent: bytes) -> str:
    """What comes for these bytes until the other side closes."""
    with connect(front) as connection:
        connection.sendall(sent)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.decode()


CLOSE = "connection: close"


# ── HTTP ──


@pytest.mark.parametrize(
    "target",
    [f"http://front/v1/endpoints/{PATH}", f"HTTP://front:80/v1/endpoints/{PATH}?timeout=5"],
)
def test_a_target_may_be_absolute(front: RunningFront, target: str):
    answer = said(front, post(b'{"n": 1}', CLOSE, target=target))
    assert answer.startswith("HTTP/1.1 200")
    assert '{"i":0}' in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"GET\r\n\r\n",
        b"\x00\xff\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 500_000,
    ],
)
def test_junk_is_refused_and_hurts_nobody(front: RunningFront, sent: bytes):
    answer = said(front, sent)
    assert not answer or answer.split()[1][0] in "45", answer[:100]
    assert curl(front.calls(), "-d", '{"n": 1}').body == '{"i":0}\n'


def test_requests_in_a_row_are_answered_in_order(front: RunningFront):
    requests = [post(json.dumps({"n": n}).encode()) for n in (1, 2)]
    answer = said(front, requests[0] + requests[1] + post(b'{"n": 0}', CLOSE))
    assert answer.count("HTTP/1.1 200") == 3
    assert answer.count('{"i":0}') == 2
    assert answer.count('{"i":1}') == 1


def test_one_connection_serves_many_requests(front: RunningFront):
    with httpx.Client() as client:
        for n in range(3):
            assert client.post(front.calls(), json={"n": n}).text.count("\n") == n
        assert client.get(f"{front.url}/nothing").status_code == 404
        answer = client.post(front.calls(), json={"n": 1})
        stream: Any = answer.extensions["network_stream"]
        assert stream is not None
        assert answer.status_code == 200


def test_an_expected_100_is_sent(front: RunningFront):
    answer = curl(front.calls(), "-v", "-H", "Expect: 100-continue", "-d", '{"n": 1}')
    assert (answer.status, answer.body) == (200, '{"i":0}\n')


def test_by_http_1_0_only_what_ends_by_itself_is_sent(front: RunningFront):
    answer = curl(front.calls(), "--http1.0", "-d", '{"n": 1}')
    assert answer.status == 505
    assert "proxy_http_version 1.1" in error(answer)["message"]
    answer = curl(front.calls(), "--http1.0", "-H", "accept: text/event-stream", "-d", '{"n": 1}')
    assert answer.body.endswith('event: end\ndata: {"items": 1}\n\n')


def test_who_leaves_out_its_host_still_gets_health(front: RunningFront):
    assert said(front, b"GET /health HTTP/1.0\r\n\r\n").startswith("HTTP/1.")


@pytest.mark.parametrize("path", ["/health/", "/metrics/x", "//health", "/HEALTH", "/v1/endpoints"])
def test_paths_are_what_they_are(front: RunningFront, path: str):
    assert curl("--path-as-is", front.url + path).status == 404


# ── bodies ──


async def test_requests_that_are_refused_leave_the_others_of_their_connection_alone(front: RunningFront):
    """On HTTP/2, where an answer before the end of a request would kill its whole connection."""
    large, too_large = "x" * 150_000, "x" * 250_000
    async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:
        slow = [asyncio.create_task(client.post(front.calls(), json={"n": 20, "pause": 0.05})) for _ in "ab"]
        refused = await asyncio.gather(
            client.post(f"{front.url}/nothing", content=large),
            client.put(front.calls(), content=large),
            client.post(front.calls(), content=large),
            client.post(front.calls(), content=too_large),
            client.post(f"{front.url}/health", content=too_large),
        )
        assert [answer.status_code for answer in refused] == [404, 405, 400, 413, 413]
        for one in slow:
            assert (await one).text.endswith('{"i":19}\n')


@pytest.mark.parametrize("http", ["--http1.1", "--http2-prior-knowledge"])
def test_a_body_far_too_large_ends_its_connection(front: RunningFront, http: str, tmp_path: Path):
    large = tmp_path / "large"
    large.write_bytes(b"[" + b"0," * 2_000_000 + b"0]")
    answer = curl(front.calls(), http, "-H", "Expect:", "--data-binary", f"@{large}")
    assert answer.status == 413 or answer.exit != 0
    assert curl(front.calls(), http, "-d", '{"n": 1}').status == 200


def test_a_body_that_trickles_has_its_time(
    front: RunningFront, monkeypatch: pytest.MonkeyPatch, shared: Fleet
):
    code = (
        "import sys, reqplane.front.app as app; app.BODY_SECONDS = 0.5; "
        "from reqplane.cli import main; sys.exit(main(['frontend', '--http-port', '0']))"
    )
    quick = RunningFront(shared, command=("-c", code))
    with connect(quick) as slow:
        slow.sendall(post(b"")[:-2].replace(b"content-length: 0", b"content-length: 100") + b"\r\n{")
        begin = time.monotonic()
        answer = slow.recv(65536)
        assert time.monotonic() - begin < 5
        assert answer.startswith(b"HTTP/1.1 408")


def test_bodies_that_would_be_too_much_together_are_refused(shared: Fleet):
    front = RunningFront(shared, DYN_MAX_INFLIGHT_BYTES="100000")
    body = b'{"n": 1, "x": "' + b"x" * 60_000 + b'"}'
    with connect(front) as first:
        first.sendall(post(body)[:-1])
        time.sleep(0.3)
        answer = curl(front.calls(), "-d", body.decode())
        assert answer.status == 503
        assert "DYN_MAX_INFLIGHT_BYTES" in error(answer)["message"]
    eventually(lambda: curl(front.calls(), "-d", body.decode()).status == 200)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"n": NaN}', "not JSON"),
        (b'\xff\xfe{"n": 1}', "not JSON"),
        (b"[" + b"[]," * 70_000 + b"[]]", "TooLarge"),
        (b'{"n": 1} {"n": 2}', "not JSON"),
    ],
)
def test_bodies_that_are_nearly_json(front: RunningFront, body: bytes, words: str):
    answer = httpx.post(front.calls(), content=body)
    assert answer.status_code in (400, 413)
    assert words in answer.text


def test_a_compressed_body_is_told_apart_from_a_bad_one(front: RunningFront):
    answer = curl(front.calls(), "-H", "content-encoding: gzip", "-d", "{}")
    assert answer.status == 415


# ── headers ──


def test_header_junk_reaches_nobody(front: RunningFront):
    answer = httpx.post(
        front.calls(),
        json={"headers": 1},
        headers={b"x-request-id": b"caf\xc3\xa9", b"traceparent": b"y" * 3000, b"tracestate": b"a=1"},
    )
    assert answer.json() == {"tracestate": "a=1"}
    assert answer.headers["x-request-id"].isascii()


def test_a_time_out_may_be_a_header(front: RunningFront):
    answer = curl(front.calls(), "-H", "x-request-timeout: 0.2", "-d", '{"n": 1, "pause": 5}')
    assert (answer.status, error(answer)["type"]) == (504, "DeadlineExceeded")


def test_pages_of_others_may_not_call(front: RunningFront):
    for origin in ("http://elsewhere.example", "null"):
        answer = curl(front.calls(), "-H", f"Origin: {origin}", "-d", '{"n": 1}')
        assert (answer.status, error(answer)["type"]) == (403, "NotAllowed")
    assert curl(front.calls(), "-H", f"Origin: {front.url}", "-d", '{"n": 1}').status == 200


def test_errors_tell_the_request_that_they_belong_to(front: RunningFront):
    for arguments in (("-d", "{"), ("-X", "PUT"), ("-d", '{"n": 1, "fail": 0}')):
        answer = curl(front.calls(), "-i", "-H", "x-request-id: mine", *arguments)
        assert "x-request-id: mine" in answer.body
        assert error(answer)["request_id"]


@pytest.mark.parametrize(
    "query", ["?timeout=1&timeout=2", "?instance=-1", "?instance=%31%00", "?timeout=inf"]
)
def test_options_that_cannot_be_meant(front: RunningFront, query: str):
    assert curl(front.calls() + query, "-d", "{}").status == 400


# ── many ──


def test_more_connections_than_it_may_have_push_out_idle_ones(shared: Fleet):
    code = (
        "import sys, reqplane.front.server as server; server._MOST_CONNECTIONS = 20; "
        "from reqplane.cli import main; sys.exit(main(['frontend', '--http-port', '0']))"
    )
    front = RunningFront(shared, command=("-c", code))
    idle = [connect(front) for _ in range(60)]
    try:
        assert curl(front.calls(), "-d", '{"n": 1}').status == 200
        assert len(psutil.Process(front.process.pid).net_connections()) < 60
    finally:
        for one in idle:
            one.close()


async def test_clients_that_go_at_once_leave_nothing_behind(front: RunningFront):
    async def begin_and_go() -> None:
        _, writer = await asyncio.open_connection(*front.url.removeprefix("http://").split(":"))
        writer.write(post(b'{"n": 1000, "pause": 0.01}'))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    await asyncio.gather(*(begin_and_go() for _ in range(100)))
    none = f'reqplane_calls_in_flight{{endpoint="{PATH}"}} 0.0'
    eventually(lambda: none in curl(f"{front.url}/metrics").body, within=5)

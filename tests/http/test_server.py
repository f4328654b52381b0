"""The worker's side, seen by stock HTTP clients and raw sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
import reqplane_http.body
from hyperframe.frame import GoAwayFrame
from reqplane.errors import (
    NotAllowed,
    RequestRefused,
    UnknownEndpoint,
    WorkerBusy,
    WorkerDraining,
    WrongInstance,
    refusal,
)

from .conftest import PATH, StartWorker, Worker, frame
from .hostile import Raw2


@pytest.fixture
async def http1() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    two = request.param == "HTTP/2"
    async with httpx.AsyncClient(http1=not two, http2=two, trust_env=False) as client:
        yield client


async def test_a_frame_is_answered_202_with_nothing(client: httpx.AsyncClient, worker: StartWorker) -> None:
    here = await worker()
    answer = await client.post(here.url, content=frame(b"abc").join())
    assert (answer.status_code, answer.content) == (202, b"")
    assert here.bodies() == [b"abc"]
    assert here.got[0].plane == "http"
    assert here.got[0].peer is not None
    assert here.got[0].peer.address.startswith("127.0.0.1:")


async def test_both_versions_share_the_port(
    http1: httpx.AsyncClient, http2: httpx.AsyncClient, worker: StartWorker
) -> None:
    """Statements 15 and 17."""
    here = await worker()
    body = frame().join()
    assert (await http1.post(here.url, content=body)).http_version == "HTTP/1.1"
    assert (await http2.post(here.url, content=body)).http_version == "HTTP/2"


async def test_the_ack_comes_before_the_handler_has_run(
    client: httpx.AsyncClient, worker: StartWorker
) -> None:
    here = await worker()
    done: list[str] = []

    async def handle() -> None:
        await asyncio.sleep(0.3)
        done.append("handler")

    tasks: list[asyncio.Task[None]] = []
    here.on_accept = lambda _: tasks.append(asyncio.ensure_future(handle()))
    await client.post(here.url, content=frame().join())
    assert done == []
    await tasks[0]


async def test_raw_junk_is_400_with_the_guides_text(client: httpx.AsyncClient, worker: StartWorker) -> None:
    """Statement 46."""
    here = await worker()
    for junk in (b"", b"hello", b"\xff" * 100, frame().join() + b"x", frame().join()[:-1]):
        answer = await client.post(here.url, content=junk)
        assert answer.status_code == 400
        assert answer.headers["x-reqplane-refusal"] == "invalid_frame"
        assert answer.text.startswith("Two Part Codec Error: Invalid message: ")
    assert here.got == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownEndpoint("not here"), 404),
        (WrongInstance("not me"), 421),
        (WorkerDraining("going"), 503),
        (WorkerBusy("full"), 503),
        (NotAllowed("no"), 403),
        (refusal("of_a_later_version", "hm"), 503),
    ],
)
async def test_each_refusal_has_its_status_and_code(
    error: RequestRefused, status: int, client: httpx.AsyncClient, worker: StartWorker
) -> None:
    here = await worker()
    here.refuse = error
    answer = await client.post(here.url, content=frame().join())
    assert answer.status_code == status
    assert answer.headers["x-reqplane-refusal"] == error.code
    assert answer.headers["content-type"].startswith("text/plain")
    assert error.problem in answer.text


async def test_a_defect_in_accept_is_logged_and_answered_500(
    client: httpx.AsyncClient, worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    here = await worker()
    here.refuse = ZeroDivisionError("secret")
    answer = await client.post(here.url, content=frame().join())
    assert answer.status_code == 500
    assert answer.headers["x-reqplane-refusal"] == "refused"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    here.refuse = None
    assert (await client.post(here.url, content=frame().join())).status_code == 202


@pytest.mark.parametrize("suffix", ["", ".instance.0", ".instance.12345678901234567890"])
async def test_paths_with_and_without_any_instance(
    suffix: str, client: httpx.AsyncClient, worker: StartWorker
) -> None:
    """Statement 37."""
    here = await worker()
    answer = await client.post(here.origin + PATH + suffix, content=frame().join())
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/dynamo/namespace.default.component.backend.endpoint.other", "unknown_endpoint"),
        ("/v1/dynamo/namespace.default.component.backend.endpoint.other.instance.3", "unknown_endpoint"),
        (PATH + ".instance.x", "unknown_endpoint"),
        (PATH + "/", None),
        ("/v1/dynamo", None),
        ("/v2/dynamo/namespace.default.component.backend.endpoint.generate", None),
        ("/", None),
    ],
)
async def test_other_paths_are_404(
    path: str, code: str | None, client: httpx.AsyncClient, worker: StartWorker
) -> None:
    here = await worker()
    answer = await client.post(here.origin + path, content=frame().join())
    assert answer.status_code == 404
    assert answer.headers.get("x-reqplane-refusal") == code
    assert path in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_405(method: str, client: httpx.AsyncClient, worker: StartWorker) -> None:
    here = await worker()
    answer = await client.request(method, here.url, content=b"x" * 100_000)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await client.request(method, here.url)).status_code == 405
    health = await client.put(here.origin + "/health")
    assert (health.status_code, health.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_compressed_bodies_are_415(client: httpx.AsyncClient, worker: StartWorker) -> None:
    here = await worker()
    answer = await client.post(here.url, content=frame().join(), headers={"content-encoding": "gzip"})
    assert answer.status_code == 415
    assert here.got == []


@pytest.mark.parametrize("path", ["/v1/dynamo/health", "/health"])
async def test_health(path: str, client: httpx.AsyncClient, worker: StartWorker) -> None:
    """Statement 28: `curl -X POST http://localhost:8081/v1/dynamo/health`."""
    here = await worker()
    url = here.origin + path
    expected = {"status": "healthy", "endpoints": {"default.backend.generate": "ready"}}
    for method in ("GET", "POST"):
        answer = await client.request(method, url)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.text) == expected
    assert (await client.post(url, content=b"x" * 5000)).status_code == 200
    head = await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    await here.listener.drain()
    assert (await client.get(url)).json()["endpoints"] == {"default.backend.generate": "draining"}


async def test_only_the_carried_headers_reach_accept_and_unchanged(
    client: httpx.AsyncClient, worker: StartWorker
) -> None:
    """Statement 21."""
    here = await worker()
    sent = {
        "TraceParent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        "X-Request-Id": 'a "quoted" id; x=1',
        "x-dynamo-request-id": "b",
        "request-id": "c",
        "x-reqplane-instance": "0/7",
    }
    other = {"authorization": "secret", "cookie": "a=b", "user-agent": "x"}
    await client.post(here.url, content=frame().join(), headers={**sent, **other})
    assert here.got[0].headers == {name.lower(): value for name, value in sent.items()}


async def test_413_leaves_the_others_on_its_connection_alone(
    http2: httpx.AsyncClient, worker: StartWorker
) -> None:
    here = await worker(max_frame_bytes=50_000)
    small = frame(b"x" * 20_000).join()

    async def post(body: bytes) -> int:
        return (await http2.post(here.url, content=body)).status_code

    answers = await asyncio.gather(*(post(small if n % 5 else b"x" * 90_000) for n in range(40)))
    assert answers == [202 if n % 5 else 413 for n in range(40)]
    assert max(len(delivery.frame) for delivery in here.got) <= 50_000


async def test_a_body_over_twice_the_limit_is_reset_alone(
    http2: httpx.AsyncClient, worker: StartWorker
) -> None:
    here = await worker(max_frame_bytes=50_000)
    small = frame(b"x" * 20_000).join()
    good = [http2.post(here.url, content=small) for _ in range(10)]
    bad = http2.post(here.url, content=b"x" * 1_000_000)
    *answers, lost = await asyncio.gather(*good, bad, return_exceptions=True)
    assert [answer.status_code for answer in answers if isinstance(answer, httpx.Response)] == [202] * 10
    assert isinstance(lost, httpx.TransportError)
    assert (await http2.post(here.url, content=small)).status_code == 202


async def exchange(here: Worker, *pieces: bytes, pause: float = 0) -> bytes:
    """Write to the worker, piece by piece; all that it answers until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def post_of(length: int, *headers: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "host: x", f"content-length: {length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def test_the_bytes_of_an_http1_answer(worker: StartWorker) -> None:
    here = await worker()
    body = frame().join()
    answer = await exchange(here, post_of(len(body), "connection: close") + body)
    assert answer == b"HTTP/1.1 202 \r\ncontent-length: 0\r\nConnection: close\r\n\r\n"


async def test_413_over_http1_when_the_body_never_ends(worker: StartWorker) -> None:
    here = await worker(max_frame_bytes=50_000)
    answer = await exchange(here, post_of(10**9), b"x" * 100_100)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"at most 50000 are allowed" in answer


async def test_a_dribbled_body_has_a_deadline(worker: StartWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reqplane_http.body, "BODY_SECONDS", 0.2)
    here = await worker()
    body = frame().join()
    answer = await exchange(here, post_of(len(body)), body[:3], body[3:5], pause=0.05)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert here.got == []
    assert (await exchange(here, post_of(len(body), "connection: close") + body)).startswith(b"HTTP/1.1 202")


async def test_a_dribbled_body_is_reset_on_http2_and_leaves_the_others_alone(
    http2: httpx.AsyncClient, worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reqplane_http.body, "BODY_SECONDS", 0.2)
    here = await worker()

    async def dribble() -> AsyncIterator[bytes]:
        for byte in frame().join():
            yield bytes((byte,))
            await asyncio.sleep(0.03)

    slow = asyncio.ensure_future(http2.post(here.url, content=dribble()))
    for _ in range(10):
        assert (await http2.post(here.url, content=frame(b"fast").join())).status_code == 202
        await asyncio.sleep(0.04)
    with pytest.raises(httpx.TransportError):
        await slow
    assert here.bodies() == [b"fast"] * 10


async def test_a_caller_that_leaves_in_the_middle_of_a_body(worker: StartWorker) -> None:
    here = await worker()
    _, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(post_of(1000) + b"x" * 10)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    body = frame().join()
    assert b" 202 " in await exchange(here, post_of(len(body), "connection: close") + body)
    assert here.bodies() == [b"hello"]


async def test_a_caller_that_goes_away_still_gets_its_answers(worker: StartWorker) -> None:
    """By GOAWAY it only says that it will ask no more."""
    here = await worker()
    async with Raw2(here.port) as peer:
        stream = peer.ask()
        peer.h2.send_data(stream, frame().join(), end_stream=True)
        await peer.send(peer.h2.data_to_send() + GoAwayFrame(0).serialize())
        assert (await peer.answered(stream)).status == 202
        await peer.send(GoAwayFrame(0).serialize())
        assert await peer.ended() is None
    assert len(here.got) == 1


async def test_raw_junk_instead_of_http(worker: StartWorker) -> None:
    here = await worker()
    assert (await exchange(here, b"\x00\x01\x02 junk\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    body = frame().join()
    assert b" 202 " in await exchange(here, post_of(len(body), "connection: close") + body)


async def test_the_guides_log_line_and_no_other(
    worker: StartWorker,
    http1: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Statement 34."""
    caplog.set_level(logging.DEBUG, logger="reqplane")
    here = await worker({"DYN_HTTP_RPC_HOST": "0.0.0.0"})
    await http1.post(here.url, content=frame().join())
    await here.listener.close()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("reqplane")]
    assert lines == [f"Starting HTTP endpoint server on 0.0.0.0:{here.port}"]
    assert capfd.readouterr() == ("", "")

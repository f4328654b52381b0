"""The HTTP front as a process, asked by curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fleet import PATH, Fleet
from front.conftest import Answer, RunningFront, curl, error, eventually

pytestmark = pytest.mark.system

EVENTS = ("-H", "Accept: text/event-stream")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("kv"))
    fleet.start("speak")
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def front(shared: Fleet) -> RunningFront:
    front = RunningFront(shared)
    eventually(lambda: curl(front.calls(), "-d", '{"n": 0}').status == 200)
    return front


def call(front: RunningFront, request: object, *arguments: str, query: str = "") -> Answer:
    return curl(front.calls() + query, *arguments, "-d", json.dumps(request))


# ── answers ──


@pytest.mark.parametrize("http", ["--http1.1", "--http2-prior-knowledge"])
def test_items_are_lines_of_json(front: RunningFront, http: str):
    answer = call(front, {"n": 3}, http)
    assert answer == Answer(0, 200, '{"i":0}\n{"i":1}\n{"i":2}\n')


def test_an_empty_answer_is_whole_too(front: RunningFront):
    assert call(front, {}) == Answer(0, 200, "")


@pytest.mark.parametrize("http", ["--http1.1", "--http2-prior-knowledge"])
def test_events_end_with_an_end(front: RunningFront, http: str):
    answer = call(front, {"n": 2}, http, *EVENTS)
    assert answer == Answer(0, 200, 'data: {"i":0}\n\ndata: {"i":1}\n\nevent: end\ndata: {"items": 2}\n\n')


@pytest.mark.parametrize("http", ["--http1.1", "--http2-prior-knowledge"])
def test_a_failure_in_mid_stream_is_told_and_never_looks_whole(front: RunningFront, http: str):
    answer = call(front, {"n": 3, "fail": 2}, http)
    assert answer.exit != 0
    assert answer.status == 200
    assert answer.body.splitlines()[:2] == ['{"i":0}', '{"i":1}']
    assert error(answer)["type"] == "HandlerFailed"
    assert "told to" in error(answer)["message"]


def test_a_failure_in_mid_stream_is_an_event(front: RunningFront):
    answer = call(front, {"n": 3, "fail": 1}, *EVENTS)
    assert answer.exit != 0
    *_, kind, data = answer.body.strip().splitlines()
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["type"] == "HandlerFailed"


def test_bytes_are_marked_and_what_json_has_not_is_an_error(front: RunningFront):
    assert call(front, {"odd": "bytes"}).body == '{"$bytes":"AP8="}\n'
    answer = call(front, {"odd": "nan"})
    assert answer.status == 500
    assert error(answer)["type"] == "PayloadError"


def test_trace_headers_reach_the_worker_and_the_id_comes_back(front: RunningFront):
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-request-id": "me"}
    arguments = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    answer = call(front, {"headers": 1}, "-i", *arguments)
    head, _, body = answer.body.partition("\n\n")
    assert json.loads(body) == headers
    assert "x-request-id: me" in head


def test_one_worker_can_be_asked_for(front: RunningFront):
    assert call(front, {"n": 1}, query="?instance=0").status == 200
    answer = call(front, {"n": 1}, query="?instance=7")
    assert answer.status == 503
    assert "with the id 7; the ids are 0" in error(answer)["message"]


# ── statuses ──


def test_an_error_before_the_first_item_has_its_status(front: RunningFront):
    answer = call(front, {"n": 1, "fail": 0})
    assert (answer.exit, answer.status) == (0, 500)
    assert error(answer)["type"] == "HandlerFailed"
    assert error(answer)["request_id"]


def test_a_deadline_before_the_first_item_is_a_gateway_timeout(front: RunningFront):
    answer = call(front, {"n": 1, "pause": 5}, query="?timeout=0.2")
    assert answer.status == 504
    assert error(answer)["type"] == "DeadlineExceeded"


@pytest.mark.parametrize(
    ("body", "query", "status", "words"),
    [
        ("{", "", 400, "not JSON"),
        ("[" * 100_000, "", 400, "not JSON"),
        (" ", "", 400, "the body is empty"),
        ("{}", "?timeout=soon", 400, "wanted seconds above 0"),
        ("{}", "?timeout=-1", 400, "wanted seconds above 0"),
        ("{}", "?instance=first", 400, "wanted a worker's number"),
        ("{}", "?wait=1", 400, "there is no option 'wait'"),
    ],
)
def test_bad_requests(front: RunningFront, body: str, query: str, status: int, words: str):
    with httpx.Client() as client:
        answer = client.post(front.calls() + query, content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("test.worker.generat", 503, "did you mean test.worker.generate?"),
        ("nobody", 404, "wanted namespace.component.endpoint"),
        ("a/../b", 404, "can't be part of an endpoint path"),
        ("%2e%2e%2fetc%2fpasswd", 404, "can't be part of an endpoint path"),
        ("", 404, "is not an endpoint path"),
    ],
)
def test_paths_that_lead_nowhere(front: RunningFront, path: str, status: int, words: str):
    answer = curl("--path-as-is", f"{front.url}/v1/endpoints/{path}", "-d", "{}")
    assert answer.status == status
    assert words in error(answer)["message"]


def test_other_pages_and_methods(front: RunningFront):
    assert curl(front.url).status == 404
    assert curl(front.calls()).status == 405
    assert curl(f"{front.url}/health", "-X", "DELETE").status == 405
    assert curl(f"{front.url}/health", "-I").status == 200


def test_a_body_that_is_too_large_is_refused(shared: Fleet):
    front = RunningFront(shared, DYN_MAX_FRAME_BYTES="4096")
    for http in ("--http1.1", "--http2-prior-knowledge"):
        answer = curl(front.calls(), http, "-H", "Expect:", "-d", json.dumps("x" * 5000))
        assert answer.status == 413
        assert "DYN_MAX_FRAME_BYTES" in error(answer)["message"]


# ── hanging up, slow readers, many ──


@pytest.mark.parametrize("http", ["--http1.1", "--http2-prior-knowledge"])
def test_the_handler_stops_when_the_client_hangs_up(front: RunningFront, tmp_path: Path, http: str):
    written = tmp_path / "item"
    request = json.dumps({"n": 400, "pause": 0.05, "file": str(written)})
    curl_path = shutil.which("curl")
    if curl_path is None:
        pytest.skip("there is no curl here")
    process = subprocess.Popen(
        [curl_path, "-sN", http, front.calls(), "-d", request], stdout=subprocess.DEVNULL
    )
    eventually(written.exists)
    process.kill()
    process.wait()
    time.sleep(1.0)
    reached = written.read_text()
    time.sleep(0.3)
    assert written.read_text() == reached
    assert reached != "done"


def test_a_reader_that_sleeps_slows_the_worker(front: RunningFront, tmp_path: Path):
    written = tmp_path / "item"
    address = front.url.removeprefix("http://").split(":")
    request = json.dumps({"n": 2000, "size": 50_000, "file": str(written)}).encode()
    with socket.create_connection((address[0], int(address[1]))) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        head = f"POST /v1/endpoints/{PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request)}\r\n\r\n"
        slow.sendall(head.encode() + request)
        eventually(written.exists)
        time.sleep(1.5)
        reached = int(written.read_text())
        time.sleep(0.5)
        assert int(written.read_text()) == reached < 1000


async def test_many_calls_at_once(front: RunningFront):
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        answers = await asyncio.gather(
            *(client.post(front.calls(), json={"n": 5, "pause": 0.01}) for _ in range(200))
        )
    assert {answer.text for answer in answers} == {"".join(f'{{"i":{i}}}\n' for i in range(5))}


# ── health and metrics ──


def test_health(front: RunningFront):
    answer = curl(f"{front.url}/health")
    assert json.loads(answer.body) == {"status": "healthy", "endpoints": {PATH: {"workers": 1}}}


def test_metrics(front: RunningFront):
    call(front, {"n": 3})
    text = curl(f"{front.url}/metrics").body
    assert 'http_requests_total{method="POST",path="/v1/endpoints/{path}",status="200"}' in text
    for name in ("calls_total", "items_total", "attempts_total", "first_item_seconds_count", "workers"):
        assert f'reqplane_{name}{{endpoint="{PATH}"' in text
    assert f'reqplane_calls_in_flight{{endpoint="{PATH}"}} 0.0' in text
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool here (Debian's package prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_counter_is_there_before_the_first_request(shared: Fleet):
    front = RunningFront(shared)
    assert 'http_requests_total{method="POST"' in curl(f"{front.url}/metrics").body


def test_made_up_paths_make_no_series(front: RunningFront):
    for number in range(20):
        curl(front.calls(f"made.up.path{number}"), "-d", "{}")
        curl(f"{front.url}/made/up/{number}")
    text = curl(f"{front.url}/metrics").body
    assert "made" not in text


# ── what is offered, and where ──


def test_only_what_was_named_is_offered(shared: Fleet):
    front = RunningFront(shared, "--endpoint", "other.*", "--endpoint", "test.*.chat")
    answer = curl(front.calls(), "-d", "{}")
    assert answer.status == 404
    assert "is not offered here" in error(answer)["message"]


def exit_of(fleet: Fleet, *arguments: str) -> tuple[int, str]:
    process = fleet.run("-m", "reqplane", "frontend", *arguments)
    _, told = process.communicate(timeout=30)
    return process.returncode, told


def test_beyond_loopback_it_must_be_said_what_is_offered(fleet: Fleet):
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        status, told = exit_of(fleet, "--http-host", host)
        assert status == 2
        assert "--endpoint PATTERN" in told


def test_options_that_cannot_be(fleet: Fleet):
    assert exit_of(fleet, "--http-port", "70000")[0] == 2
    assert exit_of(fleet, "--http-host", "http://x")[0] == 2


def test_a_port_that_is_taken_is_named(shared: Fleet, front: RunningFront):
    port = front.url.rpartition(":")[2]
    status, told = exit_of(shared, "--http-port", port)
    assert status == 2
    assert "--http-port" in told
    assert "=0" in told or "0" in told


def test_without_the_extra_it_says_what_to_install(fleet: Fleet, tmp_path: Path):
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec; hidden = 'prometheus_client'; "
        "importlib.util.find_spec = lambda name, *more: None if name == hidden else find(name, *more); "
        "from reqplane.cli import main; sys.exit(main(['frontend']))"
    )
    process = fleet.run("-c", code)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert 'prometheus_client not installed: `pip install "reqplane[frontend]"`' in told


# ── leaving ──


def test_calls_that_do_not_end_are_cut_off(shared: Fleet):
    front = RunningFront(shared, DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT="0.5")
    eventually(lambda: curl(front.calls(), "-d", "{}").status == 200)
    curl_path = shutil.which("curl") or "curl"
    with subprocess.Popen(
        [curl_path, "-sSN", front.calls(), "-d", '{"n": 1000, "pause": 0.1}'],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline(), "the answer never began"
        front.process.send_signal(signal.SIGINT)
        assert front.process.wait(20) == 1
        one.communicate(timeout=20)
    assert one.returncode != 0

"""What becomes of calls when clients hang up or read slowly, or the front leaves; and what it counts."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from fleet import PATH, Fleet
from front.conftest import RunningFront, curl, error, eventually

pytestmark = pytest.mark.system

HTTP = ["--http1.1", "--http2-prior-knowledge"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("kv"))
    fleet.start("speak")
    fleet.start("marked", "test.worker.marked")
    fleet.start("gated", "test.worker.gated")
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def front(shared: Fleet) -> RunningFront:
    return serving(shared)


def serving(fleet: Fleet, **env: str) -> RunningFront:
    """A front that knows the workers."""
    front = RunningFront(fleet, **env)
    eventually(lambda: curl(front.calls(), "-d", '{"n": 0}').status == 200)
    return front


def metric(front: RunningFront, name: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    text = curl(f"{front.url}/metrics").body
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = re.findall(rf"^reqplane_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    return sum(float(value) for series, value in found if all(one in series for one in wanted))


# ── hanging up ──


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_hanging_up_before_the_first_item_stops_the_handler(
    front: RunningFront, tmp_path: Path, http2: bool
):
    mark = tmp_path / "mark"
    eventually(lambda: curl(front.calls("test.worker.marked"), "-d", "{}").status == 500)
    request = {"mark": str(mark), "silent": True}
    async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=60) as client:
        call = asyncio.create_task(client.post(front.calls("test.worker.marked"), json=request))
        while not mark.exists() or mark.read_text() != "running":
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])
    begin = time.monotonic()
    eventually(lambda: mark.read_text() in ("stopped", "cancelled"), within=5)
    assert time.monotonic() - begin < 3


async def test_one_stream_of_a_connection_is_left_and_the_others_go_on(front: RunningFront):
    before = metric(front, "calls_in_flight")
    async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:
        others = [
            asyncio.create_task(client.post(front.calls(), json={"n": 20, "pause": 0.05})) for _ in "ab"
        ]
        async with client.stream("POST", front.calls(), json={"n": 9999, "pause": 0.01}) as left:
            async for _ in left.aiter_lines():
                break
        for other in others:
            assert (await other).text.endswith('{"i":19}\n')
    eventually(lambda: metric(front, "calls_in_flight") == before, within=3)


# ── slow readers ──


async def test_readers_that_sleep_take_no_memory(front: RunningFront):
    process = psutil.Process(front.process.pid)
    before = process.memory_info().rss
    request = {"n": 100_000, "size": 10_000}
    async with (
        httpx.AsyncClient(http1=False, http2=True, timeout=20) as two,
        httpx.AsyncClient(timeout=20) as one,
    ):
        for client in (two, one):
            for _ in range(5):
                await client.send(client.build_request("POST", front.calls(), json=request), stream=True)
        await asyncio.sleep(1.5)
        assert process.memory_info().rss - before < 60_000_000
        assert (await one.get(f"{front.url}/health")).status_code == 200
    eventually(lambda: metric(front, "calls_in_flight") == 0)


# ── leaving ──


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_fifty_calls_in_flight_end_whole_when_it_leaves(shared: Fleet, tmp_path: Path, http2: bool):
    front, gate = serving(shared), tmp_path / "gate"
    url = front.calls("test.worker.gated")
    async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=50) as client:
        calls = [asyncio.create_task(client.post(url, json={"gate": str(gate)})) for _ in range(50)]
        while await asyncio.to_thread(metric, front, "first_item_seconds_count") < 51:
            await asyncio.sleep(0.05)
        front.process.send_signal(signal.SIGTERM)
        # By connections of their own: httpx may leave an answer lying while others of a connection wait.
        async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=50) as late:
            while (await late.get(f"{front.url}/health")).status_code != 503:
                await asyncio.sleep(0.01)
            for _ in range(10):
                assert (await late.post(front.calls(), json={"n": 1})).status_code == 503
        gate.touch()
        for call in calls:
            assert (await call).text == '"begun"\n"done"\n'
    assert await asyncio.to_thread(front.process.wait, 20) == 0
    assert not [line for line in front.told if "Traceback" in line]


@pytest.mark.parametrize("http", HTTP)
def test_calls_that_are_cut_off_at_the_end_say_so(shared: Fleet, http: str):
    front = serving(shared, DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT="0.3")

    async def call_and_leave():
        work = asyncio.to_thread(curl, front.calls(), http, "-d", '{"n": 9999, "pause": 0.05}')
        call = asyncio.create_task(work)
        while metric(front, "calls_in_flight") < 1:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        front.process.send_signal(signal.SIGINT)
        return await call

    answer = asyncio.run(call_and_leave())
    assert answer.exit != 0
    assert error(answer)["type"] == "Draining"
    assert front.process.wait(20) == 1


async def test_idle_connections_do_not_hold_it_up(shared: Fleet):
    front = serving(shared)
    host, _, port = front.url.removeprefix("http://").rpartition(":")
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
    begin = time.monotonic()
    front.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(front.process.wait, 20) == 0
    assert time.monotonic() - begin < 5
    for _, writer in idle:
        writer.close()


# ── what is known, and counted ──


def test_health_knows_what_nobody_called_yet(shared: Fleet):
    front = RunningFront(shared)
    wanted = {path: {"workers": 1} for path in (PATH, "test.worker.marked", "test.worker.gated")}
    eventually(lambda: json.loads(curl(f"{front.url}/health").body)["endpoints"] == wanted)


def test_calls_are_counted_by_what_became_of_them(shared: Fleet):
    front = serving(shared)
    done = metric(front, "calls_total")
    for request in ('{"n": 3}', '{"n": 3, "fail": 1}'):
        curl(front.calls(), "-d", request)
    curl(front.calls("no.such.endpoint"), "-d", "{}")
    assert metric(front, "calls_total", endpoint=PATH) == done + 2
    assert metric(front, "items_total", endpoint=PATH) == 4
    assert metric(front, "call_errors_total", error="HandlerFailed") == 1
    assert metric(front, "attempts_total", plane="http") == done + 2
    assert metric(front, "first_item_seconds_count") == done + 2
    assert metric(front, "call_duration_seconds_count") == done + 2
    assert metric(front, "workers", endpoint=PATH) == 1


def test_another_try_is_counted_as_one(fleet: Fleet, tmp_path: Path):
    """A worker with room for one call refuses another, which goes to the other worker."""
    bounds = ("--max-concurrent", "1", "--max-queued", "0")
    for _ in range(2):
        fleet.run("-m", "reqplane", "serve", "handlers:gated", PATH, *bounds)
    front = RunningFront(fleet)
    eventually(lambda: metric(front, "workers", endpoint=PATH) == 2)
    long, short = json.dumps({"gate": str(tmp_path / "none")}), json.dumps({"gate": str(tmp_path)})
    with httpx.stream("POST", front.calls(), content=long, timeout=30) as busy:
        assert busy.status_code == 200
        for _ in range(3):
            assert curl(front.calls(), "-d", short).status == 200
    assert metric(front, "retries_total", endpoint=PATH, plane="http") >= 1


def test_with_the_mode_direct_a_worker_must_be_named(shared: Fleet):
    front = RunningFront(shared, DYN_ROUTER_MODE="direct")
    eventually(lambda: curl(front.calls() + "?instance=0", "-d", '{"n": 1}').status == 200)
    answer = curl(front.calls(), "-d", '{"n": 1}')
    assert (answer.status, error(answer)["type"]) == (400, "BadRequest")
    assert "?instance=ID" in error(answer)["message"]


@pytest.mark.parametrize("pattern", ["a.b", "a.b.c.d", "a/b/c", "", "a b.*"])
def test_a_pattern_that_matches_nothing_is_an_error(fleet: Fleet, pattern: str):
    process = fleet.run("-m", "reqplane", "frontend", "--endpoint", pattern)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "matches no endpoint" in told

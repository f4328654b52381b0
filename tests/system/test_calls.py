"""Calls between real processes over http, found by the file backend."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import reqplane
from fleet import PATH, Fleet
from memory_planes import eventually
from ports import free_port
from reqplane import DeadlineExceeded, NoInstances, StreamBroken
from reqplane.sockets import split_address

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "discovery")
    yield fleet
    fleet.close()


async def collect(stream: reqplane.Stream) -> list:
    return [item async for item in stream]


async def test_three_workers_answer_in_turn_and_one_by_name(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.start("context")
    async with fleet.client(workers=3) as client:
        assert client.instance_ids() == [0, 1, 2]
        answers = [(await collect(client.round_robin({})))[0] for _ in range(9)]
        assert sorted(Counter(answer["pid"] for answer in answers).values()) == [3, 3, 3]
        named = {(await collect(client.direct({}, 1)))[0]["pid"] for _ in range(3)}
        assert len(named) == 1


async def test_id_headers_and_deadline_reach_the_handler(fleet: Fleet) -> None:
    fleet.start("context")
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
    async with fleet.client() as client:
        context = reqplane.Context("the-id", headers=headers)
        (seen,) = await collect(client.generate({}, context=context, timeout=7))
        assert seen["id"] == "the-id"
        assert headers.items() <= seen["headers"].items()
        assert 5 < seen["seconds"] <= 7
        (seen,) = await collect(client.generate({}))
        assert seen["seconds"] is None


async def test_64_calls_to_one_worker_share_one_response_connection(fleet: Fleet) -> None:
    worker = fleet.start("count")
    async with fleet.client() as client:
        calls = [asyncio.ensure_future(collect(client.generate({"n": 50, "pause": 0.01}))) for _ in range(64)]
        await asyncio.sleep(0.3)
        _, port = split_address(client.calling.response.advertised)
        connections = psutil.Process().net_connections("tcp")
        ours = [
            one for one in connections if one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
        ]
        assert len(ours) == 1
        assert await asyncio.gather(*calls) == [list(range(50))] * 64
    assert worker.poll() is None


async def test_one_reader_that_sleeps_holds_nobody_up_and_costs_the_worker_little(fleet: Fleet) -> None:
    worker = fleet.start("count")
    async with fleet.client() as client:
        await asyncio.gather(*(collect(client.generate({"n": 1000})) for _ in range(64)))
        process = psutil.Process(worker.pid)
        before = process.memory_info().rss
        loop = asyncio.get_running_loop()
        slow = await client.generate({"n": 100_000, "padding": 1000})
        async for _ in slow:
            break
        asleep_until = loop.time() + 5
        others = await asyncio.gather(*(collect(client.generate({"n": 1000})) for _ in range(63)))
        assert all(items == list(range(1000)) for items in others)
        assert loop.time() < asleep_until, "the others took longer than the sleep; the machine is overloaded"
        await asyncio.sleep(asleep_until - loop.time())
        assert process.memory_info().rss - before < 16 << 20
        async for item in slow:  # awake again: it goes on where it stood
            if item["i"] == 2000:
                break
        await slow.aclose()


async def test_a_worker_killed_in_mid_stream_breaks_its_streams_and_no_others(fleet: Fleet) -> None:
    victim = fleet.start("count")
    async with fleet.client() as client:
        streams = [await client.generate({"n": 10_000, "pause": 0.002}) for _ in range(8)]
        received: list[list[int]] = [[] for _ in streams]

        async def read(stream: reqplane.Stream, items: list[int]) -> None:
            async for item in stream:
                items.append(item)

        readers = [asyncio.ensure_future(read(*pair)) for pair in zip(streams, received, strict=True)]
        await eventually(lambda: all(len(items) > 5 for items in received))
        victim.send_signal(signal.SIGKILL)
        errors = await asyncio.gather(*readers, return_exceptions=True)
        for error, items in zip(errors, received, strict=True):
            assert isinstance(error, StreamBroken)
            assert error.items_received == len(items)
            assert items == list(range(len(items)))
        await eventually(lambda: not client.instances(), within=5)
        with pytest.raises(NoInstances):
            await collect(client.generate({"n": 1}))


async def test_a_worker_whose_loop_stands_still_keeps_its_place(fleet: Fleet) -> None:
    """The handler blocks for longer than the TTL."""
    fleet.env["DYN_FILE_TTL"] = "1"
    fleet.start("freeze")
    async with fleet.client() as client:
        call = asyncio.ensure_future(collect(client.generate({"seconds": 2.2})))
        while not call.done():
            assert client.instance_ids() == [0]
            await asyncio.sleep(0.02)
        assert call.result() == ["freezing", "awake"]


async def test_calls_go_on_while_a_worker_is_killed(fleet: Fleet) -> None:
    victim, other = fleet.start("count"), fleet.start("count")
    async with fleet.client(workers=2) as client:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        for _ in range(20):  # at once, before discovery has noticed
            assert await collect(client.generate({"n": 3})) == [0, 1, 2]
    assert other.poll() is None


@pytest.mark.parametrize(
    ("leave", "end"), [("break", "cancelled"), ("stop", "stopped"), ("deadline", "cancelled")]
)
async def test_leaving_stops_the_handler_within_a_second(
    fleet: Fleet, tmp_path: Path, leave: str, end: str
) -> None:
    fleet.start("marked")
    mark = tmp_path / "mark"
    async with fleet.client() as client:
        request = {"mark": str(mark)}
        if leave == "deadline":
            with pytest.raises(DeadlineExceeded):
                await collect(client.generate(request, timeout=0.3))
        elif leave == "break":
            async for item in client.generate(request):
                if item == "5":
                    break
        else:
            stream = client.generate(request)
            async for item in stream:
                if item == "5":
                    stream.stop_generating()
        await eventually(lambda: mark.read_text() == end, within=5)


async def test_a_frontend_killed_stops_its_handlers(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start("marked")
    mark = tmp_path / "mark"
    frontend = fleet.run("-m", "reqplane", "call", PATH, json.dumps({"mark": str(mark)}))
    await eventually(lambda: mark.exists() and mark.read_text() == "running", within=20)
    frontend.send_signal(signal.SIGKILL)
    await eventually(lambda: mark.read_text() == "cancelled", within=5)


async def test_a_frontend_restarted_on_its_port_never_gets_its_predecessors_items(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.start("marked")
    async with fleet.client():
        pass  # it is there
    port = str(free_port())
    first = _call(fleet, tmp_path / "first", "first", port)
    assert first.stdout is not None
    for _ in range(20):
        assert first.stdout.readline().startswith('"first')
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = _call(fleet, tmp_path / "second", "second", port)
    assert second.stdout is not None
    lines = [second.stdout.readline() for _ in range(200)]
    assert lines == [f'"second{i}"\n' for i in range(200)]
    await eventually(lambda: (tmp_path / "first").read_text() == "cancelled")
    second.send_signal(signal.SIGINT)
    assert second.wait(10) == 130


def _call(fleet: Fleet, mark: Path, name: str, port: str) -> subprocess.Popen[str]:
    request = json.dumps({"mark": str(mark), "name": name, "pause": 0.001})
    return fleet.run("-m", "reqplane", "call", PATH, request, DYN_TCP_RESPONSE_STREAM_PORT=port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_leaves_finishes_what_it_has_and_takes_nothing_new(
    fleet: Fleet, number: signal.Signals
) -> None:
    leaver, _stayer = fleet.start("context", path="test.worker.context"), fleet.start("count")
    leaver = fleet.start("count")
    async with fleet.client(workers=2) as client:
        by_pid = {}
        for instance_id in client.instance_ids():
            stream = await client.direct({"n": 300, "pause": 0.005}, instance_id)
            by_pid[instance_id] = stream
        leaver.send_signal(number)
        leaving = asyncio.get_running_loop().time()
        answers = []
        while asyncio.get_running_loop().time() < leaving + 0.8:
            answers.append(await collect(client.generate({"n": 2})))
        assert answers == [[0, 1]] * len(answers)
        assert [await collect(stream) for stream in by_pid.values()] == [list(range(300))] * 2
        assert await asyncio.to_thread(leaver.wait, 10) == 0
        assert len(client.instances()) == 1


async def test_the_guides_log_line_and_health(fleet: Fleet) -> None:
    worker = fleet.start("count")
    async with fleet.client() as client:
        url = client.instances()[0].transport["http_tcp"]["http_endpoint"]
        root = url.rsplit("/", 1)[0]
        for method in ("GET", "POST"):
            request = urllib.request.Request(f"{root}/health", method=method)
            with await asyncio.to_thread(urllib.request.urlopen, request) as answer:
                assert (answer.status, json.load(answer)["endpoints"]) == (200, {PATH: "ready"})
    worker.send_signal(signal.SIGTERM)
    _, errors = await asyncio.to_thread(worker.communicate)
    address = root.removeprefix("http://").split("/")[0]
    assert f"Starting HTTP endpoint server on {address}" in errors
    assert f"serving {PATH} as instance 0 on http" in errors
    assert "Traceback" not in errors


async def test_ten_thousand_calls_leave_nothing_behind(fleet: Fleet) -> None:
    worker = fleet.start("count")
    async with fleet.client():
        pass  # it is there
    frontend = fleet.run(str(Path(__file__).parent / "growth.py"), PATH, str(worker.pid))
    output, errors = await asyncio.to_thread(frontend.communicate)
    assert frontend.returncode == 0, errors
    grown = json.loads(output)
    assert (grown["tasks"], grown["descriptors"], grown["worker_descriptors"]) == (0, 0, 0)
    assert grown["bytes"] < 1 << 20
    assert grown["worker_bytes"] < 1 << 20

"""Calls from a client to a handler, by variables alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import reqplane
from ports import free_port
from reqplane import Context, UnknownEndpoint
from reqplane.errors import CannotConnect, DeliveryUnknown, NoInstances
from reqplane.model import NEVER
from reqplane.wire.frame import Frame
from servers import Nats

from .conftest import opened, target_of, until


async def count(request: dict[str, Any], context: Context) -> AsyncIterator[dict[str, Any]]:
    for i in range(request["n"]):
        yield {"i": i, "headers": dict(context.headers)}


@asynccontextmanager
async def serving(env: dict[str, str], path: str) -> AsyncGenerator[reqplane.DistributedRuntime]:
    async with reqplane.connect(env, signals=False) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint(path).serve_endpoint(count))
        yield runtime
        runtime.shutdown()
        await serving


@pytest.fixture
def env(nats: Nats, tmp_path: Path) -> dict[str, str]:
    return {
        "DYN_REQUEST_PLANE": "nats",
        "NATS_SERVER": nats.url,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(tmp_path / "kv"),
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
    }


async def test_guide_2_and_21_a_call_and_its_headers(env: dict[str, str]) -> None:
    async with serving(env, "whole.calls.count"), reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint("whole.calls.count").client()
        await client.wait_for_instances(timeout=10)
        assert [item["i"] async for item in client.generate({"n": 100})] == list(range(100))
        headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        (item,) = [one async for one in client.generate({"n": 1}, context=Context(headers=headers))]
        assert item["headers"]["traceparent"] == headers["traceparent"]
        (instance,) = client.instances()
        assert list(instance.transport) == ["nats_tcp"]
        stream = client.direct({"n": 2}, instance.instance_id)
        assert [item["i"] async for item in stream] == [0, 1]


async def test_guide_27_three_workers_share_the_load(env: dict[str, str]) -> None:
    path = "whole.three.count"
    async with (
        serving(env, path),
        serving(env, path),
        serving(env, path),
        reqplane.connect(env, signals=False) as frontend,
    ):
        client = await frontend.endpoint(path).client()
        await until(lambda: len(client.instances()) == 3)

        async def one() -> list[int]:
            return [item["i"] async for item in client.generate({"n": 3})]

        assert await asyncio.gather(*(one() for _ in range(300))) == [[0, 1, 2]] * 300


async def test_a_frame_for_another_endpoint_is_refused(env: dict[str, str]) -> None:
    """It strayed: `a_b.c.x` and `a.b_c.x` have one subject in one process."""
    async with serving(env, "whole.strayed.count"), reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint("whole.strayed.count").client()
        await client.wait_for_instances(timeout=10)
        (instance,) = client.instances()
        info = {"address": "127.0.0.1:9", "subject": str(uuid.uuid4()), "context": "1"}
        head = {
            "id": "1",
            "endpoint": "whole.strayed.other",
            "request_type": "single_in",
            "response_type": "many_out",
            "connection_info": {
                "transport": "tcp_server",
                "info": json.dumps({**info, "stream_type": "response"}),
            },
        }
        async with opened({"NATS_SERVER": env["NATS_SERVER"]}) as plane:
            target = target_of(instance.transport["nats_tcp"], plane)
            with pytest.raises(UnknownEndpoint):
                await plane.send(target, Frame(json.dumps(head).encode(), b"{}"), {}, NEVER)


async def test_guide_13_with_nats_down_http_goes_on(env: dict[str, str]) -> None:
    """A process of both planes whose NATS is away: requests go by the other."""
    both = {**env, "NATS_SERVER": f"nats://127.0.0.1:{free_port()}", "DYN_REQUEST_PLANE": "nats,http"}
    only_http = {**env, "DYN_REQUEST_PLANE": "http"}
    async with serving(only_http, "whole.both.count"), reqplane.connect(both, signals=False) as frontend:
        client = await frontend.endpoint("whole.both.count").client()
        await client.wait_for_instances(timeout=10)
        assert [item["i"] async for item in client.generate({"n": 3})] == [0, 1, 2]


async def test_guide_55_each_worker_on_the_plane_of_its_record(env: dict[str, str]) -> None:
    path = "whole.mixed.count"
    async with (
        serving(env, path),
        serving({**env, "DYN_REQUEST_PLANE": "http"}, path),
        serving({**env, "DYN_REQUEST_PLANE": "http,nats"}, path),
        reqplane.connect({**env, "DYN_REQUEST_PLANE": "http,nats"}, signals=False) as frontend,
    ):
        client = await frontend.endpoint(path).client()
        await until(lambda: len(client.instances()) == 3)
        for instance in client.instances():
            stream = client.direct({"n": 2}, instance.instance_id)
            assert [item["i"] async for item in stream] == [0, 1]


async def test_a_server_that_dies_under_calls(own_nats: Nats, env: dict[str, str]) -> None:
    """Answers under way come by TCP and go on; new calls fail at once, and work again by themselves."""
    env = {**env, "NATS_SERVER": own_nats.url}
    async with serving(env, "whole.dying.count"), reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint("whole.dying.count").client()
        await client.wait_for_instances(timeout=10)
        stream = client.generate({"n": 20_000})
        items = aiter(stream)
        await anext(items)
        own_nats.kill()
        assert len([item async for item in items]) == 19_999
        with pytest.raises(CannotConnect, match="no connection to the NATS server"):
            async with asyncio.timeout(5):
                [item async for item in client.generate({"n": 1})]
        own_nats.start()
        async with asyncio.timeout(10):
            while True:
                try:
                    got = [item["i"] async for item in client.generate({"n": 2})]
                except CannotConnect:
                    await asyncio.sleep(0.05)
                else:
                    break
        assert got == [0, 1]


async def test_a_worker_that_leaves_under_load_fails_nothing(env: dict[str, str]) -> None:
    path = "whole.leaving.count"
    results: list[object] = []
    async with serving(env, path), reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint(path).client()

        async def one() -> int:
            return len([item async for item in client.generate({"n": 3})])

        async with serving(env, path):
            await until(lambda: len(client.instances()) == 2)
            calls = [asyncio.ensure_future(one()) for _ in range(200)]
            await asyncio.sleep(0.02)
        calls += [asyncio.ensure_future(one()) for _ in range(50)]
        results = list(await asyncio.gather(*calls, return_exceptions=True))
    assert results == [3] * 250


WORKER = """
import asyncio, os, reqplane
async def count(request):
    for i in range(request["n"]):
        yield os.getpid()
async def main():
    async with reqplane.connect() as runtime:
        await runtime.endpoint("whole.killed.count").serve_endpoint(count)
asyncio.run(main())
"""


async def test_workers_that_are_killed_or_frozen(env: dict[str, str]) -> None:
    """Killed: its server knows at once.  Frozen: nobody can know, so the caller hears that after its time."""
    workers = [subprocess.Popen([sys.executable, "-c", WORKER], env={**os.environ, **env}) for _ in range(2)]
    env = {**env, "DYN_NATS_REQUEST_TIMEOUT_SECS": "2"}
    try:
        async with reqplane.connect(env, signals=False) as frontend:
            client = await frontend.endpoint("whole.killed.count").client()
            await until(lambda: len(client.instances()) == 2, 20)

            async def call() -> int:
                (pid,) = [item async for item in client.generate({"n": 1})]
                return pid

            assert {await call() for _ in range(4)} == {worker.pid for worker in workers}
            workers[0].kill()
            workers[0].wait()
            await asyncio.sleep(0.5)  # its server is another process, which has to hear of it
            began = time.monotonic()
            assert [await call() for _ in range(6)] == [workers[1].pid] * 6
            assert time.monotonic() - began < 3
            workers[1].send_signal(signal.SIGSTOP)
            with pytest.raises(DeliveryUnknown, match="DYN_NATS_REQUEST_TIMEOUT_SECS"):
                await call()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


async def test_no_worker_at_all(env: dict[str, str]) -> None:
    """Statement 45."""
    async with reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint("whole.nobody.count").client()
        with pytest.raises(NoInstances, match="No instances found"):
            [item async for item in client.generate({"n": 1})]

"""Calls from a client to a handler, by variables alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import reqplane
from reqplane import Context
from reqplane.errors import DeliveryUnknown, FrameTooLarge, WorkerBusy

from .conftest import until

PATH = "whole.calls.count"


async def count(request: dict[str, Any], context: Context) -> AsyncIterator[dict[str, Any]]:
    for i in range(request["n"]):
        yield {"i": i, "headers": dict(context.headers)}


@asynccontextmanager
async def serving(env: dict[str, str], **bounds: Any) -> AsyncGenerator[reqplane.DistributedRuntime]:
    async with reqplane.connect(env, signals=False) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint(PATH).serve_endpoint(count, **bounds))
        yield runtime
        runtime.shutdown()
        await serving


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(tmp_path / "kv"),
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
    }


async def test_a_call_and_its_headers(env: dict[str, str]):
    async with serving(env), reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint(PATH).client()
        await client.wait_for_instances(timeout=10)
        assert [item["i"] async for item in client.generate({"n": 100})] == list(range(100))
        headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        (item,) = [one async for one in client.generate({"n": 1}, context=Context(headers=headers))]
        assert item["headers"]["traceparent"] == headers["traceparent"]
        (instance,) = client.instances()
        assert list(instance.transport) == ["tcp"]
        assert instance.planes == ("tcp",)
        stream = client.direct({"n": 2}, instance.instance_id)
        assert [item["i"] async for item in stream] == [0, 1]


async def test_each_worker_on_the_plane_of_its_record(env: dict[str, str]):
    async with (
        serving(env),
        serving({**env, "DYN_REQUEST_PLANE": "http"}),
        serving({**env, "DYN_REQUEST_PLANE": "http,tcp"}),
        reqplane.connect({**env, "DYN_REQUEST_PLANE": "tcp,http"}, signals=False) as frontend,
    ):
        client = await frontend.endpoint(PATH).client()
        await until(lambda: len(client.instances()) == 3)
        for instance in client.instances():
            stream = client.direct({"n": 2}, instance.instance_id)
            assert [item["i"] async for item in stream] == [0, 1]


async def test_a_busy_worker_and_a_request_that_is_too_large(env: dict[str, str]):
    async with (
        serving(env, max_concurrent=1, max_queued=0),
        reqplane.connect(env, signals=False) as frontend,
    ):
        client = await frontend.endpoint(PATH).client()
        await client.wait_for_instances(timeout=10)
        async with client.generate({"n": 1_000_000}) as stream:
            await anext(aiter(stream))
            with pytest.raises(WorkerBusy, match=r"1 requests of whole\.calls\.count are running"):
                [item async for item in client.generate({"n": 1})]
        with pytest.raises(FrameTooLarge, match="DYN_MAX_FRAME_BYTES"):
            [item async for item in client.generate({"n": 1, "pad": bytes(40_000_000)})]


async def test_workers_that_leave_one_after_the_other_lose_nothing(env: dict[str, str]):
    """Each is replaced while a hundred calls are under way."""
    results: list[int] = []
    async with reqplane.connect(env, signals=False) as frontend:
        client = await frontend.endpoint(PATH).client()
        over = asyncio.Event()

        async def keep_calling() -> None:
            while not over.is_set():
                results.append(len([item async for item in client.generate({"n": 50})]))

        async with serving(env):
            await client.wait_for_instances(timeout=10)
            callers = [asyncio.ensure_future(keep_calling()) for _ in range(100)]
            for _ in range(4):
                async with serving(env):
                    await until(lambda: len(client.instances()) == 2)
                    await asyncio.sleep(0.2)
            over.set()
            await asyncio.gather(*callers)
    assert set(results) == {50}


WORKER = f"""
import asyncio, os, reqplane
async def count(request):
    for i in range(request["n"]):
        yield os.getpid()
async def main():
    async with reqplane.connect() as runtime:
        await runtime.endpoint("{PATH}").serve_endpoint(count)
asyncio.run(main())
"""


@contextmanager
def processes(env: dict[str, str], count: int) -> Generator[list[subprocess.Popen[bytes]]]:
    """Workers in processes of their own."""
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], env={**os.environ, **env}) for _ in range(count)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


async def test_workers_that_are_killed_or_frozen(env: dict[str, str]):
    """Killed: its connections end at once.  Frozen: nobody can know, so it takes the time of an ack."""
    with processes(env, 2) as workers:
        env = {**env, "DYN_TCP_REQUEST_TIMEOUT": "1"}
        async with reqplane.connect(env, signals=False) as frontend:
            client = await frontend.endpoint(PATH).client()
            await until(lambda: len(client.instances()) == 2, 20)

            async def call() -> int:
                (pid,) = [item async for item in client.generate({"n": 1})]
                return pid

            assert {await call() for _ in range(4)} == {worker.pid for worker in workers}
            workers[0].kill()
            workers[0].wait()
            await asyncio.sleep(0.05)  # the loop reads that the connection is gone
            began = time.monotonic()
            assert [await call() for _ in range(6)] == [workers[1].pid] * 6
            assert time.monotonic() - began < 3
            workers[1].send_signal(signal.SIGSTOP)
            with pytest.raises(DeliveryUnknown, match="DYN_TCP_REQUEST_TIMEOUT"):
                await call()
            workers[1].send_signal(signal.SIGCONT)
            assert await call() == workers[1].pid

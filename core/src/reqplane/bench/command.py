"""`reqplane bench`: a worker process, a frontend, three loads, one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import reqplane
from reqplane.bench.worker import serve
from reqplane.bench.workloads import WORKLOADS, Sample, Workload, measure, percentile
from reqplane.cli.arguments import Commands, UsageError, add_command, seconds
from reqplane.cli.running import CannotGoOn, chosen_or_local, run_async
from reqplane.cli.tables import table
from reqplane.client import Client
from reqplane.settings import environment

_LOADS = ("W1", "W2", "W3y")
_WARM_UP = 0.25
"""Of the time of a load, before it is measured."""
_PATIENCE = 30.0
"""Seconds for the worker to come, and for each load beyond its own time."""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "bench",
        run,
        summary="measure latency, throughput and streaming of the chosen plane on this machine",
        example="reqplane bench --seconds 5",
    )
    parser.add_argument(
        "--seconds", metavar="S", type=seconds, default=2.0, help="how long each of the three loads runs"
    )
    parser.add_argument("--worker", metavar="PATH", help=argparse.SUPPRESS)


def run(arguments: Any) -> int:
    """Measure; with --worker be the worker that is measured."""
    if arguments.worker is not None:
        return run_async(serve(arguments.worker))
    chosen = {"DYN_LOG": "warning", **chosen_or_local()}
    if environment(chosen).get("DYN_DISCOVERY_BACKEND") == "mem":
        raise UsageError("DYN_DISCOVERY_BACKEND=mem reaches one process only, this takes two; use file")
    with tempfile.TemporaryDirectory(prefix="reqplane-bench-") as folder:
        return run_async(_bench({**chosen, "DYN_FILE_KV": folder}, arguments.seconds))


async def _bench(env: Mapping[str, str], duration: float) -> int:
    """Start a worker, load it, print the table."""
    path = f"bench.w{uuid.uuid4().hex[:12]}.generate"
    async with reqplane.connect(env, signals=False) as runtime, _worker(env, path) as worker:
        client = await runtime.endpoint(path).client("round_robin")
        await _present(client, worker)
        print(_heading(runtime, duration), flush=True)
        rows = [await _measured(WORKLOADS[name], client, worker.pid, duration) for name in _LOADS]
    print(table([("LOAD", "CALLS/S", "P50", "P99", "FIRST ITEM", "ITEMS/S", "CPU/CALL"), *rows]))
    print("\nLatency is from the call to its last item.  Compare settings on one machine, not machines.")
    return 0


# ── the worker ──


@asynccontextmanager
async def _worker(env: Mapping[str, str], path: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A process of its own; it is gone at the end, whatever happens."""
    program = (sys.executable, "-m", "reqplane", "bench", "--worker", path)
    pipe = asyncio.subprocess.PIPE
    worker = await asyncio.create_subprocess_exec(
        *program, env=environment(env), stdin=pipe, start_new_session=True
    )
    try:
        yield worker
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        try:
            async with asyncio.timeout(5):
                await worker.wait()
        except TimeoutError:
            worker.kill()
            await worker.wait()


async def _present(client: Client, worker: asyncio.subprocess.Process) -> None:
    """Wait for the worker, but not for one that has ended."""
    present = asyncio.ensure_future(client.wait_for_instances(timeout=_PATIENCE))
    ended = asyncio.ensure_future(worker.wait())
    await asyncio.wait((present, ended), return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not present.done():
        present.cancel()
        raise CannotGoOn("the worker could not start; its own words stand above")
    present.result()


# ── the figures ──


async def _measured(workload: Workload, client: Client, worker: int, duration: float) -> tuple[str, ...]:
    """Warm up, measure, and put the figures into a row."""
    try:
        async with asyncio.timeout(2 * duration + _PATIENCE):
            await measure(workload, client.generate, duration * _WARM_UP)
            before = _cpu(worker)
            sample = await measure(workload, client.generate, duration)
            after = _cpu(worker)
    except TimeoutError:
        raise CannotGoOn(f"{workload.what}: its last calls did not end within {_PATIENCE:g} s") from None
    spent = None if before is None or after is None else after - before
    return (workload.what, *_figures(sample, spent))


def _figures(sample: Sample, cpu: float | None) -> tuple[str, ...]:
    return (
        f"{sample.calls / sample.seconds:,.0f}",
        _time(statistics.median(sample.latency_us)),
        _time(percentile(sample.latency_us, 0.99)),
        _time(statistics.median(sample.first_item_us)),
        f"{sample.items / sample.seconds:,.0f}",
        "-" if cpu is None else _time(cpu / sample.calls * 1e6),
    )


def _time(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:,.1f} ms"


def _cpu(worker: int) -> float | None:
    """Seconds that this process and the worker have computed; None where the system does not tell."""
    try:
        with open(f"/proc/{worker}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _heading(runtime: reqplane.DistributedRuntime, duration: float) -> str:
    settings = runtime.settings
    loop = "uvloop" if find_spec("uvloop") else "asyncio"
    return (
        f"{settings.planes[0]} requests, {settings.codec}, {loop}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs; three loads of {duration:g} s each.\n"
        f"A frontend and a worker, two processes of this machine; CPU is that of both.\n"
    )

"""`reqplane bench` measures a worker of its own, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from reqplane.bench.workloads import WORKLOADS, Workload, measure, percentile

pytestmark = pytest.mark.system
COMMAND = [sys.executable, "-m", "reqplane", "bench"]


def test_a_table_of_three_loads(processes: Any, bare: dict[str, str], tmp_path: Path):
    status, printed = processes.run("reqplane bench --seconds 0.2", bare, tmp_path)
    assert status == 0, printed
    assert "http requests, msgpack, " in printed
    rows = printed.split("LOAD", 1)[1].splitlines()[1:4]
    for row, name in zip(rows, ("W1", "W2", "W3y"), strict=True):
        assert row.startswith(WORKLOADS[name].what)
        assert len(re.findall(r"(?<=  )[\d,.]+", row)) == 6, row
    assert not list(Path(bare["TMPDIR"]).iterdir()), "something was left in the temp directory"


def test_mem_discovery_cannot_be_measured(processes: Any, bare: dict[str, str], tmp_path: Path):
    env = bare | {"DYN_DISCOVERY_BACKEND": "mem", "DYN_REQUEST_PLANE": "http"}
    status, printed = processes.run("reqplane bench", env, tmp_path)
    assert status == 2
    assert "use file" in printed


def test_a_worker_that_cannot_start_is_no_traceback(processes: Any, bare: dict[str, str], tmp_path: Path):
    env = bare | {"DYN_HTTP_RPC_HOST": "203.0.113.1"}  # nobody's
    status, printed = processes.run("reqplane bench", env, tmp_path)
    assert status == 1, printed
    assert "reqplane: DYN_HTTP_RPC_HOST='203.0.113.1': can't listen there" in printed
    assert printed.endswith("reqplane: the worker could not start; its own words stand above\n")
    assert "Traceback" not in printed


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_its_worker_goes_with_it(bare: dict[str, str], tmp_path: Path, how: signal.Signals):
    bench = subprocess.Popen(
        [*COMMAND, "--seconds", "30"], env=bare, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert bench.stdout is not None
        assert bench.stdout.readline().startswith(b"http requests")
        (worker,) = psutil.Process(bench.pid).children()
        bench.send_signal(how)
        bench.communicate(timeout=30)
        assert bench.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
        psutil.wait_procs([worker], timeout=30)
        assert not worker.is_running()
    finally:
        bench.kill()
        bench.communicate()


async def test_time_bounds_a_load():
    async def call(request: Any) -> AsyncIterator[int]:
        time.sleep(0.001)
        for index in range(request["items"]):
            yield index

    begin = time.perf_counter()
    sample = await measure(Workload("X", "x", in_flight=3, calls=1, items=2), call, seconds=0.1)
    assert 1 < sample.calls < (time.perf_counter() - begin) / 0.001
    assert sample.items == 2 * sample.calls
    assert len(sample.latency_us) == sample.calls


def test_percentiles():
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0, 0.5, 0.99)] == [1.0, 2.0, 3.0]

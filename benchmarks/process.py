"""One process of a benchmark: `process.py PEER serve` or `process.py PEER frontend WORKLOAD …`.

The frontend prints one JSON line for each workload.  Both use uvloop unless BENCH_UVLOOP=0.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

import psutil
from workloads import WORKLOADS, Sample, measure


def _cpu(worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return time.process_time() + times.user + times.system


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _figures(sample: Sample, cpu: float) -> dict[str, Any]:
    return {
        "p50_us": statistics.median(sample.latency_us),
        "p99_us": _percentile(sample.latency_us, 0.99),
        "first_item_us": statistics.median(sample.first_item_us),
        "calls_per_s": sample.calls / sample.seconds,
        "items_per_s": sample.items / sample.seconds,
        "cpu_us_per_call": cpu / sample.calls * 1e6,
        "cpu_us_per_item": cpu / sample.items * 1e6,
    }


async def _frontend(peer: Any, names: list[str]) -> None:
    worker = psutil.Process(int(os.environ["BENCH_WORKER_PID"]))
    async with peer.frontend() as call:
        for name in names:
            await measure(WORKLOADS[name], call)  # warms up
            before = _cpu(worker)
            sample = await measure(WORKLOADS[name], call)
            print(json.dumps({"workload": name, **_figures(sample, _cpu(worker) - before)}), flush=True)


def main() -> None:
    peer = importlib.import_module(f"peer_{sys.argv[1]}")
    work = peer.serve() if sys.argv[2] == "serve" else _frontend(peer, sys.argv[3:])
    if os.environ.get("BENCH_UVLOOP", "1") == "1":
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()

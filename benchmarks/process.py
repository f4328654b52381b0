"""One process of a benchmark: `process.py PEER serve` or `process.py PEER frontend WORKLOAD …`.

The frontend prints one JSON line for each workload.  Both use uvloop and msgspec unless BENCH_SPEED=0.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import platform
import statistics
import sys
import time
from typing import Any

import psutil
from workloads import WORKLOADS, Sample, measure, percentile

_SPEED = os.environ.get("BENCH_SPEED", "1") == "1"


def _cpu(others: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in others]
    return time.process_time() + sum(one.user + one.system for one in times)


def _figures(sample: Sample, cpu: float) -> dict[str, float]:
    figures = {
        "p50_us": statistics.median(sample.latency_us),
        "p99_us": percentile(sample.latency_us, 0.99),
        "first_item_us": statistics.median(sample.first_item_us),
        "calls_per_s": sample.calls / sample.seconds,
        "items_per_s": sample.items / sample.seconds,
        "mb_per_s": 2 * sample.calls * 1.048576 / sample.seconds,
        "cpu_us_per_call": cpu / sample.calls * 1e6,
        "cpu_us_per_item": cpu / sample.items * 1e6,
    }
    if sample.item_us:
        figures["item_p50_us"] = statistics.median(sample.item_us)
        figures["item_p99_us"] = percentile(sample.item_us, 0.99)
    return figures


def _about(peer: Any) -> str:
    loop = "uvloop" if _SPEED else "asyncio"
    codec = "msgspec" if sys.modules.get("msgspec") else "msgpack"
    return peer.ABOUT.format(codec=codec) + f", {loop}, Python {platform.python_version()}"


async def _frontend(peer: Any, names: list[str]) -> None:
    others = [psutil.Process(int(pid)) for pid in os.environ["BENCH_PIDS"].split()]
    print(json.dumps({"about": _about(peer)}), flush=True)
    async with peer.frontend() as call:
        for name in names:
            await measure(WORKLOADS[name], call)  # warms up
            before = _cpu(others)
            sample = await measure(WORKLOADS[name], call)
            figures = _figures(sample, _cpu(others) - before)
            print(json.dumps({"workload": name, "figures": figures}), flush=True)


def main() -> None:
    if not _SPEED:
        sys.modules["msgspec"] = None  # pyright: ignore[reportArgumentType]  # as if it were not installed
    peer = importlib.import_module(f"peer_{sys.argv[1]}")
    work = peer.serve() if sys.argv[2] == "serve" else _frontend(peer, sys.argv[3:])
    if _SPEED:
        importlib.import_module("uvloop").run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()

"""Reqplane beside a raw asyncio baseline, in one interleaved run, as a table.

    python benchmarks/run.py [--samples 5] [--workloads W1,W2,W3y] [--no-uvloop]

Each sample starts a worker process and a frontend process on loopback.  Figures are medians over the
samples, with the range; CPU is that of both processes.  Compare ratios, not figures: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLUMNS = {
    "W1": ("p50_us", "p99_us", "cpu_us_per_call"),
    "W2": ("calls_per_s", "p50_us", "cpu_us_per_call"),
    "W3": ("items_per_s", "first_item_us", "cpu_us_per_item"),
    "W3y": ("items_per_s", "first_item_us", "cpu_us_per_item"),
}
PEERS = ("reqplane", "raw")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(folder: str, uvloop: bool) -> dict[str, str]:
    return {
        **os.environ,
        "DYN_REQUEST_PLANE": "http",
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": folder,
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
        "DYN_LOG": "warning",
        "BENCH_RAW_PORT": str(_free_port()),
        "BENCH_UVLOOP": "1" if uvloop else "0",
    }


def _sample(peer: str, workloads: list[str], uvloop: bool) -> list[dict[str, Any]]:
    """One worker, one frontend, every workload once."""
    program = [sys.executable, str(HERE / "process.py"), peer]
    with tempfile.TemporaryDirectory() as folder:
        env = _environment(folder, uvloop)
        worker = subprocess.Popen([*program, "serve"], env=env, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        try:
            if worker.stdout.readline().strip() != "ready":
                raise SystemExit(f"the worker of {peer} did not start")
            env["BENCH_WORKER_PID"] = str(worker.pid)
            frontend = subprocess.run(
                [*program, "frontend", *workloads], env=env, stdout=subprocess.PIPE, text=True, timeout=300
            )
            if frontend.returncode:
                raise SystemExit(f"the frontend of {peer} failed")
            return [json.loads(line) for line in frontend.stdout.splitlines()]
        finally:
            worker.terminate()
            worker.wait(20)
            worker.stdout.close()


def _table(results: dict[tuple[str, str, str], list[float]], workloads: list[str]) -> None:
    print(
        f"{'workload':<9}{'figure':<17}" + "".join(f"{peer + ' (range)':>30}" for peer in PEERS) + "  ratio"
    )
    for workload in workloads:
        for figure in COLUMNS[workload]:
            medians: list[float] = []
            cells = ""
            for peer in PEERS:
                values = results[peer, workload, figure]
                medians.append(statistics.median(values))
                cells += f"{medians[-1]:>12.0f} {f'({min(values):.0f} - {max(values):.0f})':>17}"
            print(f"{workload:<9}{figure:<17}{cells}  {medians[0] / medians[1]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--workloads", default="W1,W2,W3y")
    parser.add_argument("--no-uvloop", action="store_true")
    options = parser.parse_args()
    workloads: list[str] = options.workloads.split(",")
    results: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for number in range(options.samples):
        for peer in PEERS:
            print(f"sample {number + 1} of {options.samples}: {peer}", file=sys.stderr, flush=True)
            for figures in _sample(peer, workloads, not options.no_uvloop):
                for figure in COLUMNS[figures["workload"]]:
                    results[peer, figures["workload"], figure].append(figures[figure])
    loop = "asyncio" if options.no_uvloop else "uvloop"
    print(f"http plane, Python {sys.version.split()[0]}, {loop}, msgpack, {options.samples} samples\n")
    _table(results, workloads)


if __name__ == "__main__":
    main()

"""Reqplane beside NVIDIA Dynamo and a raw asyncio baseline, in one interleaved run, as Markdown.

    python benchmarks/run.py [--dynamo PYTHON] [--tcp] [--nats] [--no-speed] [--samples 5] [--workloads all]
                             [--write FILE]

Each sample starts a worker process and a frontend process on loopback, one peer after the other.  Figures
are medians over the samples, with the range.  Compare ratios, not figures: machines differ.

Dynamo's wheel wants an environment of its own:

    python3.11 -m venv /tmp/dynamo && /tmp/dynamo/bin/pip install ai-dynamo-runtime==1.6.1 psutil uvloop
    make bench BENCH="--dynamo /tmp/dynamo/bin/python --tcp --nats --no-speed --write benchmarks/results.md"
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from table import report
from workloads import WORKLOADS

HERE = Path(__file__).parent
_SAMPLE_LIMIT = 300.0


@dataclass(frozen=True)
class Peer:
    """One column: a module `peer_MODULE.py`, run by `python`, with uvloop and msgspec or without."""

    name: str
    module: str
    python: str
    speed: bool = True
    plane: str = "http"

    @property
    def program(self) -> list[str]:
        return [self.python, str(HERE / "process.py"), self.module]


def _peers(dynamo: str | None, planes: list[str], no_speed: bool) -> list[Peer]:
    peers = [Peer("reqplane", "reqplane", sys.executable), Peer("raw", "raw", sys.executable)]
    peers += [Peer(plane, "reqplane", sys.executable, plane=plane) for plane in planes]
    if dynamo:
        peers.append(Peer("dynamo", "dynamo", dynamo))
    if no_speed:
        peers.append(Peer("no-speed", "reqplane", sys.executable, speed=False))
    return peers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(folder: str, peer: Peer) -> dict[str, str]:
    env = {
        **os.environ,
        "DYN_REQUEST_PLANE": peer.plane,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": folder,
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
        "DYN_LOG": "warning",
        "BENCH_RAW_PORT": str(_free_port()),
        "BENCH_PIDS": "",
        "BENCH_SPEED": "1" if peer.speed else "0",
    }
    if peer.name == "dynamo":
        env["DYN_REQUEST_PLANE"] = "tcp"
        del env["DYN_TCP_RESPONSE_STREAM_PORT"]  # 0 is not "any" there
        env.pop("NATS_SERVER", None)  # set but unreachable, it costs two minutes at start
    return env


def _sample(peer: Peer, workloads: list[str]) -> list[dict[str, Any]]:
    """One worker, one frontend, every workload once; the lines that the frontend printed."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+") as errors:
        env = _environment(folder, peer)
        broker = _start_nats(folder, env) if peer.plane == "nats" else None
        worker = subprocess.Popen(
            [*peer.program, "serve"], env=env, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert worker.stdout is not None
        try:
            if worker.stdout.readline().strip() != "ready":
                raise SystemExit(f"the worker of {peer.name} did not start:\n{_last(errors)}")
            env["BENCH_PIDS"] += f" {worker.pid}"
            frontend = subprocess.run(
                [*peer.program, "frontend", *workloads],
                env=env,
                stdout=subprocess.PIPE,
                # Dynamo writes a line for each request, which no setting of it turns off.
                stderr=subprocess.DEVNULL if peer.name == "dynamo" else errors,
                text=True,
                timeout=_SAMPLE_LIMIT,
            )
            if frontend.returncode:
                raise SystemExit(f"the frontend of {peer.name} failed:\n{_last(errors)}")
            return [json.loads(line) for line in frontend.stdout.splitlines() if line.startswith("{")]
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
            if broker is not None:
                broker.kill()
                broker.wait()


def _start_nats(folder: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A NATS server that takes the largest frame; `env` gets its address, and its pid to count its CPU."""
    port = _free_port()
    settings = Path(folder) / "nats.conf"
    settings.write_text("max_payload: 8MB")
    program = Path(sys.executable).parent / "nats-server"
    command = [program, "-c", settings, "-a", "127.0.0.1", "-p", str(port), "-l", Path(folder) / "nats.log"]
    broker = subprocess.Popen(command)
    env["NATS_SERVER"] = f"nats://127.0.0.1:{port}"
    env["BENCH_PIDS"] = str(broker.pid)
    return broker


def _last(errors: Any) -> str:
    errors.seek(0)
    return "".join(errors.readlines()[-20:])


def _facts(options: argparse.Namespace, abouts: dict[str, str], load: list[float]) -> list[str]:
    command = shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])
    return [
        f"Command: `{command}`",
        f"Date: {datetime.date.today().isoformat()}",
        *(f"{name}: {about}" for name, about in abouts.items()),
        f"{options.samples} samples of each, interleaved; {psutil.cpu_count()} cores; before a sample "
        f"{statistics.median(load):.2f} (at most {max(load):.2f}) of them were busy with something else",
    ]


def _others() -> float:
    """How many cores are busy while nothing of ours runs."""
    return psutil.cpu_percent(interval=0.5) / 100 * (psutil.cpu_count() or 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--workloads", default="W1,W2,W3y", help=f"of {','.join(WORKLOADS)}, or all")
    parser.add_argument("--dynamo", metavar="PYTHON", default=os.environ.get("BENCH_DYNAMO"))
    parser.add_argument("--tcp", action="store_true", help="measure the tcp plane too")
    parser.add_argument(
        "--nats", action="store_true", help="measure the nats plane too, on a server of its own"
    )
    parser.add_argument("--no-speed", action="store_true", help="measure without uvloop and msgspec too")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the tables there too")
    return parser.parse_args()


def main() -> None:
    options = _options()
    workloads = list(WORKLOADS) if options.workloads == "all" else options.workloads.split(",")
    planes = [plane for plane in ("tcp", "nats") if getattr(options, plane)]
    peers = _peers(options.dynamo, planes, options.no_speed)
    results: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    abouts: dict[str, str] = {}
    load: list[float] = []
    for number in range(options.samples):
        for peer in peers:
            print(f"sample {number + 1} of {options.samples}: {peer.name}", file=sys.stderr, flush=True)
            load.append(_others())
            first, *measured = _sample(peer, workloads)
            abouts[peer.name] = first["about"]
            for one in measured:
                for figure, value in one["figures"].items():
                    results[peer.name, one["workload"], figure].append(value)
    text = report(results, list(abouts), workloads, _facts(options, abouts, load))
    print(text)
    if options.write is not None:
        options.write.write_text(text)


if __name__ == "__main__":
    main()

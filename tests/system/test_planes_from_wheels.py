"""Each of our planes and backends conforms, as users have it: from wheels, by the suite's one line."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from installing import Environment, environment
from servers import binary, free_port

PATIENCE = 600.0
"""Seconds that a run of the suite may take: far more than it takes on an idle machine, even under strain."""
pytestmark = [pytest.mark.system, pytest.mark.timeout(PATIENCE + 60)]

RESTART = """\
import os, signal, socket, subprocess, sys, time
file, port, *command = sys.argv[1:]
def listens():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0
if os.path.exists(file):
    os.kill(int(open(file).read()), signal.SIGKILL)
    while listens():
        time.sleep(0.02)
    os.remove(file)
quiet = subprocess.DEVNULL
server = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
open(file, "w").write(str(server.pid))
while not listens():
    time.sleep(0.02)
"""
"""Restarts a server at its port, as an operator's command would; the first time it starts it."""

PUT_FILE = """\
import os, pathlib, urllib.parse
prefix = "v1/instances/"
name = urllib.parse.quote(os.environ["KEY"].removeprefix(prefix), safe="")
file = pathlib.Path(os.environ["DYN_FILE_KV"], prefix, name)
if os.environ["VALUE"]:
    file.write_text(os.environ["VALUE"])
else:
    file.unlink()
"""
"""Writes a record where another program of the file backend would."""


@pytest.fixture(scope="module")
def whole(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Everything that we publish."""
    names = ("reqplane[etcd]", "reqplane-http", "reqplane-nats", "reqplane-conformance")
    sources = [wheels["reqplane"].parent, foreign]
    return environment(tmp_path_factory.mktemp("conformance"), sources, *names)


class Restarted:
    """A server that is restarted by a command."""

    def __init__(self, folder: Path, port: int, command: list[str]) -> None:
        self._pid, script = folder / "pid", folder / "restart.py"
        script.write_text(RESTART)
        self.command = shlex.join([sys.executable, str(script), str(self._pid), str(port), *command])
        subprocess.run(self.command, shell=True, check=True, timeout=60)

    def kill(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(self._pid.read_text()), signal.SIGKILL)


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Callable[[int, list[str]], Restarted]]:
    """Starts a server that is killed after the test."""
    started: list[Restarted] = []

    def start(port: int, command: list[str]) -> Restarted:
        started.append(Restarted(tmp_path, port, command))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Suite:
    """Runs the suite and gives its report."""

    def __init__(self, processes: Any, env: Mapping[str, str], folder: Path, strain: str) -> None:
        self._processes, self._env, self._folder, self._strain = processes, env, folder, strain

    def run(self, *arguments: str, **env: str) -> dict[str, Any]:
        options = ["--conformance-report", "report.json", "--conformance-strain", self._strain]
        line = (
            f"pytest -p no:cacheprovider --pyargs reqplane_conformance {shlex.join([*options, *arguments])}"
        )
        status, printed = self._processes.run(line, {**self._env, **env}, self._folder, patience=PATIENCE)
        assert status == 0, printed
        (result,) = json.loads((self._folder / "report.json").read_text())["results"]
        return result


@pytest.fixture(params=["none", *(pytest.param(hard, marks=pytest.mark.slow) for hard in ("delay", "load"))])
def suite(
    request: pytest.FixtureRequest,
    whole: Environment,
    processes: Any,
    bare: dict[str, str],
    tmp_path: Path,
) -> Suite:
    return Suite(processes, whole.variables(bare), tmp_path, request.param)


def reasons(result: Mapping[str, Any]) -> dict[str, int]:
    """Why cases did not pass, and how many each time."""
    cases = result["cases"]
    return dict(Counter(case["reason"] for case in cases if case["outcome"] != "passed"))


NO_PORT = {
    "does not apply: its records name no address that a socket could reach",
    "does not apply: its `loopback` has no variable whose name ends with PORT",
}
"""A plane by way of a server has no listener of its own that strangers could talk to."""


def test_http(suite: Suite):
    result = suite.run("--transport", "http")
    assert (result["level"], result["source"]) == ("full", "reqplane-http 0.1.0")
    assert reasons(result) == {}


def test_nats(suite: Suite, restarted: Callable[..., Restarted]):
    """Whoever is sent to is named by the subject, so no two workers share an address."""
    port = free_port()
    server = restarted(port, [binary("nats-server"), "-a", "127.0.0.1", "-p", str(port)])
    url = f"nats://127.0.0.1:{port}"
    result = suite.run("--transport", "nats", "--restart-peer", server.command, NATS_SERVER=url)
    assert result["level"] == "base"
    unclaimed = {
        case["id"]: case["reason"] for case in result["cases"] if case["needs"] == ["shared_address"]
    }
    assert set(unclaimed.values()) == {"not claimed: shared_address"}
    assert set(reasons(result)) <= NO_PORT | {"not claimed: shared_address"}


def test_tcp_stream(suite: Suite):
    """Streams as requests are not supported yet."""
    result = suite.run("--transport", "tcp_stream")
    assert result["level"] == "base"
    assert set(reasons(result)) == {"not claimed: streamed_requests"}


def test_file(suite: Suite, tmp_path: Path):
    """It depends on no server that could come back."""
    (tmp_path / "put.py").write_text(PUT_FILE)
    put = shlex.join([sys.executable, str(tmp_path / "put.py")])
    result = suite.run("--discovery", "file", "--put-record", put)
    assert result["level"] == "base"
    assert set(reasons(result)) == {"not claimed: reconnects"}


def test_etcd(suite: Suite, restarted: Callable[..., Restarted], tmp_path: Path):
    port, peer = free_port(), free_port()
    here, there = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    server = restarted(
        port,
        [
            *(binary("etcd"), "--data-dir", str(tmp_path / "data"), "--listen-client-urls", here),
            *("--advertise-client-urls", here, "--listen-peer-urls", there),
            *("--initial-advertise-peer-urls", there, "--initial-cluster", f"default={there}"),
        ],
    )
    ctl = f"{binary('etcdctl')} --endpoints {here}"
    put = f'if [ -n "$VALUE" ]; then {ctl} put -- "$KEY" "$VALUE"; else {ctl} del -- "$KEY"; fi'
    arguments = ["--discovery", "etcd", "--put-record", put, "--restart-peer", server.command]
    result = suite.run(*arguments, ETCD_ENDPOINTS=here)
    assert result["level"] == "full"
    assert reasons(result) == {}

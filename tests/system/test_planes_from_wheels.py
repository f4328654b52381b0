"""Each of our planes and backends conforms, as users have it: from wheels, by the suite's one line."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from installing import Environment, environment
from servers import binary, free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

RESTART = """\
import os, signal, socket, subprocess, sys, time
file, *command = sys.argv[1:]
port = int(command[command.index("-p") + 1])
def listens():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
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
"""Restarts nats-server at its port, as an operator's command would."""


@pytest.fixture(scope="module")
def whole(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Everything that we publish."""
    names = ("reqplane-http", "reqplane-nats", "reqplane-conformance")
    sources = [wheels["reqplane"].parent, foreign]
    return environment(tmp_path_factory.mktemp("conformance"), sources, *names)


@pytest.fixture
def restart_nats(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of a server, and the command that restarts it; before the first time it starts it."""
    port, file, script = free_port(), tmp_path / "nats.pid", tmp_path / "restart.py"
    script.write_text(RESTART)
    server = [binary("nats-server"), "-a", "127.0.0.1", "-p", str(port)]
    yield f"nats://127.0.0.1:{port}", shlex.join([sys.executable, str(script), str(file), *server])
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(file.read_text()), signal.SIGKILL)


class Suite:
    """Runs the suite and gives its report."""

    def __init__(self, whole: Environment, processes: Any, bare: Mapping[str, str], folder: Path) -> None:
        self._processes, self._env, self._folder = processes, whole.variables(bare), folder

    def run(self, *arguments: str, **env: str) -> dict[str, Any]:
        line = shlex.join(["--conformance-report", "report.json", *arguments])
        suite = f"pytest -p no:cacheprovider --pyargs reqplane_conformance {line}"
        status, printed = self._processes.run(suite, self._env | env, self._folder, patience=200)
        assert status == 0, printed
        (result,) = json.loads((self._folder / "report.json").read_text())["results"]
        return result


@pytest.fixture
def suite(whole: Environment, processes: Any, bare: dict[str, str], tmp_path: Path) -> Suite:
    return Suite(whole, processes, bare, tmp_path)


def not_passed(result: Mapping[str, Any]) -> dict[str, str]:
    """Which cases did not pass, and why."""
    cases = result["cases"]
    return {case["id"]: case["reason"] for case in cases if case["outcome"] != "passed"}


def test_http(suite: Suite):
    result = suite.run("--transport", "http")
    assert (result["level"], result["source"]) == ("full", "reqplane-http 0.1.0")
    assert not_passed(result) == {}


def test_nats(suite: Suite, restart_nats: tuple[str, str], processes: Any, tmp_path: Path):
    url, command = restart_nats
    assert processes.run(command, dict(os.environ), tmp_path)[0] == 0
    result = suite.run("--transport", "nats", "--restart-peer", command, NATS_SERVER=url)
    assert result["level"] == "base"
    assert set(not_passed(result).values()) <= {"not claimed: shared_address"}


def test_tcp_stream(suite: Suite):
    result = suite.run("--transport", "tcp_stream")
    assert result["level"] == "base"
    assert set(not_passed(result).values()) == {"not claimed: streamed_requests"}


def test_file(suite: Suite, tmp_path: Path):
    result = suite.run("--discovery", "file", DYN_FILE_KV=str(tmp_path / "discovery"))
    assert set(not_passed(result).values()) <= {"not claimed: reconnects"}

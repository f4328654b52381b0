"""The demonstration, as somebody who has just cloned the repository meets it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from reqplane.demo.ngram import NgramModel
from reqplane.demo.show import show

DEMO = f"{sys.executable} -m reqplane demo"
SUMMARY = re.compile(
    r"\d+ requests, \d+ items, \d+ cut off by the kill, (\d+) wrong "
    r"\((worker \d+: \d+, )+worker \d+: \d+\) on http with file discovery in \d+\.\d s: (.+)"
)
pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Run:
    """One demonstration: how it ended, what it printed, and the shell it ran in."""

    status: int
    printed: str
    env: dict[str, str]
    cwd: Path

    def commands(self) -> list[str]:
        """The lines to be typed that it ends with."""
        by_hand = self.printed.partition("By hand")[2]
        return re.findall(r"^  (\S.*reqplane.*)$", by_hand, re.MULTILINE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """It takes some seconds, so it runs once for all who look at it."""
    folder = tmp_path_factory.mktemp("demo")
    env = {name: value for name, value in os.environ.items() if not re.match("DYN_|PYTHON", name)}
    env["TMPDIR"] = str(folder)
    done = subprocess.run(
        DEMO.split(),
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=50,
    )
    return Run(done.returncode, done.stdout, env, folder)


def test_it_ends_well_and_says_so(shown: Run):
    assert shown.status == 0, shown.printed
    summary = SUMMARY.fullmatch(shown.printed.splitlines()[-1])
    assert summary is not None, shown.printed
    assert summary.groups()[0] == "0"
    assert summary.groups()[2] == "all is well"
    assert "Traceback" not in shown.printed


def test_it_says_which_planes_it_took(shown: Run):
    assert "using http and file" in shown.printed.splitlines()[0]


def test_it_leaves_nothing_behind(shown: Run):
    assert not list(shown.cwd.glob("reqplane*"))


def test_the_readme_shows_such_a_summary(readme: Any):
    (line,) = readme.under("Start", "text")
    assert SUMMARY.fullmatch(line.strip())


async def test_a_wrong_token_is_told_by_the_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The frontend expects another story than the one that the workers have learnt."""
    other = NgramModel.train("The keeper of the light sleeps at night; when the storm came he slept on.")
    monkeypatch.setattr("reqplane.demo.show.language_model", lambda: other)
    monkeypatch.setattr("reqplane.demo.show._BUSY", 3)
    monkeypatch.setattr("reqplane.demo.show._AFTER", 3)
    monkeypatch.setenv("DYN_FILE_KV", str(tmp_path))
    chosen = {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "file"}
    chosen |= {"DYN_HTTP_RPC_HOST": "127.0.0.1", "DYN_HTTP_RPC_PORT": "0"}
    chosen |= {"DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1"}
    assert await show(chosen) == 1
    summary = SUMMARY.fullmatch(capsys.readouterr().out.splitlines()[-1])
    assert summary is not None
    assert int(summary.groups()[0]) > 0
    assert summary.groups()[2].startswith("FAILED: request ")


def test_what_it_says_to_type_works(shown: Run, processes: Any):
    server, client, call = shown.commands()
    worker = processes.start(server, shown.env, shown.cwd)
    status, printed = processes.run(client, shown.env, shown.cwd)
    assert status == 0, printed
    assert "\nThe keeper of the light" in printed
    assert re.search(r"\n\(60 tokens from worker 0 by http\)\n$", printed)
    # The last line is a process with variables before it, which `exec` does not take.
    status, printed = processes.run(f"env {call}", shown.env, shown.cwd)
    assert status == 0, printed
    assert len(re.findall(r'^\{"token": ".+"\}$', printed, re.MULTILINE)) == 5
    status, printed = processes.stop(worker)
    assert status == 0, printed
    assert "Traceback" not in printed


def test_a_worker_that_cannot_start(processes: Any, bare: dict[str, str], tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = bare | {"DYN_HTTP_RPC_PORT": str(taken.getsockname()[1])}
        status, printed = processes.run(DEMO, env, tmp_path)
    assert status == 1
    assert "DYN_HTTP_RPC_PORT" in printed
    assert "a worker could not start" in printed
    assert "Traceback" not in printed
    assert not list(Path(env["TMPDIR"]).glob("reqplane*"))


def test_a_plane_that_is_not_there(processes: Any, bare: dict[str, str], tmp_path: Path):
    status, printed = processes.run(DEMO, bare | {"DYN_REQUEST_PLANE": "pigeon"}, tmp_path)
    assert status == 2
    assert "no request plane 'pigeon'" in printed
    assert "installed: http" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("early", [True, False])
def test_however_it_is_ended_its_workers_go_too(
    processes: Any, bare: dict[str, str], tmp_path: Path, number: signal.Signals, status: int, early: bool
):
    demo = processes.start(DEMO, bare, tmp_path)
    children = psutil.Process(demo.pid).children
    _until(lambda: len(children()) == 3 if early else "Three prompts" in processes.output(demo))
    workers = children()
    assert len(workers) == 3
    try:
        demo.send_signal(number)
        found, printed = processes.wait(demo)
        assert found == status, printed
        assert "Traceback" not in printed
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive
    finally:
        for worker in workers:  # they live in sessions of their own
            with suppress(psutil.NoSuchProcess):
                worker.kill()


def _until(so: Callable[[], object]) -> None:
    limit = time.monotonic() + 30
    while not so():
        assert time.monotonic() < limit
        time.sleep(0.02)

"""A codec, a router policy and a discovery backend, in a wheel outside the tree, serve real calls by http."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PATIENCE = 40.0

pytestmark = pytest.mark.system


def run(*command: Any, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into, by pip."""
    folder = tmp_path_factory.mktemp("outside")
    run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", cwd=HERE / "outside"
    )
    (wheel,) = (folder / "dist").glob("outside-3.1-*.whl")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-index", "--no-deps", "--target", folder / "site", wheel)
    return folder / "site"


@pytest.fixture
def env(installed: Path, tmp_path: Path) -> dict[str, str]:
    """All three are chosen; nothing but variables says so."""
    inherited = {name: value for name, value in os.environ.items() if not re.match("DYN_|PYTHON", name)}
    return inherited | {
        "PYTHONPATH": str(installed),
        "DYN_REQUEST_PLANE": "http",
        "DYN_REQUEST_PLANE_CODEC": "zipped-json",
        "DYN_ROUTER_MODE": "newest",
        "DYN_DISCOVERY_BACKEND": "sqlite",
        "OUTSIDE_SQLITE_FILE": str(tmp_path / "workers.db"),
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
    }


class Workers:
    """Worker processes, whose output goes to files."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self._env = env
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one and wait until it says that it serves."""
        command = [sys.executable, str(HERE / "outside_worker.py"), name]
        with (self._folder / name).open("wb") as output:
            process = subprocess.Popen(command, env=self._env, stderr=output)
        self._processes[name] = process
        limit = time.monotonic() + PATIENCE
        while "on http, found by sqlite" not in self.printed(name):
            assert process.poll() is None, self.printed(name)
            assert time.monotonic() < limit, self.printed(name)
            time.sleep(0.02)

    def printed(self, name: str) -> str:
        return (self._folder / name).read_text()

    def leave(self) -> dict[str, int]:
        """Send SIGTERM to all; their exit statuses."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(PATIENCE) for name, process in self._processes.items()}

    def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def workers(env: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(env, tmp_path)
    yield workers
    workers.close()


def items(worker: str, n: int, echo: Any = None) -> list[dict[str, Any]]:
    return [{"worker": worker, "i": i, "echo": echo} for i in range(n)]


def test_all_three_serve_real_calls(env: dict[str, str], workers: Workers):
    workers.start("first")
    workers.start("second")
    told = json.loads(run(sys.executable, HERE / "outside_frontend.py", "2", env=env))
    assert (told["codecs"], told["mode"]) == (["zipped-json"], "newest")
    assert told["plain"] == {"items": items("second", 3, ["ä", None, 1.5])}
    assert told["many"] == [{"items": items("second", 20, n)} for n in range(50)]
    assert told["direct"] == {"items": items("first", 1)}

    assert told["failed"]["items"] == items("second", 2)
    assert told["failed"]["error"] == "HandlerFailed"
    assert "ValueError: as you wish" in told["failed"]["text"]
    assert told["odd item"]["items"] == items("second", 1)
    assert (told["odd item"]["error"], told["odd item"]["index"]) == ("PayloadError", 1)
    assert (told["odd request"]["error"], told["odd request"]["index"]) == ("PayloadError", None)
    assert "zipped-json: TypeError: Object of type object" in told["odd request"]["text"]

    assert workers.leave() == {"first": 0, "second": 0}, workers.printed("first") + workers.printed("second")


def test_the_command_line_uses_them_too(env: dict[str, str], workers: Workers):
    workers.start("only")
    call = (sys.executable, "-m", "reqplane", "call", "test.outside.answer", '{"n": 2}')
    assert [json.loads(line) for line in run(*call, env=env).splitlines()] == items("only", 2)
    listing = run(sys.executable, "-m", "reqplane", "plugins", env=env)
    (line,) = [line for line in listing.splitlines() if line.startswith("outside ")]
    assert line.split(maxsplit=4)[1:] == [
        *("outside", "3.1", "yes"),
        "discovery backend sqlite*; codec zipped-json*; router mode newest*",
    ]


def test_the_workers_codec_is_used_whatever_the_frontends_is(env: dict[str, str], workers: Workers):
    workers.start("only")
    other = env | {"DYN_REQUEST_PLANE_CODEC": "msgpack"}
    told = json.loads(run(sys.executable, HERE / "outside_frontend.py", "1", env=other))
    assert told["codecs"] == ["zipped-json"]
    assert told["plain"] == {"items": items("only", 3, ["ä", None, 1.5])}


def test_without_it_everything_that_lacks_is_told_at_once(env: dict[str, str]):
    call = [sys.executable, "-m", "reqplane", "call", "test.outside.answer", "1"]
    without = env | {"DYN_DISABLED_EXTENSIONS": "outside"}
    done = subprocess.run(call, env=without, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    for lacking in ("discovery backend 'sqlite'", "router mode 'newest'", "codec 'zipped-json'"):
        assert f"there is no {lacking}" in done.stderr


def test_a_wrong_database_is_named(env: dict[str, str]):
    call = [sys.executable, "-m", "reqplane", "call", "test.outside.answer", "1"]
    wrong = env | {"OUTSIDE_SQLITE_FILE": "/nowhere/at/all.db"}
    done = subprocess.run(call, env=wrong, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "OUTSIDE_SQLITE_FILE='/nowhere/at/all.db': unable to open database file" in done.stderr

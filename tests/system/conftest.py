"""Processes as users start them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from from_wheels import Restarted, Suite
from installing import FOLDERS, Environment, build_wheels, environment, foreign_requirements, pip
from pages import Page

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 40.0
"""Seconds that a process may take on a loaded machine before the test fails."""


class Processes:
    """Starts processes; whatever still runs when the test is over is ended, with its children."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, script: str, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
        """Run a shell script whose last line becomes the process; its output goes to a file."""
        *before, last = script.strip().splitlines()
        with self._output(len(self._started)).open("w") as output:
            process = subprocess.Popen(
                ["sh", "-ec", "\n".join([*before, f"exec {last}"])],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def run(
        self, script: str, env: Mapping[str, str], cwd: Path, *, patience: float = PATIENCE
    ) -> tuple[int, str]:
        """Run a shell script to its end: exit status, and what it printed on both outputs."""
        process = self.start(script, env, cwd)
        return self.wait(process, patience)

    def wait(self, process: subprocess.Popen[str], patience: float = PATIENCE) -> tuple[int, str]:
        """Its exit status and what it printed."""
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{process.args} did not end within {patience} s:\n{self.output(process)}")
        return status, self.output(process)

    def stop(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Send SIGTERM and wait."""
        process.send_signal(signal.SIGTERM)
        return self.wait(process)

    def output(self, process: subprocess.Popen[str]) -> str:
        """What it has printed so far."""
        return self._output(self._started.index(process)).read_text()

    def _output(self, number: int) -> Path:
        return self._folder / f"output-{number}"

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                _kill(psutil.Process(process.pid))
            process.wait()


def _kill(process: psutil.Process) -> None:
    """End it and its children: the demonstration's workers live in sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()


@pytest.fixture(scope="session")
def readme() -> Page:
    return Page((ROOT / "README.md").read_text())


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("output"))
    yield processes
    processes.close()


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A shell in which nobody has set anything of ours, with a temp directory of its own."""
    env = {name: value for name, value in os.environ.items() if not re.match("DYN_|PYTHON", name)}
    env["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return env


@pytest.fixture
def loopback(bare: dict[str, str]) -> dict[str, str]:
    """The same, but everything listens on loopback and on free ports."""
    return bare | {
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
    }


def once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """A folder that is made and filled by the first process of this run of the tests to want it."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    folder, stamp = run / name, run / f"{name}.made"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fill(folder)
            stamp.touch()
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Our wheels, by package."""

    def build(folder: Path) -> None:
        build_wheels([ROOT / source for source in FOLDERS.values()], folder)

    folder = once(tmp_path_factory, "wheels", build)
    return {package: next(folder.glob(f"{package}-*.whl")) for package in FOLDERS}


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of others, fetched once.  After that pip looks at no index: what lacks then is a defect."""

    def fetch(folder: Path) -> None:
        fetched = pip(
            *("wheel", "--quiet", "--wheel-dir", folder, "--retries", "1", "--timeout", "20"),
            *("--constraint", ROOT / "constraints.txt", *foreign_requirements()),
        )
        if fetched.returncode != 0:
            why = fetched.stderr[-300:]
            pytest.skip(f"pip can't fetch the dependencies, so nothing can be installed: {why}")

    return once(tmp_path_factory, "foreign", fetch)


@pytest.fixture(scope="session")
def everything(
    wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with all that we publish; nobody installs more into it."""
    sources = [wheels["reqplane"].parent, foreign]
    names = [package.replace("_", "-") for package in FOLDERS if package != "reqplane"]

    def make(folder: Path) -> None:
        environment(folder, sources, "reqplane[etcd]", *names)

    folder = once(tmp_path_factory, "everything", make)
    return Environment(folder, tuple(sources))


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


@pytest.fixture(params=["none", *(pytest.param(hard, marks=pytest.mark.slow) for hard in ("delay", "load"))])
def suite(
    request: pytest.FixtureRequest,
    everything: Environment,
    processes: Processes,
    bare: dict[str, str],
    tmp_path: Path,
) -> Suite:
    """The suite, as it is and under strain."""
    return Suite(processes, everything.variables(bare), tmp_path, request.param)

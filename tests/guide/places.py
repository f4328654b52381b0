"""Where the guide's processes run: beside the tests, or on a machine of their own with the guide's ports.

A process gets environment variables and nothing else; what it does is looked at from outside.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
R = TypeVar("R", bound="Running")

HERE = Path(__file__).parent
PATIENCE = 40.0
"""Seconds that anything may take on a loaded machine."""


def eventually(look: Callable[[], T | None], complaint: Callable[[], str] = str) -> T:
    """What `look` returns as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:g} s: {complaint()}")
        time.sleep(0.02)


class Running:
    """A process; what it prints on both outputs goes to a file."""

    def __init__(self, process: subprocess.Popen[str], printed: Path, prefix: Sequence[str]) -> None:
        self.process = process
        self._printed = printed
        self._prefix = prefix

    @property
    def pid(self) -> int:
        return self.process.pid

    def printed(self) -> str:
        return self._printed.read_text(errors="replace")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed this."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.printed())
            assert found or self.process.poll() is None, f"it ended without {pattern!r}:\n{self.printed()}"
            return found

        return eventually(look, lambda: f"{pattern!r} in\n{self.printed()}")

    def sockets(self) -> str:
        """Its TCP sockets, as lsof shows them."""
        if shutil.which("lsof") is None:
            pytest.skip("lsof is not installed")
        command = [*self._prefix, "lsof", "-nP", "-a", "-p", str(self.pid), "-i", "TCP"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """In order: SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(PATIENCE)


class Frontend(Running):
    """`frontend.py`: a line of JSON in, a line of JSON out."""

    def ask(self, path: str, request: Any = None, /, **ask: Any) -> Any:
        """What became of the calls; see `frontend.py` for what can be asked."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = json.dumps({"path": path, "request": {} if request is None else request, **ask})
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the frontend ended:\n{self.printed()}"
        return json.loads(answer)


class Place:
    """Starts processes with `env` and what is given on top of it; all are gone when it closes."""

    def __init__(self, folder: Path, env: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.env = {**bare(folder), **env}
        self.folder = folder
        self._prefix = prefix
        self._started: list[Running] = []

    def start(self, command: str, **env: str) -> Running:
        """A program and its arguments, divided by spaces."""
        return self._keep(Running(*self._start(command.split(), env)))

    def frontend(self, **env: str) -> Frontend:
        command = [sys.executable, "frontend.py"]
        return self._keep(Frontend(*self._start(command, env, asked=True)))

    def worker(self, path: str, *more: str, **env: str) -> Running:
        """`reqplane serve work:generate`; `served` waits until it is found."""
        return self.start(" ".join(["reqplane serve work:generate", path, *more]), **env)

    def run(self, script: str, **env: str) -> tuple[int, str]:
        """A shell script as a user types it: its exit status, and what it printed on both outputs."""
        done = subprocess.run(
            [*self._prefix, "sh", "-c", script],
            env={**self.env, **env},
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout

    def types(self, script: str, **env: str) -> str:
        """The same, and it must succeed."""
        status, printed = self.run(script, **env)
        assert status == 0, f"{script}\n{printed}"
        return printed

    def _start(
        self, command: Sequence[str], env: Mapping[str, str], *, asked: bool = False
    ) -> tuple[subprocess.Popen[str], Path, Sequence[str]]:
        path = self.folder / f"printed-{len(self._started)}"
        with path.open("w") as printed:
            process = subprocess.Popen(
                [*self._prefix, *command],
                env={**self.env, **env},
                cwd=HERE,
                text=True,
                stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
                stdout=subprocess.PIPE if asked else printed,
                stderr=printed,
            )
        return process, path, self._prefix

    def _keep(self, running: R) -> R:
        self._started.append(running)
        return running

    def close(self) -> None:
        for running in self._started:
            running.kill()
            for stream in (running.process.stdin, running.process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()


def served(*workers: Running) -> None:
    """Wait until they are registered."""
    for worker in workers:
        worker.says("serving ")


def bare(folder: Path) -> dict[str, str]:
    """A shell in which nobody has set anything of ours, with a temp directory of its own."""
    env = {name: text for name, text in os.environ.items() if not re.match("DYN_|PYTHON|NATS|ETCD", name)}
    path = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"], "/usr/sbin", "/sbin"])
    return env | {"TMPDIR": str(folder), "PATH": path}


@contextmanager
def own_network(name: str, hosts: Sequence[str]) -> Generator[tuple[str, ...]]:
    """A network namespace with an address of its own, and what starts a process in it.

    All ports are free there; `hosts` are lines of its /etc/hosts, and nobody else is known by name.  It
    takes root.
    """
    etc = Path("/etc/netns") / name
    commands = [
        f"ip netns add {name}",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link add eth0 type veth peer name cable",
        f"ip -n {name} addr add 10.77.0.2/24 dev eth0",
        f"ip -n {name} link set eth0 up",
        f"ip -n {name} link set cable up",
        f"ip -n {name} route add default via 10.77.0.1",
    ]
    try:
        etc.mkdir(parents=True)
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # there is none: it says so at once
        (etc / "hosts").write_text("\n".join([f"127.0.0.1 localhost {socket.gethostname()}", *hosts, ""]))
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True, text=True)
        yield ("ip", "netns", "exec", name)
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(etc, ignore_errors=True)

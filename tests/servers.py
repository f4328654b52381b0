"""Real NATS and etcd servers on free ports of loopback, in folders of their own, ended by their pids.

They come by pip, into the environment that the tests run in.  Debian's older generation, where it is
installed, is the second leg: `generations("etcd")` gives both.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from ports import free_port

PATIENCE = 30.0
"""Seconds that a server may take to start or to end on a loaded machine."""

_HERE = Path(sys.executable).parent
_ELSEWHERE = os.pathsep.join(["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"])


def binary(name: str) -> str:
    """The one that came by pip."""
    found = shutil.which(name, path=str(_HERE))
    assert found, f"{name} is not in {_HERE}: make venv installs it"
    return found


def generations(name: str) -> list[str]:
    """The one that came by pip and, where there is one, the system's."""
    system = shutil.which(name, path=_ELSEWHERE)
    return [binary(name), *([system] if system else [])]


class Server:
    """A process that can be started again on the same port with the same data, frozen and killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def is_up(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers."""
        assert self._process is None or self._process.poll() is not None
        self._starts += 1
        with (self.folder / f"output-{self._starts}").open("w") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith("ETCD")},
                start_new_session=True,
            )
        self._wait(self.is_up, "did not start")
        return self

    def output(self) -> str:
        """What the last start has printed."""
        return (self.folder / f"output-{self._starts}").read_text(errors="replace")

    def _wait(self, condition: Callable[[], bool], complaint: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.command()[0]} {complaint}:\n{self.output()[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a machine that loses its power."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """In order."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


class Nats(Server):
    """nats-server.  `config` is text for its configuration file, beside the ports."""

    def __init__(self, folder: Path, program: str = "", config: str = "") -> None:
        super().__init__(folder)
        self._program = program or binary("nats-server")
        self.port, self.monitor = free_port(), free_port()
        self._config = folder / "nats.conf"
        self._config.write_text(config)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        address = ["-a", "127.0.0.1", "-p", str(self.port), "-m", str(self.monitor)]
        return [self._program, "-c", str(self._config), *address]

    def is_up(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.settimeout(1)
            return probe.recv(5) == b"INFO "
        return False

    def ask(self, page: str) -> Mapping[str, object]:
        """A page of its monitor, such as `connz?subs=1`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/{page}", timeout=5) as answer:
            found: Mapping[str, object] = json.load(answer)
            return found


class Etcd(Server):
    """etcd, one member.  `arguments` go onto its command line, `scheme` is https with certificates."""

    def __init__(
        self, folder: Path, program: str = "", arguments: Sequence[str] = (), scheme: str = "http"
    ) -> None:
        super().__init__(folder)
        self._program = program or binary("etcd")
        self.port, self._peer = free_port(), free_port()
        self._arguments = arguments
        self._scheme = scheme

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        peer = f"http://127.0.0.1:{self._peer}"
        return [
            *(self._program, "--data-dir", str(self.folder / "data")),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}", "--logger", "zap"),
            *("--bcrypt-cost", "4"),  # a password is no secret here, and etcdctl logs in with every command
            *self._arguments,
        ]

    def is_up(self) -> bool:
        if self._scheme == "https":
            return "ready to serve client requests" in self.output()
        with suppress(OSError, ValueError), urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
            healthy: str = json.load(answer)["health"]
            return healthy == "true"
        return False

    def wipe(self) -> None:
        """Delete its data; it must not be running."""
        assert self._process is None or self._process.poll() is not None
        shutil.rmtree(self.folder / "data")

    def ctl(self, *arguments: str) -> str:
        """etcdctl's output."""
        done = subprocess.run(
            [binary("etcdctl"), "--endpoints", self.url, *arguments],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

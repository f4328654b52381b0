"""Network namespaces joined by a bridge: machines that know each other by name, but share the file system.

In each of them every port is free, so what is written for ports 80, 8081 and 9000 can be run as it stands.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_NETNS = Path("/etc/netns")


class Machines:
    """`names` are the machines; `aliases` other names by which one of them is known to all."""

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        if os.geteuid() != 0 or not shutil.which("ip"):
            pytest.skip("network namespaces need root and ip (iproute2)")
        self._spaces = {name: f"rq{os.getpid()}-{name}" for name in names}
        self._hub = f"rq{os.getpid()}-hub"
        self.address = {name: f"10.98.0.{number}" for number, name in enumerate(names, 1)}
        self._processes: list[subprocess.Popen[str]] = []
        try:
            self._join(aliases or {})
        except BaseException:
            self.close()
            raise

    def _join(self, aliases: Mapping[str, str]) -> None:
        _ip(f"netns add {self._hub}")
        _ip(f"-n {self._hub} link add name hub type bridge")
        _ip(f"-n {self._hub} addr add 10.98.0.254/24 dev hub")
        _ip(f"-n {self._hub} link set hub up")
        known = {**self.address, **{alias: self.address[name] for alias, name in aliases.items()}}
        hosts = "".join(f"{address} {name}\n" for name, address in known.items())
        for number, (name, space) in enumerate(self._spaces.items(), 1):
            _ip(f"netns add {space}")
            _ip(f"-n {self._hub} link add cable{number} type veth peer name cable netns {space}")
            _ip(f"-n {self._hub} link set cable{number} master hub up")
            _ip(f"-n {space} addr add {self.address[name]}/24 dev cable")
            _ip(f"-n {space} link set cable up")
            _ip(f"-n {space} link set lo up")
            _ip(f"-n {space} route add default via 10.98.0.254")
            folder = _NETNS / space
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
            (folder / "nsswitch.conf").write_text("hosts: files\n")
            (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # refuses at once

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self._spaces[name], *command]

    def start(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """A process on one of them, with its children, until the end of the test."""
        process = subprocess.Popen(
            self.command(name, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            **options,
        )
        self._processes.append(process)
        return process

    def run(self, name: str, command: Sequence[str], **options: Any) -> tuple[int, str]:
        """A command on one of them: its exit status, and what it printed."""
        done = subprocess.run(
            self.command(name, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=40,
            **options,
        )
        return done.returncode, done.stdout

    def close(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for space in (*self._spaces.values(), self._hub):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
            shutil.rmtree(_NETNS / space, ignore_errors=True)


def _ip(arguments: str) -> None:
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no network namespaces here: ip {arguments}: {done.stderr.strip()}")

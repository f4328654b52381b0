"""The conformance suite as users run it: from wheels, by its one line."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 600.0
"""Seconds that a run of the suite may take: far more than it takes on an idle machine, even under strain."""

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


def reasons(result: Mapping[str, Any]) -> dict[str, int]:
    """Why cases did not pass, and how many each time."""
    cases = result["cases"]
    return dict(Counter(case["reason"] for case in cases if case["outcome"] != "passed"))

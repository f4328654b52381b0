"""docs/nats-to-http.md: its commands, typed in its order, print what it shows."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from servers import Etcd, Nats
from test_readme import commands, quoted, without_chance

PAGE = Page((Path(__file__).parent.parent.parent / "docs" / "nats-to-http.md").read_text())
WORKER = "reqplane serve worker:generate default.backend.generate"
HEADINGS = {
    heading.partition(":")[0]: heading
    for heading in (block.heading for block in PAGE.blocks)
    if heading.startswith("Step")
}


class Operator:
    """Two workers, and a shell in which the page's commands are typed."""

    def __init__(self, processes: Any, env: dict[str, str], folder: Path) -> None:
        self._processes, self._env, self._folder = processes, env, folder
        self._workers: list[subprocess.Popen[str]] = []

    def start(self, exports: str) -> None:
        worker = self._processes.start(exports + WORKER, self._env, self._folder)
        while "serving " not in self._processes.output(worker):
            assert worker.poll() is None, self._processes.output(worker)
            time.sleep(0.02)
        self._workers.append(worker)

    def restart_the_next(self, exports: str) -> None:
        status, printed = self._processes.stop(self._workers.pop(0))
        assert status == 0, printed
        self.start(exports)

    def type(self, exports: str, console: str) -> None:
        """Type what a block shows; it must print what stands there."""
        for command, wanted in commands(console):
            script = f"{exports}sh -c {quoted(command)}"
            _, printed = self._processes.run(script, self._env, self._folder)
            assert tidy(printed) == tidy(wanted), command


def tidy(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"(generate)-[0-9a-f]{8,16}", r"\1-INCARNATION", without_chance(text))
    text = re.sub(r"http://ADDRESS|127\.0\.0\.1:\d+|10\.0\.0\.\d+:8081", "ADDRESS", text)
    text = re.sub(r"\b\d+ (s|min|h|d)\b", "AGE", text)
    return re.sub(r" +", " ", text)


@pytest.mark.system
def test_the_pages_commands_print_what_it_shows(
    readme: Page, processes: Any, loopback: dict[str, str], nats: Nats, etcd: Etcd, tmp_path: Path
):
    readme.write(tmp_path, "worker.py")
    env = loopback | {"NATS_SERVER": nats.url, "ETCD_ENDPOINTS": etcd.url}
    operator = Operator(processes, env, tmp_path)
    before = "export DYN_REQUEST_PLANE=nats\n"
    both, workers, alone = (PAGE.under(HEADINGS[step], "sh")[0] for step in ("Step 1", "Step 2", "Step 3"))
    operator.start(before)
    operator.start(before)
    for console in PAGE.under("Before you start", "console"):
        operator.type(before, console)
    (doctor,) = PAGE.under(HEADINGS["Step 1"], "console")
    operator.type(both, doctor)
    mixed, calls, done = PAGE.under(HEADINGS["Step 2"], "console")
    operator.restart_the_next(workers)
    operator.type(both, mixed)
    operator.type(both, calls)
    operator.restart_the_next(workers)
    operator.type(both, done)
    (doctor,) = PAGE.under(HEADINGS["Step 3"], "console")
    operator.type(alone, doctor)

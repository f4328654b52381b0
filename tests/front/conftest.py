"""A real front before real workers, and curl."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import PATH, Fleet

CURL = shutil.which("curl")
COMMAND = ("-m", "reqplane.frontend", "--http-port", "0")


@dataclass
class Answer:
    """What curl says: its exit status, the HTTP status, the body."""

    exit: int
    status: int
    body: str


class RunningFront:
    """`reqplane frontend` as a process."""

    def __init__(self, fleet: Fleet, *arguments: str, command: Sequence[str] = COMMAND, **env: str) -> None:
        self.process = fleet.run(*command, *arguments, **env)
        assert self.process.stderr is not None
        self.told: list[str] = []
        for line in self.process.stderr:
            self.told.append(line)
            if found := re.search(r"HTTP front on (http://\S+:\d+),", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(self.told))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.told += self.process.stderr

    def calls(self, path: str = PATH) -> str:
        return f"{self.url}/v1/endpoints/{path}"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def curl(*arguments: str) -> Answer:
    if CURL is None:
        pytest.skip("there is no curl here")
    done = subprocess.run(
        [CURL, "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    body, _, status = done.stdout.rpartition("\n")
    return Answer(done.returncode, int(status), body)


def error(answer: Answer) -> dict[str, Any]:
    """The error that it tells."""
    return json.loads(answer.body.splitlines()[-1])["error"]


def eventually(condition: Callable[[], Any], within: float = 20) -> None:
    limit = time.monotonic() + within
    while not condition():
        assert time.monotonic() < limit, f"did not come true within {within} s"
        time.sleep(0.05)

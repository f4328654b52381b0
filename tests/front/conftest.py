"""A real front before real workers, and curl."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleet import PATH, Fleet

CURL = shutil.which("curl")


@dataclass
class Answer:
    """What curl says: its exit status, the HTTP status, the body."""

    exit: int
    status: int
    body: str


class RunningFront:
    """`reqplane frontend` as a process."""

    def __init__(self, fleet: Fleet, *arguments: str, **env: str) -> None:
        command = ("-m", "reqplane.frontend", "--http-port", "0", *arguments)
        self.process = fleet.run(*command, **env)
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

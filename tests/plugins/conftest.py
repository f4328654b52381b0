"""Distributions that are built from their folders and installed, each test's into a folder of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BUILD = """
import os, sys
from hatchling.build import build_wheel
for folder in sys.argv[2:]:
    os.chdir(folder)
    build_wheel(sys.argv[1])
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of all folders in `broken`, by folder; built by their backend, all in one process."""
    folders = sorted(path for path in (HERE / "broken").iterdir() if path.is_dir())
    dist = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-c", BUILD, dist, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {folder.name: next(dist.glob(f"{name_of(folder)}-*.whl")) for folder in folders}


def name_of(folder: Path) -> str:
    """How the distribution of a folder is called in the name of its wheel."""
    (name,) = re.findall(r'^name = "(.+)"', (folder / "pyproject.toml").read_text(), re.MULTILINE)
    return name.replace("-", "_")


@dataclass(frozen=True)
class Outcome:
    """What a process with some plugins installed found."""

    found: dict[str, Any]
    """What `reqplane plugins --json` tells, by distribution."""
    status: int
    printed: str
    complaint: str
    """Exit status of `reqplane plugins`, and what it printed on both outputs."""
    items: list[Any] | None = None
    """Of a call, where connecting worked."""
    error: str | None = None
    """The class of the error where it did not, and its fields."""
    text: str = ""
    name: str | None = None
    distribution: str | None = None
    stage: str | None = None
    cause: str = ""


class Site:
    """A folder of installed distributions, beside ours."""

    def __init__(self, wheels: dict[str, Path], folder: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self._wheels = wheels
        self._env = {name: value for name, value in os.environ.items() if not re.match("DYN_|PYTHON", name)}
        self._env |= {
            "PYTHONPATH": str(self.folder),
            "DYN_REQUEST_PLANE": "http",
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(folder / "discovery"),
            "DYN_HTTP_RPC_HOST": "127.0.0.1",
            "DYN_HTTP_RPC_PORT": "0",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_PORT": "0",
            "DYN_LOG": "error",
        }

    def install(self, *folders: str) -> None:
        """Unpack wheels, which is all that installing a wheel without scripts is."""
        for folder in folders:
            with zipfile.ZipFile(self._wheels[folder]) as wheel:
                wheel.extractall(self.folder)

    def attempt(self, **env: str) -> Outcome:
        """Connect, call and list the plugins in a new process."""
        return self.attempts([env])[0]

    def attempts(self, envs: list[dict[str, str]]) -> list[Outcome]:
        """The same once for each of `envs`, which must set the same variables; all in one new process."""
        command = [sys.executable, str(HERE / "attempt.py"), json.dumps(envs)]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [outcome(**told) for told in json.loads(done.stdout)]


def outcome(listing: tuple[int, str, str], found: dict[str, Any], **told: Any) -> Outcome:
    status, printed, complaint = listing
    return Outcome(found=found, status=status, printed=printed, complaint=complaint, **told)


@pytest.fixture(scope="session")
def make_site(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Site]:
    return lambda: Site(wheels, tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()

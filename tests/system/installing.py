"""Our distributions as wheels, and environments that have nothing but what was installed from wheels."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {
    "reqplane": "core",
    "reqplane_tcp_stream": "plugins/tcp_stream",
    "reqplane_http": "plugins/http",
    "reqplane_nats": "plugins/nats",
    "reqplane_tcp": "plugins/tcp",
    "reqplane_conformance": "tests/conformance",
}
"""Where each package's distribution is."""
THIRD_PARTY = "examples/zmq"
"""A plugin as somebody else writes it: built and installed like ours, and published by nobody."""


def read_project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


def project(package: str) -> dict[str, Any]:
    return read_project(FOLDERS[package])


def foreign_requirements() -> list[str]:
    """What our distributions need from others."""
    lines = {line for package in FOLDERS for line in project(package)["dependencies"]}
    lines.update(project("reqplane")["optional-dependencies"]["etcd"])
    lines.update(read_project(THIRD_PARTY)["dependencies"])
    return sorted(line for line in lines if not line.startswith("reqplane"))


def pip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def build_wheels(sources: Iterable[Path], folder: Path) -> None:
    """As `make wheels` does, all at once."""
    builds = [
        subprocess.Popen(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for source in sources
    ]
    printed = [build.communicate()[0] for build in builds]
    for build, text in zip(builds, printed, strict=True):
        assert build.returncode == 0, text


@dataclass(frozen=True)
class Environment:
    """An environment with nothing in it but what was installed."""

    folder: Path
    sources: tuple[Path, ...]

    def install(self, *names: str) -> None:
        found = [f"--find-links={source}" for source in self.sources]
        done = pip("--python", self.folder, "install", "--quiet", "--no-index", *found, *names)
        assert done.returncode == 0, done.stderr

    def uninstall(self, *names: str) -> None:
        done = pip("--python", self.folder, "uninstall", "--quiet", "--yes", *names)
        assert done.returncode == 0, done.stderr

    def variables(self, bare: Mapping[str, str]) -> dict[str, str]:
        """A shell in which this environment is active."""
        return {**bare, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"}


def environment(folder: Path, sources: Iterable[Path], *names: str) -> Environment:
    """A new one with these distributions, from wheels in `sources` alone."""
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder, tuple(sources))
    made.install(*names)
    return made

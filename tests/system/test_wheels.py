"""The wheels, installed with pip into an empty environment, are a working system."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {
    "reqplane": "core",
    "reqplane_tcp_stream": "plugins/tcp_stream",
    "reqplane_http": "plugins/http",
    "reqplane_nats": "plugins/nats",
}
ENTRY_POINTS = {
    "reqplane": {"console_scripts": {"reqplane": "reqplane_command:main"}},
    "reqplane_tcp_stream": {"reqplane.transports": {"tcp_stream": "reqplane_tcp_stream.plugin"}},
    "reqplane_http": {"reqplane.transports": {"http": "reqplane_http.plugin"}},
    "reqplane_nats": {"reqplane.transports": {"nats": "reqplane_nats.plugin"}},
}
PLANES = {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "file"}
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def project(package: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / FOLDERS[package] / "pyproject.toml").read_text())["project"]


def foreign_requirements() -> list[str]:
    """What our distributions need from others."""
    lines = {line for package in FOLDERS for line in project(package)["dependencies"]}
    return sorted(line for line in lines if not line.startswith("reqplane"))


def pip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ── the fixtures: wheels, those of others, and two environments ─────────────────────────────────────


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Our wheels, built as `make wheels` does, by package."""
    folder = tmp_path_factory.mktemp("wheels")
    builds = [
        subprocess.Popen(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT / source],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for source in FOLDERS.values()
    ]
    printed = [build.communicate()[0] for build in builds]
    for build, text in zip(builds, printed, strict=True):
        assert build.returncode == 0, text
    return {package: next(folder.glob(f"{package}-*.whl")) for package in FOLDERS}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of others, fetched once.  After that pip looks at no index: what lacks then is a defect."""
    folder = tmp_path_factory.mktemp("foreign")
    fetched = pip(
        *("download", "--quiet", "--dest", folder, "--retries", "1", "--timeout", "20"),
        *("--constraint", ROOT / "constraints.txt", *foreign_requirements()),
    )
    if fetched.returncode != 0:
        pytest.skip(f"pip can't fetch the dependencies, so nothing can be installed: {fetched.stderr[-300:]}")
    return folder


@dataclass(frozen=True)
class Environment:
    """An environment with nothing in it but what was installed."""

    folder: Path
    sources: tuple[Path, ...]

    def install(self, *names: str) -> None:
        found = [f"--find-links={source}" for source in self.sources]
        done = pip("--python", self.folder, "install", "--quiet", "--no-index", *found, *names)
        assert done.returncode == 0, done.stderr

    def variables(self, bare: Mapping[str, str]) -> dict[str, str]:
        """A shell in which this environment is active."""
        return {**bare, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"}


def environment(folder: Path, wheels: dict[str, Path], foreign: Path, *names: str) -> Environment:
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder, (wheels["reqplane"].parent, foreign))
    made.install(*names)
    return made


@pytest.fixture(scope="module")
def core(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The core alone."""
    return environment(tmp_path_factory.mktemp("core"), wheels, foreign, "reqplane")


@pytest.fixture(scope="module")
def whole(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What the README says to install: the http plane brings the response plane along."""
    return environment(tmp_path_factory.mktemp("whole"), wheels, foreign, "reqplane", "reqplane-http")


# ── what is in them ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_is_typed_licensed_and_for_every_platform(wheels: dict[str, Path], package: str):
    assert wheels[package].name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheels[package]) as wheel:
        names = set(wheel.namelist())
        (licence,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert f"{package}/py.typed" in names


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_has_its_entry_points_and_no_other(wheels: dict[str, Path], package: str):
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    with zipfile.ZipFile(wheels[package]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
        parser.read_string(wheel.read(name).decode())
    assert {section: dict(parser[section]) for section in parser.sections()} == ENTRY_POINTS[package]


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_tells_of_no_place(wheels: dict[str, Path], package: str):
    """No path of the machine that built it."""
    with zipfile.ZipFile(wheels[package]) as wheel:
        for name in wheel.namelist():
            assert str(ROOT).encode() not in wheel.read(name), name


# ── the core alone ──────────────────────────────────────────────────────────────────────────────────


def test_the_core_alone_has_the_command(
    core: Environment, processes: Any, bare: dict[str, str], tmp_path: Path
):
    env = core.variables(bare)
    status, printed = processes.run("reqplane --help", env, tmp_path)
    assert status == 0, printed
    assert all(command in printed for command in ("serve", "call", "plugins", "doctor", "bench", "demo"))
    assert processes.run("python -m reqplane --version", env, tmp_path) == (
        0,
        f"reqplane {project('reqplane')['version']}\n",
    )


def test_the_core_alone_lists_its_plugin(
    core: Environment, processes: Any, bare: dict[str, str], tmp_path: Path
):
    status, printed = processes.run("reqplane plugins", core.variables(bare), tmp_path)
    assert status == 0, printed
    assert re.search(r"^builtin +reqplane ", printed, re.MULTILINE)
    assert "tcp_stream*" not in printed


def test_the_core_alone_says_both_remedies_at_once(
    core: Environment, processes: Any, bare: dict[str, str], tmp_path: Path
):
    status, printed = processes.run("reqplane call a.b.c 1", core.variables(bare), tmp_path)
    assert status == 2
    assert "2 settings are wrong" in printed
    assert "DYN_REQUEST_PLANE='nats'" in printed
    assert "DYN_DISCOVERY_BACKEND='etcd'" in printed
    assert "pip install reqplane-http" in printed
    assert "export DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file" in printed
    assert "docs/errors.md#SettingsError" in printed
    assert "Traceback" not in printed


def test_the_core_alone_raises_it_in_a_program(
    core: Environment, processes: Any, bare: dict[str, str], tmp_path: Path
):
    (tmp_path / "program.py").write_text(
        "import asyncio, reqplane\n"
        "async def main():\n"
        "    try:\n"
        "        async with reqplane.connect(): pass\n"
        "    except reqplane.SettingsError as error:\n"
        "        print([variable for variable, _, _ in error.problems])\n"
        "asyncio.run(main())\n"
    )
    assert processes.run("python program.py", core.variables(bare), tmp_path) == (
        0,
        "['DYN_REQUEST_PLANE', 'DYN_DISCOVERY_BACKEND']\n",
    )


# ── with the http plane ─────────────────────────────────────────────────────────────────────────────


def test_the_readme_runs_from_wheels(
    whole: Environment, readme: Any, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    """By environment variables only; the sources are not on the path."""
    env = whole.variables(loopback) | PLANES
    readme.write(tmp_path, "worker.py", "frontend.py")
    worker = processes.start("python worker.py", env, tmp_path)
    status, printed = processes.run("python frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    status, printed = processes.stop(worker)
    assert status == 0, printed
    assert "Traceback" not in printed


def test_it_runs_from_where_it_was_installed(
    whole: Environment, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    script = 'python -c "import reqplane, reqplane_http, reqplane_tcp_stream as t; print(t.__file__)"'
    status, printed = processes.run(script, whole.variables(loopback), tmp_path)
    assert status == 0, printed
    assert printed.startswith(str(whole.folder))


def test_the_demo_runs_from_wheels(whole: Environment, processes: Any, bare: dict[str, str], tmp_path: Path):
    """Its story is in the wheel, and its workers are the same environment's."""
    status, printed = processes.run("reqplane demo", whole.variables(bare), tmp_path)
    assert status == 0, printed
    assert printed.endswith("all is well\n")
    assert "\n  reqplane demo server\n" in printed

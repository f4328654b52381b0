"""The wheels, installed with pip into an empty environment, are a working system."""

from __future__ import annotations

import configparser
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from installing import FOLDERS, ROOT, Environment, environment, project

ENTRY_POINTS = {
    "reqplane": {"console_scripts": {"reqplane": "reqplane_command:main"}},
    "reqplane_tcp_stream": {"reqplane.transports": {"tcp_stream": "reqplane_tcp_stream.plugin"}},
    "reqplane_http": {"reqplane.transports": {"http": "reqplane_http.plugin"}},
    "reqplane_nats": {"reqplane.transports": {"nats": "reqplane_nats.plugin"}},
    "reqplane_tcp": {"reqplane.transports": {"tcp": "reqplane_tcp.plugin"}},
    "reqplane_conformance": {
        "pytest11": {"reqplane_conformance": "reqplane_conformance.plugin"},
        "reqplane.transports": {"memory": "reqplane_conformance.memory"},
    },
}
PLANES = {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "file"}
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def core(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The core alone."""
    return environment(tmp_path_factory.mktemp("core"), [wheels["reqplane"].parent, foreign], "reqplane")


@pytest.fixture(scope="module")
def whole(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What the README says to install: the http plane brings the response plane along."""
    sources = [wheels["reqplane"].parent, foreign]
    return environment(tmp_path_factory.mktemp("whole"), sources, "reqplane", "reqplane-http")


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

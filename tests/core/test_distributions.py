"""The distributions as users install them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import reqplane

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {
    "core": "reqplane",
    "plugins/http": "reqplane_http",
    "plugins/nats": "reqplane_nats",
    "plugins/tcp": "reqplane_tcp",
    "plugins/tcp_stream": "reqplane_tcp_stream",
    "tests/conformance": "reqplane_conformance",
}
VERSION = "0.1.0"


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every distribution's wheel, built as `make wheels` does."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in PACKAGES:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        done = subprocess.run(command, cwd=ROOT / source, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def members(wheels: Path, package: str) -> set[str]:
    with zipfile.ZipFile(wheels / f"{package}-{VERSION}-py3-none-any.whl") as wheel:
        return set(wheel.namelist())


@pytest.mark.parametrize("folder", PACKAGES)
def test_all_have_one_version(folder: str):
    assert project(folder)["version"] == VERSION


@pytest.mark.parametrize("folder", PACKAGES)
def test_our_own_are_required_in_that_version(folder: str):
    own = [line for line in project(folder).get("dependencies", []) if line.startswith("reqplane")]
    assert all(line.endswith(f"=={VERSION}") for line in own)


def test_the_core_requires_no_plugin():
    assert not [line for line in project("core")["dependencies"] if line.startswith("reqplane")]


def test_the_changelog_knows_the_version():
    assert f"[{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_wheel_is_typed_and_licensed(wheels: Path, folder: str, package: str):
    names = members(wheels, package)
    assert f"{package}/py.typed" in names
    assert f"{package}-{VERSION}.dist-info/licenses/LICENSE" in names


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_wheel_has_every_file_of_its_package(wheels: Path, folder: str, package: str):
    source = ROOT / folder / "src"
    files = {
        str(path.relative_to(source))
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= members(wheels, package)


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_wheel_holds_nothing_else(wheels: Path, folder: str, package: str):
    tops = {name.split("/")[0] for name in members(wheels, package)} - {"reqplane_command.py"}
    assert tops == {package, f"{package}-{VERSION}.dist-info"}


@pytest.mark.parametrize("folder", PACKAGES)
def test_entry_points_lead_somewhere(folder: str):
    for entry in distribution(project(folder)["name"]).entry_points:
        assert entry.load() is not None


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_package_page_says_how_to_install_it(folder: str):
    assert f"pip install {project(folder)['name']}" in (ROOT / folder / "README.md").read_text()


def test_the_constraints_name_no_place():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or line.count("==") == 1
        assert "@" not in line
        assert "/" not in line


def test_the_public_names_are_there():
    for name in getattr(reqplane, "__all__", []):
        assert hasattr(reqplane, name)

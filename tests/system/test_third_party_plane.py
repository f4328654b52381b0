"""A plugin by somebody else, from its wheel, beside ours: the suite, the demo and the doctor on its plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from installing import ROOT, THIRD_PARTY, Environment, build_wheels, environment, read_project

PLANE = {"DYN_REQUEST_PLANE": "zmq", "DYN_DISCOVERY_BACKEND": "file"}
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def with_zmq(wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Its wheel beside ours."""
    folder = tmp_path_factory.mktemp("third-party")
    build_wheels([ROOT / THIRD_PARTY], folder)
    names = (read_project(THIRD_PARTY)["name"], "reqplane-http", "reqplane-conformance")
    sources = [folder, wheels["reqplane"].parent, foreign]
    return environment(tmp_path_factory.mktemp("zmq"), sources, *names)


def test_it_conforms(with_zmq: Environment, processes: Any, bare: dict[str, str], tmp_path: Path):
    line = "pytest -p no:cacheprovider --pyargs reqplane_conformance --transport zmq"
    line += " --conformance-report report.json"
    status, printed = processes.run(line, with_zmq.variables(bare), tmp_path, patience=200)
    assert status == 0, printed
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert result["level"] in ("base", "full")
    assert result["source"].startswith("reqplane-zmq ")


def test_it_is_listed(with_zmq: Environment, processes: Any, bare: dict[str, str], tmp_path: Path):
    status, printed = processes.run("reqplane plugins", with_zmq.variables(bare | PLANE), tmp_path)
    assert status == 0
    assert "request plane zmq*" in printed


def test_the_demo_runs_on_it(with_zmq: Environment, processes: Any, bare: dict[str, str], tmp_path: Path):
    status, printed = processes.run("reqplane demo", with_zmq.variables(bare | PLANE), tmp_path)
    assert status == 0, printed
    assert "zmq" in printed
    assert printed.endswith("all is well\n")


def test_the_doctor_finds_it_well(
    with_zmq: Environment, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    """With a worker that is probed over it."""
    env = with_zmq.variables(loopback | PLANE | {"DYN_ZMQ_HOST": "127.0.0.1"})
    (tmp_path / "worker.py").write_text("async def echo(request, context):\n    yield request\n")
    worker = processes.start("reqplane serve worker:echo a.b.c", env | {"PYTHONPATH": "."}, tmp_path)
    call = "for n in 1 2 3 4 5 6 7 8 9; do reqplane call a.b.c 7 && exit 0; sleep 1; done; exit 1"
    status, printed = processes.run(f"sh -c '{call}'", env, tmp_path)
    assert status == 0, printed
    status, printed = processes.run("reqplane doctor", env, tmp_path)
    assert status == 0, printed
    assert "zmq" in printed
    assert "WRONG" not in printed
    assert processes.stop(worker)[0] == 0

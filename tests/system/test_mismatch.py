"""Workers on one plane, a process on another: what it says (statement 45), in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fleet import PATH, Fleet
from memory_planes import eventually
from servers import Nats

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path, nats: Nats) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "kv")
    fleet.env["NATS_SERVER"] = nats.url
    yield fleet
    fleet.close()


def ask(fleet: Fleet, *arguments: str, plane: str) -> tuple[int, str]:
    """A command on `plane`: its exit status, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "reqplane", *arguments],
        env={**os.environ, **fleet.env, "DYN_REQUEST_PLANE": plane},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    return done.returncode, done.stdout + done.stderr


async def registered(fleet: Fleet, *planes: str) -> None:
    """Start a worker on each of these planes, and wait for their records."""
    for plane in planes:
        fleet.start("count", DYN_REQUEST_PLANE=plane)
    folder = Path(fleet.env["DYN_FILE_KV"])
    await eventually(lambda: len(list(folder.glob("v1/instances/*.instance.*"))) == len(planes), within=30)


def call(fleet: Fleet, plane: str, patience: str = "0.5") -> tuple[int, str]:
    return ask(fleet, "call", PATH, '{"n": 1}', "--timeout", patience, plane=plane)


@pytest.mark.parametrize(("workers", "here"), [("nats", "http"), ("http", "nats")])
async def test_guide_45_workers_on_one_plane_and_this_process_on_another(
    workers: str, here: str, fleet: Fleet
) -> None:
    await registered(fleet, workers)
    status, printed = call(fleet, here)
    assert status == 1
    assert f"No instances found for {PATH} that this process can use, which is on {here}" in printed
    assert f"there are 1 on {workers}; set DYN_REQUEST_PLANE={workers} here" in printed
    assert f"(or {workers},{here}), or DYN_REQUEST_PLANE={here} at the workers" in printed
    status, printed = ask(fleet, "doctor", PATH, plane=here)
    assert status == 1
    assert f"{PATH}/0 is on {workers}, this side on {here}" in printed
    assert f"export DYN_REQUEST_PLANE={workers}" in printed.replace("'", "")
    for cure in (workers, f"{workers},{here}"):  # what it says to set does cure it
        assert call(fleet, cure, "20") == (0, "0\n")


def records(fleet: Fleet, *transports: Mapping[str, Any]) -> None:
    """Records as workers of those planes would write them."""
    folder = Path(fleet.env["DYN_FILE_KV"]) / "v1" / "instances"
    folder.mkdir(parents=True)
    namespace, component, name = PATH.split(".")
    for number, transport in enumerate(transports):
        key = f"namespace.{namespace}.component.{component}.endpoint.{name}.instance.{number}"
        (folder / key).write_text(json.dumps({"transport": transport, "incarnation": number + 7}))


def test_guide_45_workers_on_several_planes(fleet: Fleet) -> None:
    records(fleet, {"nats_tcp": "a"}, {"nats_tcp": "b"}, {"velo": "c"})
    status, printed = call(fleet, "http")
    assert status == 1
    assert "there are 2 on nats, 1 on velo; set DYN_REQUEST_PLANE=nats,velo here" in printed

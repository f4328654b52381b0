"""DYN_WIRE_PROFILE=dynamo with the commands: who is there, who is called, what the doctor says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import HERE, PATH, Fleet
from servers import Nats

pytestmark = pytest.mark.system

PROFILE = {"DYN_WIRE_PROFILE": "dynamo"}


@pytest.fixture
def fleet(tmp_path: Path, nats: Nats) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    fleet.env |= {"NATS_SERVER": nats.url, "DYN_REQUEST_PLANE": "nats,http"}
    yield fleet
    fleet.close()


def reqplane_command(fleet: Fleet, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reqplane", *arguments],
        env={**os.environ, **fleet.env, **env},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_workers_of_both_profiles_behind_one_client(fleet: Fleet) -> None:
    fleet.start("count")
    fleet.start("count", **PROFILE)
    fleet.start("count", DYN_REQUEST_PLANE="http", **PROFILE)
    async with fleet.client(workers=3) as client:
        small, *large = client.instance_ids()
        assert small == 0
        assert [one.incarnation for one in client.instances()[1:]] == large
        for number in (small, *large):
            assert [item async for item in client.direct({"n": 2}, number)] == [0, 1]
        streams = [client.round_robin({"n": 1}) for _ in range(6)]
        assert [[item async for item in stream] for stream in streams] == [[0]] * 6


async def test_the_commands_know_such_workers(fleet: Fleet, tmp_path: Path) -> None:
    worker = fleet.start("count", **PROFILE)
    async with fleet.client() as client:
        (number,) = client.instance_ids()
    assert [name.name for name in (tmp_path / "v1" / "instances").iterdir()] == [
        f"test%2Fworker%2Fgenerate%2F{number:x}"
    ]
    (told,) = json.loads(reqplane_command(fleet, "instances", "--json").stdout)
    assert (told["path"], told["instance"], told["incarnation"]) == (PATH, number, number)
    assert told["planes"] == ["nats", "http"]
    assert told["address"].startswith(f"test_worker.generate-{number:x}, http://127.0.0.1:")
    table = reqplane_command(fleet, "instances").stdout
    assert f"{PATH}  {number}" in table
    for written in (str(number), f"0x{number:x}"):
        call = reqplane_command(fleet, "call", "--instance", written, PATH, json.dumps({"n": 2}))
        assert (call.stdout, call.returncode) == ("0\n1\n", 0)
    doctor = reqplane_command(fleet, "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert f"{PATH}/{number} on nats" in doctor.stdout
    worker.terminate()
    assert worker.wait(30) == 0
    assert worker.stderr is not None
    assert f"as instance {number} on nats,http, found by file (Dynamo: nats_tcp), at" in worker.stderr.read()

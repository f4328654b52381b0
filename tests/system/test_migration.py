"""A fleet moves from NATS to HTTP and back, process by process, while 200 requests and more are in flight.

The order is that of docs/nats-to-http.md: frontends first, with both planes; then the workers; then the
frontends again.  No request is lost, none runs twice, and no caller sees an error.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fleet import HERE, PATH
from servers import Etcd, Nats
from traffic import PATIENCE, Door, Traffic

pytestmark = pytest.mark.system


class MovingFleet:
    """Workers and frontends that are restarted one by one, each with another plane."""

    def __init__(self, processes: Any, env: dict[str, str], workers: int, frontends: int) -> None:
        self._processes, self._env = processes, env
        self._workers: list[subprocess.Popen[str] | None] = [None] * workers
        self._frontends: list[subprocess.Popen[str] | None] = [None] * frontends
        self._doors: list[Door] = []

    async def start(self, planes: str) -> list[Door]:
        for slot in range(len(self._workers)):
            await self._start_worker(slot, planes)
        return [await self._start_frontend(slot, planes) for slot in range(len(self._frontends))]

    async def move_workers(self, planes: str) -> None:
        for slot in range(len(self._workers)):
            await self._stop(self._workers[slot])
            await self._start_worker(slot, planes)

    async def move_frontends(self, planes: str, traffic: Traffic) -> None:
        for slot in range(len(self._frontends)):
            await self._stop(self._frontends[slot])
            traffic.doors.append(await self._start_frontend(slot, planes))

    async def _start_worker(self, slot: int, planes: str) -> None:
        process = self._start(f"reqplane serve handlers:noted {PATH}", planes)
        self._workers[slot] = process
        await self._says(process, "serving ")

    async def _start_frontend(self, slot: int, planes: str) -> Door:
        process = self._start(f"python relay.py {PATH}", planes)
        self._frontends[slot] = process
        return await Door.open(int(await self._says(process, "port ")))

    def _start(self, command: str, planes: str) -> subprocess.Popen[str]:
        return self._processes.start(command, {**self._env, "DYN_REQUEST_PLANE": planes}, HERE)

    async def _says(self, process: subprocess.Popen[str], words: str) -> str:
        """Wait until it has printed a line with these words; what stands behind them."""
        limit = asyncio.get_running_loop().time() + PATIENCE
        while True:
            printed: str = self._processes.output(process)
            _, found, rest = printed.partition(words)
            if found and "\n" in rest:
                return rest.partition("\n")[0]
            assert process.poll() is None, printed
            assert asyncio.get_running_loop().time() < limit, printed
            await asyncio.sleep(0.02)

    async def _stop(self, process: subprocess.Popen[str] | None) -> None:
        """In order: it drains."""
        assert process is not None
        status, printed = await asyncio.to_thread(self._processes.stop, process)
        assert status == 0, printed
        assert "Traceback" not in printed


async def move_there_and_back(
    fleet: MovingFleet, folder: Path, one: str, other: str, rounds: int = 1
) -> None:
    """From plane `one` to the `other` and back, and then a look at what has become of every request."""
    traffic = Traffic(folder, width=240, n=3, pause=0.3)
    async with traffic.running(await fleet.start(one)):
        await traffic.answered(100)
        for there, back in [(other, one), (one, other)] * rounds:
            await fleet.move_frontends(f"{there},{back}", traffic)
            await fleet.move_workers(there)
            await fleet.move_frontends(there, traffic)
            before = traffic.planes()
            await traffic.answered(300)
            assert set(traffic.planes() - before) == {there}, "the other plane is still in use"
    assert traffic.errors() == {}
    assert traffic.ran() == dict.fromkeys(traffic.answers, 1)
    assert traffic.least >= 200
    assert min(traffic.planes()[plane] for plane in (one, other)) > 300


@pytest.fixture
def env(loopback: dict[str, str], nats: Nats, etcd: Etcd) -> dict[str, str]:
    pytest.importorskip("reqplane_nats.transport")
    pytest.importorskip("reqplane.discovery.etcd")
    servers = {"NATS_SERVER": nats.url, "ETCD_ENDPOINTS": etcd.url}
    return loopback | servers | {"DYN_DISCOVERY_BACKEND": "etcd"}


@pytest.mark.timeout(120)
async def test_no_request_is_lost_on_the_way_from_nats_to_http_and_back(
    processes: Any, env: dict[str, str], tmp_path: Path
):
    fleet = MovingFleet(processes, env, workers=3, frontends=2)
    await move_there_and_back(fleet, tmp_path / "ran", "nats", "http")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_larger_fleet_moves_there_and_back_three_times(
    processes: Any, env: dict[str, str], tmp_path: Path
):
    fleet = MovingFleet(processes, env, workers=6, frontends=3)
    await move_there_and_back(fleet, tmp_path / "ran", "nats", "http", rounds=3)

"""A fleet moves from NATS to HTTP and back, process by process, while 200 requests and more are in flight.

The order is that of docs/nats-to-http.md: frontends first, with both planes; then the workers; then the
frontends again.  No request is lost, none runs twice, and no caller sees an error.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from relayed import RelayedFleet
from servers import Etcd, Nats
from traffic import Door, Traffic

pytestmark = pytest.mark.system


class MovingFleet(RelayedFleet):
    """They are restarted one by one, each with another plane."""

    def __init__(self, processes: Any, env: dict[str, str]) -> None:
        super().__init__(processes, env)
        self._workers: list[subprocess.Popen[str]] = []
        self._frontends: list[subprocess.Popen[str]] = []

    async def start(self, planes: str, workers: int, frontends: int) -> list[Door]:
        self._workers = [await self.worker(planes) for _ in range(workers)]
        started = [await self.frontend(planes) for _ in range(frontends)]
        self._frontends = [process for process, _ in started]
        return [door for _, door in started]

    async def move_workers(self, planes: str) -> None:
        for slot, worker in enumerate(self._workers):
            await self.stop(worker)
            self._workers[slot] = await self.worker(planes)

    async def move_frontends(self, planes: str, traffic: Traffic) -> None:
        for slot, frontend in enumerate(self._frontends):
            await self.stop(frontend)
            self._frontends[slot], door = await self.frontend(planes)
            traffic.doors.append(door)


async def move_there_and_back(
    fleet: MovingFleet, doors: Sequence[Door], folder: Path, rounds: int, pause: float
) -> Traffic:
    """From NATS to HTTP and back, and then a look at what has become of every request."""
    traffic = Traffic(folder, width=240, n=3, pause=pause)
    async with traffic.running(doors):
        await traffic.answered(100)
        for there, back in [("http", "nats"), ("nats", "http")] * rounds:
            await fleet.move_frontends(f"{there},{back}", traffic)
            await fleet.move_workers(there)
            await fleet.move_frontends(there, traffic)
            before = traffic.planes()
            await traffic.answered(300)
            assert set(traffic.planes() - before) == {there}, "the other plane is still in use"
    assert traffic.errors() == {}
    assert traffic.ran() == dict.fromkeys(traffic.answers, 1)
    assert traffic.least >= 200
    assert min(traffic.planes()[plane] for plane in ("nats", "http")) > 300
    return traffic


@pytest.fixture
def env(loopback: dict[str, str], nats: Nats, etcd: Etcd) -> dict[str, str]:
    servers = {"NATS_SERVER": nats.url, "ETCD_ENDPOINTS": etcd.url}
    return loopback | servers | {"DYN_DISCOVERY_BACKEND": "etcd"}


@pytest.mark.timeout(300)
async def test_no_request_is_lost_on_the_way_from_nats_to_http_and_back(
    processes: Any, env: dict[str, str], tmp_path: Path
):
    fleet = MovingFleet(processes, env)
    doors = await fleet.start("nats", workers=3, frontends=2)
    await move_there_and_back(fleet, doors, tmp_path / "ran", rounds=1, pause=0.7)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_larger_fleet_moves_there_and_back_three_times(
    processes: Any, env: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
):
    fleet = MovingFleet(processes, env)
    doors = await fleet.start("nats", workers=6, frontends=3)
    traffic = await move_there_and_back(fleet, doors, tmp_path / "ran", rounds=3, pause=0.3)
    record_property(
        "migration",
        f"{len(traffic.answers)} requests, each answered and none twice; {traffic.least} in flight at least",
    )

"""Mixed load for a long time, workers killed meanwhile: nothing grows, no answer is wrong or missing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import PATH, Fleet
from memory_planes import eventually
from soak.calls import CALLS
from soak.growth import growths, table

SECONDS = float(os.environ.get("REQPLANE_SOAK_SECONDS", "600"))
HERE = Path(__file__).parent

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "discovery")
    fleet.env["PYTHONPATH"] = str(HERE.parent)
    fleet.env["DYN_LOG"] = "error"
    yield fleet
    fleet.close()


class Soak:
    """One run: a steady worker, one that is killed now and then, and the frontend."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.kills = 0
        self.rounds: list[dict[str, Any]] = []
        self.totals: dict[str, Any] = {}

    async def run(self, seconds: float, round_seconds: float, kill_every: float) -> None:
        fleet = self._fleet
        self._start_worker()
        async with fleet.client() as client:
            victim = self._start_worker()
            await eventually(lambda: len(client.instances()) == 2, within=20)
            frontend = fleet.run(str(HERE / "frontend.py"), PATH, str(seconds), str(round_seconds))
            reading = asyncio.ensure_future(asyncio.to_thread(frontend.communicate))
            while not reading.done():
                await asyncio.wait([reading], timeout=kill_every)
                if not reading.done():
                    victim.kill()
                    self.kills += 1
                    victim = self._start_worker()
        output, errors = reading.result()
        assert frontend.returncode == 0, errors[-4000:]
        *self.rounds, self.totals = map(json.loads, output.splitlines())

    def _start_worker(self) -> subprocess.Popen[str]:
        return self._fleet.run("-m", "reqplane", "serve", "soak.handlers:soak", PATH)

    def check_answers(self) -> None:
        """Nothing wrong, and every call accounted for."""
        assert not self.totals["wrong"], "\n".join(self.totals["wrong"])
        assert sum(self.totals["ended"].values()) == self.totals["made"] > 0

    def summary(self) -> str:
        ended = ", ".join(f"{count} {how}" for how, count in sorted(self.totals["ended"].items()))
        return f"{self.totals['made']} calls, a worker killed {self.kills} times; {ended}"


async def test_a_few_seconds_of_everything_at_once(fleet: Fleet) -> None:
    """Every kind of call happens, and every one ends as it must."""
    soak = Soak(fleet)
    await soak.run(seconds=5, round_seconds=4, kill_every=1.5)
    soak.check_answers()
    assert soak.kills > 0
    assert {how.split(":")[0] for how in soak.totals["ended"]} == {call.__name__ for call in CALLS}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 1.5 + 120)
async def test_nothing_grows(fleet: Fleet, record_property: Callable[[str, object], None]) -> None:
    soak = Soak(fleet)
    await soak.run(SECONDS, round_seconds=max(SECONDS / 40, 1), kill_every=max(SECONDS / 30, 5))
    rows = [
        row
        for process in ("frontend", "worker")
        for row in growths(process, [one[process] for one in soak.rounds])
    ]
    record_property("soak", f"{soak.summary()}\n\n{table(rows)}")
    soak.check_answers()
    assert len(soak.rounds) >= 10, "too few quiet moments to tell anything"
    assert not [row for row in rows if row.too_much]

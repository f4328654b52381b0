"""NATS and its workers fail under traffic: each caller gets the whole answer, or an error that says why not.

What is shown here stands in docs/failures.md.  Nothing runs twice, nothing hangs, and afterwards all is well
without a restart.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from relayed import RelayedFleet
from servers import Nats
from traffic import Answer, Traffic

pytestmark = pytest.mark.system

ACK_LIMIT = 2.0
"""Seconds that the tests give an ack: DYN_NATS_REQUEST_TIMEOUT_SECS."""
CALL_HOME_LIMIT = 5.0
"""Seconds that a worker has from there to call home: DYN_CALL_HOME_TIMEOUT."""


class Scene:
    """Two workers on NATS, a frontend, short calls all the time, and long ones that run already."""

    def __init__(self, processes: Any, env: dict[str, str], folder: Path) -> None:
        self._fleet = RelayedFleet(processes, env)
        self.workers: list[subprocess.Popen[str]] = []
        self._folder = folder
        self.short = Traffic(folder / "short", width=40, n=3, pause=0.1)

    @asynccontextmanager
    async def running(self, seconds: float) -> AsyncGenerator[None]:
        """The long calls take so many seconds."""
        self.long = Traffic(self._folder / "long", width=10, n=round(seconds / 0.1), pause=0.1)
        self.workers = [await self._fleet.worker("nats") for _ in range(2)]
        _, one = await self._fleet.frontend("nats")
        _, other = await self._fleet.frontend("nats")
        async with self.long.running([other]), self.short.running([one]):
            self.long.stop()
            await self.short.answered(80)
            yield

    async def recovers(self) -> None:
        """Calls that begin from here on are answered, after a moment, and both workers have their part."""
        while await self._errors_of(80):
            pass

    async def _errors_of(self, calls: int) -> int:
        known = set(self.short.answers)
        await self.short.answered(calls)
        new = [one for name, one in self.short.answers.items() if name not in known and one.done.is_set()]
        workers = {one.worker for one in new if not one.error}
        return sum(bool(one.error) for one in new) + (len(workers) < 2)

    def failed(self) -> dict[str, Answer]:
        """The short calls that were not answered.  None ran twice, and what was answered ran."""
        ran = self.short.ran()
        assert set(ran.values()) == {1}
        assert ran.keys() >= self.short.whole().keys()
        return {name: self.short.answers[name] for name in self.short.errors()}


@pytest.fixture
def scene(processes: Any, loopback: dict[str, str], own_nats: Nats, tmp_path: Path) -> Scene:
    ours = {
        "NATS_SERVER": own_nats.url,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_NATS_REQUEST_TIMEOUT_SECS": str(ACK_LIMIT),
    }
    return Scene(processes, loopback | ours, tmp_path)


def check(failed: dict[str, Answer], *reasons: str) -> None:
    """Their callers were told one of these, in time: at the latest when no worker has called home."""
    others = [one.error for one in failed.values() if not any(reason in one.error for reason in reasons)]
    assert others == []
    assert max((one.seconds for one in failed.values()), default=0.0) < ACK_LIMIT + CALL_HOME_LIMIT


NOT_CONNECTED = "no connection to the NATS server"
NOT_YET_BACK = "nobody listens there (no responders"
UNACKED = "the request may have been delivered (connection_lost): the connection to the NATS server"
NO_ACK = "the request may have been delivered (timed_out): no ack"
NO_CALL_HOME = "the request may have been delivered (never_called_home)"
BROKEN = "StreamBroken: the response stream broke after "


async def test_nats_is_killed_and_back_after_3_s(scene: Scene, own_nats: Nats):
    async with scene.running(seconds=5):
        own_nats.kill()
        await asyncio.sleep(3)
        await asyncio.to_thread(own_nats.start)
        await scene.recovers()
    assert scene.long.errors() == {}, "streams that run need no NATS"
    check(scene.failed(), NOT_CONNECTED, NOT_YET_BACK, UNACKED)


@pytest.mark.slow
async def test_nats_is_frozen_for_8_s(scene: Scene, own_nats: Nats):
    """It is given up within 6 s, so that calls fail at once from then on."""
    async with scene.running(seconds=10):
        own_nats.freeze()
        await asyncio.sleep(6.5)
        noticed = set(scene.short.answers)
        await asyncio.sleep(1.5)
        own_nats.thaw()
        await scene.recovers()
    assert scene.long.errors() == {}
    failed = scene.failed()
    check(failed, NOT_CONNECTED, NOT_YET_BACK, UNACKED, NO_ACK)
    check({name: one for name, one in failed.items() if name not in noticed}, NOT_CONNECTED, NOT_YET_BACK)


async def test_a_worker_is_killed(scene: Scene):
    async with scene.running(seconds=3):
        scene.workers[0].kill()
        await scene.short.answered(200)
    check(scene.failed(), BROKEN, NO_ACK, NO_CALL_HOME)
    broken = scene.long.errors()
    assert 0 < len(broken) < 10, "the other worker's streams go on"
    assert all(BROKEN in error for error in broken.values())


@pytest.mark.slow
async def test_a_worker_is_frozen_for_8_s(scene: Scene):
    """What runs there waits, and goes on when it is awake."""
    async with scene.running(seconds=3):
        os.kill(scene.workers[0].pid, signal.SIGSTOP)
        await asyncio.sleep(8)
        os.kill(scene.workers[0].pid, signal.SIGCONT)
        await scene.recovers()
    assert scene.long.errors() == {}
    check(scene.failed(), NO_ACK, NO_CALL_HOME)

"""What a worker process has to do: how much it takes on, and what frontends hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.errors import WorkerBusy
from reqplane.interfaces import Budget, Timers
from reqplane.model import Limits, Load

_PAUSE = 0.1
"""Seconds between two reports of a load that keeps changing."""


class Workload:
    """The requests that this process runs, of all its endpoints."""

    def __init__(
        self, limits: Limits, inflight: Budget, timers: Timers, report: Callable[[Load], None]
    ) -> None:
        self._most = limits.max_running
        self._most_bytes = limits.max_inflight_bytes
        self._inflight = inflight
        self._timers = timers
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._reported = 0
        self._armed = False
        self.running = 0

    def admit(self, size: int) -> None:
        """Take a request of so many bytes on; WorkerBusy if that is too much."""
        if self.running >= self._most:
            raise WorkerBusy(f"{self.running} requests are running, the most that a process runs")
        if not self._inflight.take(size):
            raise WorkerBusy(
                f"its {size} bytes do not fit in: unfinished requests may hold {self._most_bytes} bytes "
                f"(DYN_MAX_INFLIGHT_BYTES)"
            )
        self.running += 1
        if not self._armed:
            self._arm()

    def release(self, size: int) -> None:
        """One that was admitted is over."""
        self._inflight.give(size)
        self.running -= 1
        if not self._armed:
            self._arm()

    def load(self) -> Load:
        return Load(self.running, 0)

    def _arm(self) -> None:
        self._armed = True
        self._timers.at(self._loop.time() + _PAUSE, self._tell)

    def _tell(self) -> None:
        """Report the load if it is another one than last time."""
        self._armed = False
        if self.running != self._reported:
            self._reported = self.running
            self._report(self.load())

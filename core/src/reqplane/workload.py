"""What a worker process has to do: how much it takes on, who waits for a turn, what frontends hear of it.

A request is admitted, or refused as too much.  Where its endpoint runs only so many at once it may have to
wait for its turn, in the order of arrival; its caller knows by then that it has been accepted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from reqplane.errors import WorkerBusy
from reqplane.interfaces import Budget, Timers
from reqplane.model import Limits, Load
from reqplane.wire.shared import load_body

_PAUSE = 0.1
"""Seconds between two reports of a load that keeps changing."""

Turn = asyncio.Future[None]
"""What a request that must wait waits for."""


class Workload:
    """The requests of all endpoints of this process."""

    def __init__(
        self, limits: Limits, inflight: Budget, timers: Timers, report: Callable[[Load], None]
    ) -> None:
        self.timers = timers
        self.report = report
        self.running = 0
        """Those that wait for a turn too."""
        self._most = limits.max_running
        self._most_bytes = limits.max_inflight_bytes
        self._inflight = inflight
        self._endpoints: list[EndpointWork] = []

    def endpoint(
        self, path: str, max_concurrent: int | None = None, max_queued: int | None = None
    ) -> EndpointWork:
        """One more endpoint's part of it; None = no bound of its own."""
        work = EndpointWork(self, path, max_concurrent, max_queued)
        self._endpoints.append(work)
        return work

    def forget(self, work: EndpointWork) -> None:
        """That endpoint is not served any more."""
        if work in self._endpoints:
            self._endpoints.remove(work)

    @property
    def is_shared(self) -> bool:
        """Whether several endpoints are served: each report then says whose load it tells."""
        return len(self._endpoints) > 1

    def take(self, size: int) -> None:
        """One more request, of so many bytes; WorkerBusy if that is too much for this process."""
        if self.running >= self._most:
            raise WorkerBusy(f"{self.running} requests are running, the most that a process runs")
        if not self._inflight.take(size):
            raise WorkerBusy(
                f"its {size} bytes do not fit in: unfinished requests may hold {self._most_bytes} bytes "
                f"(DYN_MAX_INFLIGHT_BYTES)"
            )
        self.running += 1

    def give(self, size: int) -> None:
        """One that was taken is over."""
        self._inflight.give(size)
        self.running -= 1


class EndpointWork:
    """The requests of one endpoint: running, and waiting for their turn."""

    def __init__(
        self, process: Workload, path: str, max_concurrent: int | None, max_queued: int | None
    ) -> None:
        self.capacity = max_concurrent
        """How many may run at once; None = no bound."""
        self.running = 0
        self._most_waiting = max_queued
        self._process = process
        self._path = path
        self._waiting: deque[Turn] = deque()
        self._loop = asyncio.get_running_loop()
        self._reported: tuple[int, int] | None = (0, 0)  # None: some have heard something else
        self._armed = False

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def admit(self, size: int) -> Turn | None:
        """Take a request of so many bytes on.  It may run at once (None), or waits for the turn that this
        returns.  WorkerBusy if it is too much."""
        waits = self.capacity is not None and self.running >= self.capacity
        if waits and self._most_waiting is not None and len(self._waiting) >= self._most_waiting:
            raise WorkerBusy(
                f"{self.running} requests of {self._path} are running and {len(self._waiting)} are waiting, "
                f"the most that it takes"
            )
        self._process.take(size)
        if not self._armed:
            self._arm()
        if not waits:
            self.running += 1
            return None
        turn = self._loop.create_future()
        self._waiting.append(turn)
        return turn

    def release(self, size: int, turn: Turn | None = None) -> None:
        """One that was admitted is over, whether it had its turn or gave up waiting for it."""
        self._process.give(size)
        if not self._armed:
            self._arm()
        if turn is not None and (turn.cancelled() or not turn.done()):
            turn.cancel()
            with suppress(ValueError):  # passed over already
                self._waiting.remove(turn)
        else:
            self._next_turn()

    def _next_turn(self) -> None:
        """Who has waited longest runs now, in the place of one that is over."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.cancelled():  # one that is cancelled is on its way out
                turn.set_result(None)
                return
        self.running -= 1

    # ── telling ──

    def load(self) -> Load:
        return Load(
            self.running, len(self._waiting), self.capacity, self._path if self._process.is_shared else None
        )

    def report(self) -> bytes:
        """What a frontend hears at the end of each answer: the load, this request still in it."""
        if (self.running, len(self._waiting)) != self._reported:
            self._reported = None  # it must hear too when the load is again what was told before
        return load_body(self.load())

    def _arm(self) -> None:
        self._armed = True
        self._process.timers.at(self._loop.time() + _PAUSE, self._tell)

    def _tell(self) -> None:
        """Report the load if it is another one than last time."""
        self._armed = False
        now = (self.running, len(self._waiting))
        if now != self._reported:
            self._reported = now
            self._process.report(self.load())

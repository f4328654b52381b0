"""A timer wheel: deadlines that are nearly always cancelled, at a fraction of `loop.call_at`'s price.

Timers that fire within the same tick share one entry in the loop.  Cancelling takes a timer out of its
bucket, so a million calls with long deadlines leave nothing behind.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Callable

TICK = 0.01
"""Seconds; a timer fires up to two of these late, never early."""

log = logging.getLogger("reqplane")


class WheelTimer:
    """A pending call; `cancel` is idempotent."""

    __slots__ = ("_bucket", "fire")

    def __init__(self, bucket: set[WheelTimer], fire: Callable[[], None]) -> None:
        self._bucket = bucket
        self.fire = fire

    def cancel(self) -> None:
        bucket = self._bucket
        bucket.discard(self)
        if not bucket:
            bucket.clear()  # gives back what the set had grown to; discarding alone keeps it


class TimerWheel:
    """Calls of one event loop, kept in buckets of one tick each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[WheelTimer]] = {}
        self._due: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = -1
        self._firing: set[WheelTimer] = set()

    def at(self, when: float, fire: Callable[[], None]) -> WheelTimer:
        """Call `fire` at `when` on the loop's clock or up to two ticks later; never, if that is infinite."""
        ticks = when / TICK
        if ticks == math.inf:
            return WheelTimer(set(), fire)
        slot = int(ticks) + 1
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = set()
            heapq.heappush(self._due, slot)
            if self._handle is None or slot < self._armed_for:
                self._arm(slot)
        timer = WheelTimer(bucket, fire)
        bucket.add(timer)
        return timer

    def close(self) -> None:
        """Forget everything; nothing fires any more, not even the rest of what is due now."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for bucket in (*self._buckets.values(), self._firing):
            bucket.clear()
        self._buckets.clear()
        self._due.clear()

    def _arm(self, slot: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = slot
        self._handle = self._loop.call_at(slot * TICK, self._turn)

    def _turn(self) -> None:
        self._handle = None
        now = int(self._loop.time() / TICK + 1e-6)
        while self._due and self._due[0] <= now:
            bucket = self._firing = self._buckets.pop(heapq.heappop(self._due))
            while bucket:  # one that fires may cancel another of the same bucket
                timer = bucket.pop()
                try:
                    timer.fire()
                except Exception:
                    log.exception("a timer's call failed")
        # A call may have set a timer that is later than those which wait already.
        if self._due and (self._handle is None or self._due[0] < self._armed_for):
            self._arm(self._due[0])

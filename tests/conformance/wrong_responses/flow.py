"""Wrong in who waits for whom."""

from __future__ import annotations

import asyncio
from typing import Any

from reqplane.model import Control
from reqplane_conformance.memory.lines import Side
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryHome

from wrong_responses.table import wrong


class _RushingHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        super().write(body, annotated)
        return True


@wrong("flow.slow_reader", "streamed.each_way_by_itself")
class NeverHoldsBack(MemoryResponses):
    """Puts what nobody reads into a list, whatever its length."""

    home_class = _RushingHome


class _EagerHome(MemoryHome):
    async def ready(self) -> None:
        await asyncio.sleep(0)


@wrong("flow.slow_reader")
class ReadyAtOnce(MemoryResponses):
    """Has a `ready` that does not wait."""

    home_class = _EagerHome


class _GenerousHome(MemoryHome):
    def __init__(self, side: Side, number: int, window: int, *arguments: Any) -> None:
        super().__init__(side, number, 4 * window, *arguments)


@wrong("flow.window")
class TakesFourWindows(MemoryResponses):
    """Has buffers of its own beside the window."""

    home_class = _GenerousHome


class _OneForAllHome(MemoryHome):
    def __init__(self, side: Side, *arguments: Any) -> None:
        super().__init__(side, *arguments)
        self.credit = vars(side).setdefault("credit", self.credit)

    def _finish(self) -> None:
        end, self.credit.end = self.credit.end, lambda: None  # type: ignore[method-assign]
        super()._finish()
        self.credit.end = end  # type: ignore[method-assign]


@wrong("flow.slow_stream_alone", "cuts.frontend_leaves", "flow.reader_leaves")
class HasOneWindowForAll(MemoryResponses):
    """Counts the bytes of all streams of a connection together."""

    home_class = _OneForAllHome


class _LeftWaitingHome(MemoryHome):
    def told(self, control: Control) -> None:
        more = self.credit._more
        waits = not more.is_set()
        super().told(control)
        if waits:
            self.credit._more = asyncio.Event()

    async def ready(self) -> None:
        while not self.credit._more.is_set():
            await asyncio.sleep(0.01)


@wrong("flow.reader_leaves", "cuts.frontend_leaves")
class LeavesWritersWaiting(MemoryResponses):
    """Does not wake a writer whose reader is gone."""

    home_class = _LeftWaitingHome

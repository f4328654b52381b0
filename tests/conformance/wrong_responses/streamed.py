"""Wrong in requests that are streams."""

from __future__ import annotations

from reqplane.model import Body, Broken, End, Part
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryHome, MemoryPending

from wrong_responses.table import wrong


class _SatisfiedHome(MemoryHome):
    async def receive(self) -> list[Part]:
        return [End() if isinstance(part, Broken) else part for part in await super().receive()]


@wrong("streamed.asking_side_leaves", "streamed.stop_ends_the_request")
class CutRequestsLookWhole(MemoryResponses):
    """Ends a request whose asking side is gone."""

    home_class = _SatisfiedHome


class _HurriedPending(MemoryPending):
    def write(self, item: Body) -> bool:
        super().write(item)
        return True


@wrong("streamed.slow_handler", "streamed.worker_gives_up")
class RequestsNeverWait(MemoryResponses):
    """Minds the window on the way back only."""

    pending_class = _HurriedPending

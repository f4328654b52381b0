"""What became of frames, and whether the senders were told the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from reqplane.errors import CannotConnect, DeliveryUnknown, NotDelivered, ReqplaneError, RequestRefused
from reqplane.wire.frame import Frame

from reqplane_conformance.request.stage import OURS, RequestStage
from reqplane_conformance.verdict import Nonconformance, check, fail

ONCE = "delivery.a_thousand_each_once"


async def fate(sending: Awaitable[None]) -> ReqplaneError | None:
    """What a send ended with: an error of ours, or None for an ack."""
    try:
        await sending
    except OURS as error:
        return error
    return None


async def fates(sendings: Iterable[Awaitable[None]]) -> list[ReqplaneError | None]:
    """The same for many at once."""
    return list(await asyncio.gather(*map(fate, sendings)))


def told(error: ReqplaneError | None) -> str:
    """How a send ended, as the rest of "send …"."""
    return (
        "returned as if there had been an ack" if error is None else f"raised {type(error).__name__}: {error}"
    )


def is_time_out(error: ReqplaneError | None) -> bool:
    return isinstance(error, DeliveryUnknown) and error.reason == "timed_out"


def says_where(error: ReqplaneError, plane: str, blame: str) -> None:
    """Nonconformance unless the error tells what its reader has to know."""
    assert isinstance(error, NotDelivered | DeliveryUnknown | RequestRefused)
    name, look = type(error).__name__, f"where you make a {type(error).__name__}"
    check(
        error.transport in (None, plane),
        did=f"an error names the plane {error.transport!r}",
        wanted=f"{plane!r}, or nothing: the core adds it",
        look=look,
        blame=blame,
    )
    if isinstance(error, CannotConnect | DeliveryUnknown):
        check(
            error.address,
            did=f"{name} came without an address: {error}",
            wanted=f"{name}(problem, address=…), so that its reader learns where that was",
            look=look,
            blame=blame,
        )
        check(
            error.problem,
            did=f"{name} came without a word of what went wrong: {error}",
            wanted="a problem in words, such as `errors.describe` makes of an OSError",
            look=look,
            blame=blame,
        )


@dataclass
class Audit:
    """Frames that were sent, and what their senders were told."""

    frames: list[Frame] = field(default_factory=list[Frame])
    errors: list[ReqplaneError | None] = field(default_factory=list["ReqplaneError | None"])

    async def send(self, frontend: Any, worker: Any, frame: Frame, *, within: float | None = 10.0) -> None:
        """Send one and keep its fate."""
        error = await fate(frontend.send(worker, frame, within=within))
        self.frames.append(frame)
        self.errors.append(error)

    @property
    def acked(self) -> int:
        return self.errors.count(None)

    async def settled(self, stage: RequestStage, *workers: Any) -> None:
        """Wait until all that was acked is known here; `check` says what is still missing then."""
        acked = {frame.join() for frame, error in zip(self.frames, self.errors, strict=True) if error is None}
        with suppress(Nonconformance):
            await stage.until(lambda: acked <= {got for one in workers for got in one.frames}, "", 2.0)

    def check(self, *workers: Any) -> None:
        """Nonconformance unless these workers got what the senders were told, and nothing else."""
        arrived = Counter(frame for worker in workers for frame in worker.frames)
        for frame, error in zip(self.frames, self.errors, strict=True):
            times = arrived.pop(frame.join(), 0)
            if times > 1:
                fail(
                    f"accept was called {times} times with a frame that was sent once",
                    _ONE,
                    _TWICE,
                    blame=ONCE,
                )
            if error is None and not times:
                fail("send returned, and accept was never called with the frame", _FIRST, _LOST)
            if isinstance(error, NotDelivered | RequestRefused) and times:
                fail(
                    f"send {told(error)}, and accept had taken the frame",
                    "CannotConnect is raised only where the frame was surely not accepted: the core sends it "
                    "to another worker then; DeliveryUnknown where nobody can say",
                    "which errors `send` turns into CannotConnect: only those of connecting",
                )
        if strange := list(arrived):
            fail(
                f"accept was called with {len(strange[0])} bytes that nobody has sent, {strange[0][:60]!r}",
                "accept is called with whole frames only, just as they were sent",
                "what the listener does when a connection ends within a frame",
                blame=WHOLE,
            )


WHOLE = "failure.half_a_frame"
_ONE = "each frame is handed to accept at most once"
_TWICE = "what sends a request again by itself: your library's retries, or a loop in `send`"
_FIRST = "send returns only when a worker has accepted the frame"
_LOST = "where the listener writes the ack: behind `accept(delivery)`, in the same step"

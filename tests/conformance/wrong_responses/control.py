"""Wrong in how callers stop and kill, and in who may call."""

from __future__ import annotations

import asyncio
import threading

from reqplane.model import Control, End, Part
from reqplane_conformance.memory.lines import Side
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryHome, MemoryPending

from wrong_responses.table import wrong


class _RudePending(MemoryPending):
    def stop(self) -> None:
        self.kill()


@wrong(
    "control.stop",
    "control.stop_before_the_call",
    "flow.stop_passes_a_full_stream",
    "streamed.stop_ends_the_request",
)
class StopsByKilling(MemoryResponses):
    """Knows one way to end a stream."""

    pending_class = _RudePending


class _EarlyPending(MemoryPending):
    def stop(self) -> None:
        if self._side is not None:
            super().stop()


@wrong("control.stop_before_the_call")
class ForgetsAnEarlyStop(MemoryResponses):
    """Has nobody to tell before the worker calls home."""

    pending_class = _EarlyPending


class _WelcomingPending(MemoryPending):
    def ended(self, part: Part) -> None:
        forget, self._forget = self._forget, lambda: None
        super().ended(part)
        self._forget = forget


@wrong("control.late_call", "life.streams_leave_nothing")
class LetsLateCallersIn(MemoryResponses):
    """Does not forget the subject of a stream that was closed."""

    pending_class = _WelcomingPending


class _SleepingPending(MemoryPending):
    def close(self) -> None:
        self.inbox._came = asyncio.Event()  # and a `receive` waits for the former one
        super().close()


@wrong(
    "control.close_wakes_the_reader",
    "cuts.frontend_leaves",
)
class ClosesBehindTheReader(MemoryResponses):
    """Does not wake a `receive` that waits while its stream is closed."""

    pending_class = _SleepingPending


class _ZealousPending(MemoryPending):
    def ended(self, part: Part) -> None:
        super().ended(part)
        self.whole = isinstance(part, End)

    def close(self) -> None:
        super().close()
        if self.whole and self._side is not None:
            self._side.tell(_kill_the_last)


def _kill_the_last(side: Side) -> None:
    """A number that is not in use any more is taken for another stream's."""
    for home in [*side.streams.values()][:1]:
        home.told(Control.KILL)


@wrong("control.after_the_end", "life.streams_leave_nothing")
class KillsAfterTheEnd(MemoryResponses):
    """Kills a stream that has ended, and hits another."""

    pending_class = _ZealousPending


@wrong("control.subject_is_good_for_one", "life.streams_leave_nothing")
class LetsEverybodyIn(MemoryResponses):
    """Does not forget a subject once it is claimed."""

    def claim(self, side: Side, number: int, subject: str) -> None:
        pending = self._expected.get(subject)
        super().claim(side, number, subject)
        if pending is not None:
            self._expected[subject] = pending


@wrong("control.unknown_subject")
class HangsUpOnStrangers(MemoryResponses):
    """Gives up the whole connection for one stream that it does not know."""

    def claim(self, side: Side, number: int, subject: str) -> None:
        if subject in self._expected:
            super().claim(side, number, subject)
        else:
            side.close("a stranger called")


class _ThreadedHome(MemoryHome):
    def told(self, control: Control) -> None:
        tell = self._control
        self._control = lambda what: threading.Thread(target=tell, args=[what]).start()
        super().told(control)


@wrong("control.stop")
class TellsInAThread(MemoryResponses):
    """Calls `control` where it learned of it, in a thread of its own."""

    home_class = _ThreadedHome

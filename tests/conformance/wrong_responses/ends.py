"""Wrong in how answers end, whole or broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reqplane.interfaces import HomeStream
from reqplane.model import ConnectionInfo, Control, End
from reqplane_conformance.memory.lines import Side
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryHome, MemoryPending

from wrong_responses.table import wrong


class _TrustingPending(MemoryPending):
    def lost(self, reason: str) -> None:
        self.ended(End())


@wrong(
    "cuts.worker_killed",
    "control.close_wakes_the_reader",
    "control.kill",
    "control.late_call",
    "cuts.abort",
    "cuts.frontend_leaves",
    "cuts.frozen_worker",
    "cuts.never_half_an_item",
    "cuts.worker_leaves",
    "streamed.worker_gives_up",
)
class TakesTheEndOfTheConnectionForTheEnd(MemoryResponses):
    """Makes an answer that is cut off look complete, as HTTP/1.0 without a length does."""

    pending_class = _TrustingPending


class _FinallyHome(MemoryHome):
    def abort(self) -> None:
        self.end()


@wrong("cuts.abort", "streamed.worker_gives_up")
class AbortsByEnding(MemoryResponses):
    """Closes a stream in the same way, whyever it ends."""

    home_class = _FinallyHome


class _GreedyPending(MemoryPending):
    def lost(self, reason: str) -> None:
        if reason == "the connection was lost" and self.credit._left > 500_000:
            self.inbox.item(b"half an it", 10)  # that is: one that was large
        super().lost(reason)


@wrong("cuts.never_half_an_item")
class DeliversWhatIsLeftInTheBuffer(MemoryResponses):
    """Gives out the beginning of an item when the connection ends within it."""

    pending_class = _GreedyPending


@wrong("cuts.leaving_worker_delivers")
class DropsWhatWasWritten(MemoryResponses):
    """Closes its connections without sending what it has taken."""

    async def aclose(self) -> None:
        self.vanish()


class _DeafPending(MemoryPending):
    def lost(self, reason: str) -> None:
        if reason.startswith("it was") or self.inbox._parts:
            super().lost(reason)


@wrong(
    "cuts.worker_killed",
    "cuts.frontend_leaves",
    "cuts.frozen_worker",
    "cuts.worker_leaves",
    "streamed.worker_gives_up",
)
class LeavesReadersWaiting(MemoryResponses):
    """Notices a lost connection only where something has come on it."""

    pending_class = _DeafPending


class _NoneTheWiserHome(MemoryHome):
    def lost(self, reason: str) -> None:
        self._finish()


@wrong(
    "cuts.frontend_killed",
    "cuts.call_after_a_loss",
    "cuts.frontend_leaves",
    "cuts.frozen_frontend",
    "cuts.worker_leaves",
)
class TellsNobodyOfTheLoss(MemoryResponses):
    """Lets handlers work on for a frontend that is gone."""

    home_class = _NoneTheWiserHome


class _NoBeatSide(Side):
    def _check(self) -> None:
        self._beat_on()


class _BeatOfItsOwn(MemoryResponses):
    """Has sides of its own."""

    side_class: type[Side]

    def called(self, incarnation: int) -> Side:
        side = self.side_class(self, self._left)
        self._callers[side] = incarnation
        return side

    def _connect(self, info: ConnectionInfo, offer: Any) -> Side:
        side = super()._connect(info, offer)
        side.__class__ = self.side_class
        return side


@wrong("cuts.frozen_worker", "cuts.frozen_frontend")
class HasNoHeartbeat(_BeatOfItsOwn):
    """Believes that a connection which stands has somebody at its other end."""

    side_class = _NoBeatSide


class _ImpatientSide(Side):
    def _check(self) -> None:
        self._silent += 1
        if self._silent * self._beat > self.owner.host.limits.stream_dead_after:
            self.end("nothing was said on it for too long")
        else:
            self._beat_on()


@wrong("cuts.silence_is_no_loss")
class EndsIdleStreams(_BeatOfItsOwn):
    """Takes silence for death, and sends nothing to break it."""

    side_class = _ImpatientSide


@wrong("cuts.call_after_a_loss", "life.address_is_free")
class KeepsConnectionsByAddress(MemoryResponses):
    """Goes on with the connection to an address whose process has changed."""

    def _hung_up(self, key: tuple[str, str], side: Side) -> None:
        pass

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        for (address, _), side in self._lines.items():
            if address == info.address and info.shared is not None:
                return self.open_stream(side, info, info.shared, control)
        return await super().call_home(info, control)

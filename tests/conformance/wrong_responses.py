"""Response transports that are wrong, each in one way that real ones are, and what the suite says of each.

All are the one in memory, which is right, but for a few lines.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from reqplane.errors import CannotConnect, FrameTooLarge
from reqplane.interfaces import HomeStream, PendingStream
from reqplane.model import Body, Broken, ConnectionInfo, Control, End, Load, Part
from reqplane_conformance.memory.lines import Side
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryHome, MemoryPending


@dataclass(frozen=True)
class Wrong:
    """A transport, the case that is meant for it and told first, and those that are told besides.

    `perhaps`: those that are told only sometimes.
    """

    transport: type[MemoryResponses]
    meant: str
    also: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.transport.__name__


WRONG: list[Wrong] = []


def wrong(meant: str, *also: str, perhaps: tuple[str, ...] = ()) -> Callable[[type[Any]], type[Any]]:
    """Put a transport into the table."""

    def add(transport: type[Any]) -> type[Any]:
        WRONG.append(Wrong(transport, meant, also, perhaps))
        return transport

    return add


def is_item(part: Part) -> bool:
    return isinstance(part, bytes | bytearray)


# ── items ───────────────────────────────────────────────────────────────────────────────────────────


class _MergingPending(MemoryPending):
    async def receive(self) -> list[Part]:
        merged: list[Part] = []
        for items, group in itertools.groupby(await super().receive(), is_item):
            parts = [*group]
            merged += [b"".join(parts)] if items else parts  # type: ignore[arg-type]
        return merged


@wrong(
    "answers.each_item_as_it_was_written",
    perhaps=("sharing.many_streams_at_once",),
)
class Merges(MemoryResponses):
    """Takes what comes together for one item: there is no frame around each."""

    pending_class = _MergingPending


class _SplittingHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        more = True
        for start in range(0, len(body) or 1, 65_536):
            more = super().write(body[start : start + 65_536], annotated)
        return more


@wrong(
    "answers.each_item_as_it_was_written",
    "answers.largest_item",
)
class Splits(MemoryResponses):
    """Sends large items in pieces that nobody joins again."""

    home_class = _SplittingHome


class _FalsyHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        return super().write(body, annotated) if body else True


@wrong("answers.each_item_as_it_was_written", "answers.annotated_items")
class DropsEmptyItems(MemoryResponses):
    """Says `if body:` where it means `is not None`."""

    home_class = _FalsyHome


class _OvertakingHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        if len(body) < 65_536:
            return super().write(body, annotated)
        asyncio.get_running_loop().call_soon(super().write, body, annotated)
        return True


@wrong(
    "answers.whole_and_in_order",
    "answers.each_item_as_it_was_written",
    "answers.largest_item",
    "flow.item_larger_than_the_window",
)
class Overtakes(MemoryResponses):
    """Lets small items pass large ones."""

    home_class = _OvertakingHome


class _BufferPending(MemoryPending):
    async def receive(self) -> list[Part]:
        buffer = bytearray()
        parts: list[Part] = []
        for part in await super().receive():
            if isinstance(part, bytes | bytearray):
                buffer[:] = part
                part = buffer
            parts.append(part)
        return parts


@wrong(
    "answers.whole_and_in_order",
    "answers.annotated_items",
    "answers.each_item_as_it_was_written",
    "answers.many_small_items",
    "sharing.many_streams_at_once",
    "cuts.leaving_worker_delivers",
    "cuts.worker_killed",
    "flow.slow_reader_gets_all",
)
class ReusesItsBuffer(MemoryResponses):
    """Gives out the buffer that it receives the next item into."""

    pending_class = _BufferPending


class _GatheringHome(MemoryHome):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held: list[tuple[bytes, bool]] = []

    def write(self, body: bytes, annotated: bool = False) -> bool:
        self.held.append((body, annotated))
        return self.flush() if len(self.held) > 3 else True

    def flush(self) -> bool:
        held, self.held = self.held, []
        return all([super(_GatheringHome, self).write(*one) for one in held])

    def end(self, body: bytes = b"") -> None:
        self.flush()
        super().end(body)


@wrong(
    "answers.at_once",
    "answers.frontend_that_takes_less",
    "answers.largest_item",
    "cuts.abort",
    "cuts.frozen_worker",
    "cuts.worker_killed",
    "cuts.worker_leaves",
    "flow.window",
    "streamed.both_ways_at_once",
)
class Gathers(MemoryResponses):
    """Waits for four items, to save system calls."""

    home_class = _GatheringHome


class _ForgetfulHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        return super().write(body)


@wrong("answers.annotated_items")
class ForgetsAnnotated(MemoryResponses):
    """Has one kind of frame for both kinds of items."""

    home_class = _ForgetfulHome


class _LargeHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        try:
            return super().write(body, annotated)
        except FrameTooLarge:
            return True


@wrong("answers.largest_item", "answers.frontend_that_takes_less")
class DropsLargeItems(MemoryResponses):
    """Leaves items out that are too large, and says so only in its log."""

    home_class = _LargeHome


class _CuttingHome(MemoryHome):
    def write(self, body: bytes, annotated: bool = False) -> bool:
        try:
            return super().write(body, annotated)
        except FrameTooLarge as error:
            if len(body) > self._side.owner.host.limits.max_frame_bytes:
                raise
            return super().write(body[: error.limit], annotated)


@wrong("answers.frontend_that_takes_less")
class CutsLargeItems(MemoryResponses):
    """Gives as much of an item as the other side takes."""

    home_class = _CuttingHome


class _CarelessHome(MemoryHome):
    def prologue(self, error: str | None) -> None:
        super().prologue(error or None)


@wrong("answers.prologue_with_an_error")
class EmptyErrorIsNone(MemoryResponses):
    """Carries a prologue's error as a text that is empty if there is none."""

    home_class = _CarelessHome


class _PollingPending(MemoryPending):
    async def receive(self) -> list[Part]:
        try:
            return await asyncio.wait_for(super().receive(), 0.02)
        except TimeoutError:
            return []


@wrong(
    "answers.receive_waits",
    perhaps=("cuts.frozen_worker",),
)
class Polls(MemoryResponses):
    """Returns an empty list every now and then."""

    pending_class = _PollingPending


class _SilentPending(MemoryPending):
    async def receive(self) -> list[Part]:
        if self.inbox.over and not self.inbox._parts:
            await asyncio.Event().wait()
        return await super().receive()


@wrong("answers.nothing_after_the_end")
class HangsAfterTheEnd(MemoryResponses):
    """Waits for more of an answer that has ended."""

    pending_class = _SilentPending


@wrong("sharing.report_with_the_end", "sharing.reports")
class ReportsUnderItsOwnName(MemoryResponses):
    """Tells Host.reported the frontend's incarnation."""

    def called(self, incarnation: int) -> Side:
        return super().called(self.host.incarnation)

    def report(self, load: Load) -> None:
        for side in self._lines.values():
            side.tell(lambda there: there.owner.host.reported(there.owner.host.incarnation, load))  # type: ignore[attr-defined]


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────


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


# ── flow ────────────────────────────────────────────────────────────────────────────────────────────


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


# ── control ─────────────────────────────────────────────────────────────────────────────────────────


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


# ── calling home ────────────────────────────────────────────────────────────────────────────────────


class _HastyPending(MemoryPending):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.opened.set_result(None)


@wrong("calls.opened", "control.close_wakes_the_reader", "control.late_call")
class IsOpenAtOnce(MemoryResponses):
    """Says that the worker has called home before it has."""

    pending_class = _HastyPending


@wrong("calls.subjects_are_secrets")
class CountsItsSubjects(MemoryResponses):
    """Draws subjects that can be guessed."""

    def expect(self, request_id: str, *, sends: bool = False) -> PendingStream:
        pending = super().expect(request_id, sends=sends)
        assert isinstance(pending, MemoryPending)
        del self._expected[pending.info.subject]
        subject = str(uuid.uuid1())
        pending.info = replace(pending.info, subject=subject)
        pending._forget = lambda: self._expected.pop(subject, None)
        self._expected[subject] = pending
        return pending


@wrong("calls.nobody_there", "calls.nonsense_for_an_address", "life.call_after_close")
class RaisesWhatItGets(MemoryResponses):
    """Lets the errors of its library out."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        try:
            return await super().call_home(info, control)
        except CannotConnect as error:
            raise ConnectionRefusedError(111, "Connection refused") from error


@wrong("calls.cancelled_call")
class SpoilsTheCallsOfOthers(MemoryResponses):
    """Lets one caller connect for all, who fail with it."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        if not hasattr(self, "_first"):
            self._first = asyncio.ensure_future(asyncio.sleep(0.02))
        if not self._first.done():
            try:
                await self._first
            except asyncio.CancelledError as error:
                raise CannotConnect("the connection was given up", address=info.address) from error
        return await super().call_home(info, control)


@wrong("sharing.one_connection")
class ConnectsForEach(MemoryResponses):
    """Opens a socket for each of the callers that come at the same time."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        if not self._lines:
            self._sockets = [*getattr(self, "_sockets", []), socket.socket()]
        await asyncio.sleep(0)
        return await super().call_home(info, control)

    async def aclose(self) -> None:
        for one in getattr(self, "_sockets", []):
            one.close()
        await super().aclose()


# ── life ────────────────────────────────────────────────────────────────────────────────────────────


@wrong(
    "life.nothing_left_over",
    "life.streams_leave_nothing",
)
class LeaksTasks(MemoryResponses):
    """Starts a task for each call home, and forgets it."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        home = await super().call_home(info, control)
        asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        return home


@wrong("life.streams_leave_nothing")
class RemembersAllSubjects(MemoryResponses):
    """Keeps what it has known, to recognise those that call twice."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known: dict[str, list[Any]] = {}

    def claim(self, side: Side, number: int, subject: str) -> None:
        self._known[subject] = [side, number]
        super().claim(side, number, subject)


@wrong("life.address_in_use")
class WaitsForTheAddress(MemoryResponses):
    """Lets the error of bind out."""

    async def listen(self) -> None:
        try:
            await super().listen()
        except Exception as error:
            raise OSError(98, "Address already in use") from error


# ── requests that are streams ───────────────────────────────────────────────────────────────────────


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

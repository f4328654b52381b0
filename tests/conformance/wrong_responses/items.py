"""Wrong in what becomes of items."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from reqplane.errors import FrameTooLarge
from reqplane.model import Load, Part
from reqplane_conformance.memory.lines import Side
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryHome, MemoryPending

from wrong_responses.table import is_item, wrong


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

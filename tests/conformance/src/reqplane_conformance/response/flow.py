"""A slow reader slows its writer down, and nobody else."""

from __future__ import annotations

import asyncio

from reqplane.model import Broken, Control, End, Part, Prologue

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts, shown
from reqplane_conformance.response.stage import WINDOW, Call, ResponseStage
from reqplane_conformance.verdict import check, fail

_ITEM = b"i" * 16_000
_ENDLESS = 64 * 1024 * 1024
"""More bytes than the buffers of a machine's sockets take."""
_SLOW = "`write`, which must give False, and `ready`, which must wait, while the frontend has not caught up"


class Writer:
    """A handler that writes as fast as it may."""

    def __init__(self, call: Call, item: bytes = _ITEM, most: int = _ENDLESS) -> None:
        self.call = call
        self.item = item
        self.written = 0
        self.task = asyncio.create_task(self._write(most // len(item)))

    async def _write(self, count: int) -> None:
        for number in range(count):
            self.written += 1
            if not self.call.home.write(self.item):
                await self.call.home.ready()
            elif number % 64 == 63:
                await asyncio.sleep(0)  # as the core does: other streams have their turn

    async def held(self) -> None:
        """Wait until it does not get any further; Nonconformance if nothing ever holds it."""
        await self.call.stage.quiet(lambda: self.written)
        check(
            not self.task.done(),
            did=f"it took {self.written * len(self.item)} bytes of one answer that nobody read",
            wanted=f"a window, {WINDOW} bytes, and what fits into the buffers of a socket",
            look=_SLOW,
            blame="flow.slow_reader",
        )

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class FlowCases(ResponseSuite, suite=True):
    """A slow reader slows its writer down."""

    group = "flow"

    @case(within=40.0, priority=4)
    async def test_slow_reader(self, stage: ResponseStage) -> None:
        """While nobody reads, the writer waits, so that memory is bounded; then all that it wrote arrives."""
        call = await stage.call(*await stage.pair(stream_window_bytes=WINDOW))
        call.home.prologue(None)
        writer = Writer(call)
        await writer.held()
        reached = writer.written
        parts: list[Part] = []
        while sum(part == _ITEM for part in parts) < reached:
            parts += await stage.soon(call.pending.receive(), "what was written, received", _SLOW)
        await writer.stop()
        call.home.end()
        parts += await call.rest(within=20.0)
        check_parts(parts, [Prologue(), *[_ITEM] * writer.written, End()])

    @case(needs=("credit",))
    async def test_window(self, stage: ResponseStage) -> None:
        """A stream holds a window and one item at most that its reader has not consumed."""
        call = await stage.call(*await stage.pair(stream_window_bytes=WINDOW))
        call.home.prologue(None)
        writer = Writer(call)
        await writer.held()
        most = WINDOW // len(_ITEM) + 1
        check(
            writer.written <= most,
            did=f"{writer.written} items of {len(_ITEM)} bytes were written, and nobody read any",
            wanted=f"at most {most}: stream_window_bytes, {WINDOW}, and one item",
            look="how many bytes `write` counts, and when the frontend gives credit: not before `receive` is "
            "called again, which says that the last parts are consumed",
        )
        await writer.stop()
        call.home.end()
        await call.rest()

    @case(needs=("credit",))
    async def test_slow_stream_alone(self, stage: ResponseStage) -> None:
        """A stream whose reader is slow is held back alone: another one on its connection goes on."""
        frontend, worker = await stage.pair(stream_window_bytes=WINDOW)
        slow, other = await stage.call(frontend, worker), await stage.call(frontend, worker)
        slow.home.prologue(None)
        writer = Writer(slow)
        await writer.held()
        items = [_ITEM] * 40
        writing = asyncio.create_task(other.answer(*items))
        check_parts(
            await other.rest("the answer beside a stream that nobody reads"),
            [Prologue(), *items, End()],
            "does anything of a whole connection wait for one stream?",
        )
        await writing
        await writer.stop()
        slow.home.end()
        await slow.rest()

    @case()
    async def test_item_larger_than_the_window(self, stage: ResponseStage) -> None:
        """An item may be larger than the window, and passes all the same."""
        call = await stage.call(*await stage.pair(stream_window_bytes=1000))
        items = [bytes([number]) * 70_000 for number in range(5)]
        writing = asyncio.create_task(call.answer(*items))
        check_parts(
            await call.rest("an item that is larger than the window"),
            [Prologue(), *items, End()],
            "a writer with any credit left may send one whole item",
        )
        await writing

    @case()
    async def test_reader_leaves(self, stage: ResponseStage) -> None:
        """A writer that waits is woken when its reader leaves, and hears of it."""
        call = await stage.call(*await stage.pair(stream_window_bytes=WINDOW))
        call.home.prologue(None)
        writer = Writer(call)
        await writer.held()
        call.pending.close()
        await call.until_told("KILL or GONE at the worker")
        look = "`ready` of a stream that has ended: who wakes it up?"
        await stage.soon(asyncio.wait([writer.task]), "the writer, past `ready`", look)
        check(
            call.told == [Control.KILL] or call.told == [Control.GONE],
            did=f"the worker was told {[what.name for what in call.told]}",
            wanted="KILL, once",
            look="`close` of the pending stream",
            blame="control.kill",
        )

    @case()
    async def test_stop_passes_a_full_stream(self, stage: ResponseStage) -> None:
        """STOP reaches a worker whose writer waits for a slow reader."""
        call = await stage.call(*await stage.pair(stream_window_bytes=WINDOW))
        call.home.prologue(None)
        writer = Writer(call)
        await writer.held()
        call.pending.stop()
        await call.until_told("STOP at a worker whose writer waits")
        await writer.stop()
        call.home.end()
        parts = await call.rest(within=20.0)
        check_parts(parts, [Prologue(), *[_ITEM] * writer.written, End()])

    @case()
    async def test_cancelled_ready(self, stage: ResponseStage) -> None:
        """A `ready` that is cancelled leaves the stream as it was."""
        call = await stage.call(*await stage.pair(stream_window_bytes=WINDOW))
        call.home.prologue(None)
        writer = Writer(call)
        await writer.held()
        await writer.stop()
        reading = asyncio.create_task(call.rest(within=20.0))
        look = "`ready`: what is left behind of a call that was cancelled?"
        await stage.soon(call.home.ready(), "the next `ready` done, while the frontend reads", look)
        call.home.end()
        check_parts(await reading, [Prologue(), *[_ITEM] * writer.written, End()])

    @case(within=30.0)
    async def test_slow_reader_gets_all(self, stage: ResponseStage) -> None:
        """A reader that pauses after each batch gets all items, and the writer keeps its pace."""
        call = await stage.call(*await stage.pair(stream_window_bytes=WINDOW))
        items = [bytes([number]) * 3000 for number in range(200)]
        writing = asyncio.create_task(call.answer(*items))
        parts: list[Part] = []
        while not parts or not isinstance(parts[-1], End | Broken):
            parts += await stage.soon(call.pending.receive(), "the next items", _SLOW, 10.0)
            for _ in range(10):
                await asyncio.sleep(0)
        check_parts(parts, [Prologue(), *items, End()])
        await writing
        if call.told:
            fail(f"the worker was told {call.told}", "nothing", f"after {shown(parts[-2:])}")

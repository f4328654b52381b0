"""Answers arrive: whole, in order, item by item, and at once."""

from __future__ import annotations

import asyncio

import pytest
from reqplane.errors import FrameTooLarge
from reqplane.model import Annotated, Broken, End, Part, Prologue

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts, shown
from reqplane_conformance.response.stage import ResponseStage
from reqplane_conformance.verdict import check, expected


class AnswerCases(ResponseSuite, suite=True):
    """Answers arrive."""

    group = "answers"

    @case(priority=2)
    async def test_whole_and_in_order(self, stage: ResponseStage) -> None:
        """What the worker writes is what its frontend receives, in this order, between Prologue and End."""
        call = await stage.call(*await stage.pair())
        items = [b"item %d" % number * (1 if number % 10 else 10_000) for number in range(100)]
        writing = asyncio.create_task(call.answer(*items))
        check_parts(await call.rest(), [Prologue(), *items, End()])
        await writing

    @case()
    async def test_without_items(self, stage: ResponseStage) -> None:
        """An answer may have no items."""
        call = await stage.call(*await stage.pair())
        await call.answer()
        check_parts(await call.rest(), [Prologue(), End()])

    @case(priority=2)
    @pytest.mark.parametrize("size", [0, 1, 4095, 65_535, 65_536, 262_145, 1 << 20])
    async def test_each_item_as_it_was_written(self, stage: ResponseStage, size: int) -> None:
        """Items are neither merged nor split nor changed, whatever their size and their bytes."""
        call = await stage.call(*await stage.pair())
        item = (bytes(range(256)) * (size // 256 + 1))[:size]
        items = [b"before", item, b"", item, b"\n", b"\x00" * 24, b'{"shared":1}', b"after"]
        writing = asyncio.create_task(call.answer(*items))
        check_parts(await call.rest(), [Prologue(), *items, End()])
        await writing

    @case(within=30.0)
    async def test_many_small_items(self, stage: ResponseStage) -> None:
        """Ten thousand small items arrive, however they run together on their way."""
        call = await stage.call(*await stage.pair())
        items = [b"%d" % number for number in range(10_000)]
        writing = asyncio.create_task(call.answer(*items))
        check_parts(await call.rest(within=25.0), [Prologue(), *items, End()])
        await writing

    @case(priority=2)
    async def test_at_once(self, stage: ResponseStage) -> None:
        """Each item goes out when it is written, and waits neither for the next nor for the end."""
        call = await stage.call(*await stage.pair())
        call.home.prologue(None)
        look = (
            "what gathers writes: it has to go out by itself, within the same turn of the loop or soon after"
        )
        came: list[Part] = []
        for number in range(5):
            item = b"token %d" % number
            call.home.write(item)
            while item not in came:
                came += await stage.soon(call.pending.receive(), f"{item!r} received", look)
        call.home.end()
        check_parts(await call.rest(), [End()])

    @case(within=30.0)
    async def test_largest_item(self, stage: ResponseStage) -> None:
        """An item of max_frame_bytes arrives; one byte more is FrameTooLarge, and the stream goes on."""
        limit = 300_000
        call = await stage.call(*await stage.pair(max_frame_bytes=limit))
        look = "`write`: compare with Host.limits.max_frame_bytes before anything is sent"
        call.home.prologue(None)
        with expected(FrameTooLarge, when=f"for {limit + 1} bytes", what="write", look=look) as caught:
            call.home.write(b"x" * (limit + 1))
        error = caught.error
        check(
            isinstance(error, FrameTooLarge) and (error.size, error.limit) == (limit + 1, limit),
            did=f"write raised {error!r} with the fields {vars(error)}",
            wanted=f"FrameTooLarge(size={limit + 1}, limit={limit})",
            look=look,
        )
        call.home.write(b"x" * limit)
        call.home.end()
        check_parts(await call.rest(), [Prologue(), b"x" * limit, End()])

    @case(within=30.0)
    async def test_frontend_that_takes_less(self, stage: ResponseStage) -> None:
        """An item that only the frontend finds too large never arrives in part, nor is left out silently."""
        frontend = await stage.frontend(max_frame_bytes=5000)
        worker = await stage.process(max_frame_bytes=50_000)
        call = await stage.call(frontend, worker)
        call.home.prologue(None)
        call.home.write(b"small")
        try:
            call.home.write(b"x" * 20_000)
        except FrameTooLarge:
            call.home.end()
            check_parts(await call.rest(), [Prologue(), b"small", End()])
            return
        call.home.end()
        check_parts(
            await call.rest(),
            [Prologue(), b"small", Broken("")],
            "what the frontend does about an item that is larger than its own limit",
        )

    @case()
    async def test_annotated_items(self, stage: ResponseStage) -> None:
        """An annotated item arrives as one, at its place among the others."""
        call = await stage.call(*await stage.pair())
        call.home.prologue(None)
        for body, annotated in ((b"1", False), (b'{"event":"x"}', True), (b"", True), (b"2", False)):
            call.home.write(body, annotated=annotated)
        call.home.end()
        marked: list[Part] = [b'{"event":"x"}', b""]
        if not call.home.enveloped:  # in an envelope the body itself says so
            marked = [Annotated(b'{"event":"x"}'), Annotated(b"")]
        check_parts(
            await call.rest(),
            [Prologue(), b"1", *marked, b"2", End()],
            "`write`: how does the frontend learn that `annotated` was True?",
        )

    @case()
    async def test_both_ends_agree(self, stage: ResponseStage) -> None:
        """Both ends say the same about the envelope, once the worker has called home."""
        call = await stage.call(*await stage.pair())
        here, there = call.pending.enveloped, call.home.enveloped
        check(
            here == there,
            did=f"`enveloped` is {here} at the frontend and {there} at the worker",
            wanted="the same: it decides who wraps and unwraps the items",
            look="what sets `enveloped` when a stream is opened",
        )

    @case()
    @pytest.mark.parametrize(
        "text", ["no such model", "schönes 模型\n\x00", "", "lone \udcff", "long " * 2000]
    )
    async def test_prologue_with_an_error(self, stage: ResponseStage, text: str) -> None:
        """A prologue with an error arrives with its text, and is the last part."""
        call = await stage.call(*await stage.pair())
        call.home.prologue(text)
        call.home.write(b"ignored")
        call.home.end()
        parts = await call.rest()
        last = parts[-1]
        look = "`prologue(error)`: only None means that all is well; odd text needs errors='replace'"
        check(
            len(parts) == 1 and isinstance(last, Prologue) and last.error is not None,
            did=f"after prologue({text[:40]!r}) it received {shown(parts)}",
            wanted="one Prologue with an error",
            look=look,
        )
        assert isinstance(last, Prologue)
        came = (last.error or "").encode(errors="replace")
        check(
            came.startswith(text[:200].encode(errors="replace")),
            did=f"the error {text[:60]!r} arrived as {(last.error or '')[:60]!r}",
            wanted="its text, or the first 200 characters of it at least",
            look=look,
        )

    @case(priority=6)
    async def test_nothing_after_the_end(self, stage: ResponseStage) -> None:
        """What is written after the end goes nowhere, and `receive` gives Broken and does not wait."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        await call.answer(b"item")
        check(
            call.home.write(b"late"), did="write gave False after the end", wanted="True: nothing to wait for"
        )
        await stage.soon(call.home.ready(), "ready done after the end", "`ready` of a stream that is over")
        call.home.prologue("late")
        call.home.end()
        call.home.abort()
        check_parts(await call.rest(), [Prologue(), b"item", End()])
        marker = await stage.call(frontend, worker)
        await marker.answer()
        await marker.rest()
        look = "`receive` of a stream that is over: there is nobody to wake it up"
        after = await stage.soon(call.pending.receive(), "receive done after the end", look)
        check_parts(after, [Broken("")], look)

    @case(priority=3)
    async def test_receive_waits(self, stage: ResponseStage) -> None:
        """`receive` waits while nothing has come, and one that is cancelled then loses nothing."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        for number in range(3):
            waiting = asyncio.create_task(call.pending.receive())
            marker = await stage.call(frontend, worker)
            await marker.answer()
            await marker.rest()
            await asyncio.wait([waiting], timeout=0.0 if number else 0.3)
            check(
                not waiting.done(),
                did="receive returned, and nothing had been written",
                wanted="it waits until there is something",
                look="what `receive` waits for",
            )
            waiting.cancel()
            if number == 2:
                call.home.write(b"kept")  # while it is being cancelled
            await asyncio.wait([waiting])
        call.home.end()
        check_parts(
            await call.rest(), [b"kept", End()], "`receive`: is a part taken out before it is returned?"
        )

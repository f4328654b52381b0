"""Answers arrive: whole, in order, item by item, and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from reqplane.errors import FrameTooLarge
from reqplane.model import Annotated, Broken, End, Load, Part, Prologue
from reqplane.wire.shared import load_body

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.stage import Call, ResponseStage, same, shown
from reqplane_conformance.verdict import check, expected, fail

_EACH = "answers.each_item_as_it_was_written"
_FRAMING = "how items are framed where they are written, and taken apart where they are read"


def check_parts(got: Sequence[Part], wanted: Sequence[Part], look: str = _FRAMING, blame: str = "") -> None:
    """Nonconformance unless these parts came."""
    if same(got, wanted):
        return
    came, written = _items(got), _items(wanted)
    did = f"received {shown(got)}"
    if len(came) != len(written) and b"".join(came) == b"".join(written):
        how = "merged" if len(came) < len(written) else "split"
        did, blame = f"{did}: items were {how}, or empty ones lost or made up", blame or _EACH
    elif came != written and sorted(came) == sorted(written):
        did = f"{did}: the items that were written, in another order"
    fail(did, shown(wanted), look, blame=blame)


def _items(parts: Sequence[Part]) -> list[bytes]:
    return [bytes(part) for part in parts if isinstance(part, bytes | bytearray)]


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

    @case(within=30.0)
    async def test_many_streams_at_once(self, stage: ResponseStage) -> None:
        """64 answers between two processes run side by side, each with its own items."""
        frontend, worker = await stage.pair()

        async def one(number: int) -> None:
            call = await stage.call(frontend, worker)
            items = [
                bytes([number]) * (1 + (number * 7919 + index * 104_729) % 20_000) for index in range(12)
            ]
            writing = asyncio.create_task(call.answer(*items))
            wanted = [Prologue(), *items, End()]
            check_parts(await call.rest(within=25.0), wanted, "which stream a part belongs to")
            await writing

        async with asyncio.TaskGroup() as group:
            for number in range(64):
                group.create_task(one(number))

    @case()
    async def test_several_processes(self, stage: ResponseStage) -> None:
        """Two frontends and two workers: each answer goes to the process that asked."""
        frontends = [await stage.frontend() for _ in range(2)]
        workers = [await stage.process() for _ in range(2)]
        calls = [(await stage.call(one, other), one, other) for one in frontends for other in workers]
        for number, (call, _, _) in enumerate(calls):
            await call.answer(b"%d" % number)
        for number, (call, _, _) in enumerate(calls):
            check_parts(await call.rest(), [Prologue(), b"%d" % number, End()])

    @case()
    async def test_within_one_process(self, stage: ResponseStage) -> None:
        """A process may answer itself."""
        both = await stage.frontend()
        call = await stage.call(both, both)
        await call.answer(b"me")
        check_parts(await call.rest(), [Prologue(), b"me", End()])

    @case(needs=("shared_connection",))
    async def test_one_connection(self, stage: ResponseStage) -> None:
        """All streams between two processes go over one connection, those that begin together too."""
        frontend, worker = await stage.pair()

        async def some(count: int) -> list[Call]:
            return await asyncio.gather(*(stage.call(frontend, worker) for _ in range(count)))

        before = stage.sockets()
        calls = await some(8)
        first = stage.sockets() - before
        calls += await some(56)
        more = stage.sockets() - before - first
        check(
            first <= 2 and more == 0,
            did=f"8 streams opened {first} sockets, counting both ends, and 56 more opened {more}",
            wanted="2, the two ends of one connection, and no more",
            look="`call_home`: callers that come while the connection is being made have to wait for it",
        )
        for call in calls:
            await call.answer()
            await call.rest()

    @case(needs=("reports",))
    async def test_report_with_the_end(self, stage: ResponseStage) -> None:
        """A load report that ends an answer arrives with it, and at Host.reported under the worker's name."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        if call.home.enveloped:
            stage.does_not_apply("an enveloped stream has no room for a report")
        body = load_body(Load(3, 1, 8))
        call.home.prologue(None)
        call.home.end(body)
        parts = await call.rest()
        last = parts[-1]
        check(
            isinstance(last, End) and bytes(last.report) == body,
            did=f"received {shown(parts)}",
            wanted=shown([Prologue(), End(body)]),
            look="`end(body)`, and the End that the frontend makes of it",
        )
        wanted = [(worker.host.incarnation, Load(3, 1, 8))]
        await stage.until(lambda: frontend.host.reports, "the report at Host.reported")
        check(
            frontend.host.reports == wanted,
            did=f"Host.reported was called with {frontend.host.reports}",
            wanted=f"{wanted}: the incarnation of the worker's host, and its load",
            look="where a connection keeps who its worker is",
        )

    @case(needs=("reports",))
    async def test_reports(self, stage: ResponseStage) -> None:
        """A load report reaches every frontend that the worker is connected to."""
        frontends = [await stage.frontend() for _ in range(2)]
        worker = await stage.process()
        calls = [await stage.call(frontend, worker) for frontend in frontends]
        load = Load(5, 2, None, "a.b.c")
        worker.transport.report(load)
        for frontend in frontends:
            host = frontend.host
            await stage.until(lambda host=host: host.reports, "the report at Host.reported")
            wanted = [(worker.host.incarnation, load)]
            check(
                host.reports == wanted,
                did=f"Host.reported was called with {host.reports}",
                wanted=str(wanted),
                look="`report`, and what a frontend does about one",
            )
        for call in calls:
            await call.answer()
            await call.rest()

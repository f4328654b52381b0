"""Requests that are streams themselves: `expect(sends=True)`."""

from __future__ import annotations

import asyncio
from typing import Any

from reqplane.interfaces import HomeStream
from reqplane.model import Broken, End, Part, Prologue

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts, shown
from reqplane_conformance.response.stage import WINDOW, ResponseStage
from reqplane_conformance.verdict import Nonconformance, check, fail

_STREAMED = ("streamed_requests",)
_ITEM = b"q" * 16_000
_EXPECT = "`expect`, and the ConnectionInfo that it makes"
_LOOK = "the way from `PendingStream.write` to `HomeStream.receive`"


class StreamedCases(ResponseSuite, suite=True):
    """Requests that are streams."""

    group = "streamed"

    @case()
    async def test_only_where_asked_for(self, stage: ResponseStage) -> None:
        """Without sends=True there is no stream of the request, at either end: to use one is a TypeError."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        check(call.pending.info.request is None, did="its info has a `request`", wanted="None", look=_EXPECT)
        for what, work in (("write", lambda: call.pending.write(b"x")), ("end", call.pending.end)):
            _type_error(work, f"{what} of a stream that was not expected with sends=True")
        for what, waiting in (("ready", call.pending.ready()), ("HomeStream.receive", call.home.receive())):
            try:
                await stage.soon(waiting, f"{what}, a TypeError", _LOOK)
            except TypeError:
                continue
            raise Nonconformance(f"{what} returned", "TypeError, where the request is no stream", _LOOK)
        if not stage.capabilities.streamed_requests:
            _type_error(lambda: frontend.transport.expect("r", sends=True), "expect(sends=True)")
        await call.answer()
        check_parts(await call.rest(), [Prologue(), End()])

    @case(needs=_STREAMED)
    async def test_two_subjects(self, stage: ResponseStage) -> None:
        """The info of a request that is a stream has a `request`, with a subject of its own."""
        frontend = await stage.frontend()
        pendings = [frontend.transport.expect("r", sends=True) for _ in range(20)]
        infos = [pending.info for pending in pendings]
        check(
            all(info.request for info in infos), did="an info without `request`", wanted="one", look=_EXPECT
        )
        subjects = {info.subject for one in infos for info in (one, one.request) if info is not None}
        check(len(subjects) == 40, did=f"{len(subjects)} subjects", wanted="40", look=_EXPECT)
        for pending in pendings:
            pending.close()

    @case(needs=_STREAMED)
    async def test_request_in_order(self, stage: ResponseStage) -> None:
        """A request's items arrive in order, as they were written, and then its End; so does the answer."""
        call = await stage.call(*await stage.pair(), sends=True)
        items = [b"", b"first", bytes(range(256)) * 300, *(b"%d" % number for number in range(100))]

        async def ask() -> None:
            for item in items:
                if not call.pending.write(item):
                    await call.pending.ready()
            call.pending.end()

        asking = asyncio.create_task(ask())
        check_parts(await _request(stage, call.home), [*items, End()], _LOOK)
        await asking
        await call.answer(b"done")
        check_parts(await call.rest(), [Prologue(), b"done", End()])

    @case(needs=_STREAMED)
    async def test_both_ways_at_once(self, stage: ResponseStage) -> None:
        """A handler may answer each item of a request before it has the next."""
        call = await stage.call(*await stage.pair(), sends=True)

        async def echo() -> None:
            call.home.prologue(None)
            while True:
                for part in await call.home.receive():
                    if not isinstance(part, bytes | bytearray):
                        call.home.end()
                        return
                    await call.write(bytes(part) + b"!")

        echoing = asyncio.create_task(echo())
        came: list[Part] = []
        for number in range(20):
            call.pending.write(b"%d" % number)
            while b"%d!" % number not in came:
                came += await stage.soon(call.pending.receive(), f"the echo of item {number}", _LOOK)
        call.pending.end()
        came += await call.rest()
        check_parts(came, [Prologue(), *(b"%d!" % number for number in range(20)), End()], _LOOK)
        await echoing

    @case(needs=_STREAMED)
    async def test_before_the_call(self, stage: ResponseStage) -> None:
        """What was written before the worker called home arrives when it does."""
        frontend, worker = await stage.pair()
        pending = frontend.transport.expect("conformance", sends=True)
        pending.write(b"early")
        pending.end()
        call = await stage.home(worker, pending)
        check_parts(await _request(stage, call.home), [b"early", End()], _LOOK)
        await call.answer()
        check_parts(await call.rest(), [Prologue(), End()])

    @case(needs=_STREAMED, within=40.0)
    async def test_slow_handler(self, stage: ResponseStage) -> None:
        """A handler that reads slowly slows the asking side down, before the call home and after it."""
        frontend, worker = await stage.pair(stream_window_bytes=WINDOW)
        pending = frontend.transport.expect("conformance", sends=True)
        written = 0

        async def ask() -> None:
            nonlocal written
            for _ in range(4000):
                written += 1
                if not pending.write(_ITEM):
                    await pending.ready()
            pending.end()

        asking = asyncio.create_task(ask())
        before = await stage.quiet(lambda: written)
        call = await stage.home(worker, pending)
        held = await stage.quiet(lambda: written)
        check(
            not asking.done(),
            did=f"it took {held} items of {len(_ITEM)} bytes that nobody read, {before} before the call home",
            wanted=f"a window, {WINDOW} bytes, and what fits into the buffers of a socket",
            look="`PendingStream.write`, which must give False, and `ready`, which must wait",
        )
        parts: list[Part] = []
        while len(parts) < written:
            parts += await stage.soon(call.home.receive(), "what was written", _LOOK)
            if len(parts) > written - 5:
                asking.cancel()
        await asyncio.wait([asking])
        pending.end()
        parts += await _request(stage, call.home)
        check_parts(parts, [*[_ITEM] * written, End()], _LOOK)
        await call.answer()

    @case(needs=_STREAMED)
    async def test_asking_side_leaves(self, stage: ResponseStage) -> None:
        """A handler that waits for more of a request whose stream is closed gets Broken, never its End."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker, sends=True)
        call.pending.write(b"one")
        came = await stage.soon(call.home.receive(), "the first item", _LOOK)
        waiting = asyncio.create_task(call.home.receive())
        await asyncio.sleep(0)
        call.pending.close()
        parts = [*came, *await stage.soon(waiting, "HomeStream.receive done after close", _LOOK)]
        check_parts(parts, [b"one", Broken("")], "`close` of a stream whose request has not ended")
        check_parts(await stage.soon(call.home.receive(), "receive done once more", _LOOK), [Broken("")])

    @case(needs=_STREAMED)
    async def test_answer_ends_first(self, stage: ResponseStage) -> None:
        """When the answer has ended, nobody waits to write more of the request."""
        frontend, worker = await stage.pair(stream_window_bytes=WINDOW)
        call = await stage.call(frontend, worker, sends=True)
        for _ in range(1000):
            if not call.pending.write(_ITEM):
                break
        else:
            fail(
                "write took a thousand items that nobody read", "False", _LOOK, blame="streamed.slow_handler"
            )
        waiting = asyncio.create_task(call.pending.ready())
        await call.answer(b"enough")
        check_parts(await call.rest(), [Prologue(), b"enough", End()])
        look = "`PendingStream.ready` of a stream whose answer is over"
        for ready in (waiting, call.pending.ready()):
            more = await stage.soon(ready, "ready done when the answer has ended", look)
            check(more is False, did=f"ready gave {more!r}", wanted="False: no more is wanted", look=look)
        check(call.pending.write(b"x") is False, did="write gave True", wanted="False", look=look)
        call.pending.end()

    @case(needs=_STREAMED)
    async def test_worker_gives_up(self, stage: ResponseStage) -> None:
        """When the worker gives the stream up, whoever waits to write more of the request hears of it."""
        frontend, worker = await stage.pair(stream_window_bytes=WINDOW)
        call = await stage.call(frontend, worker, sends=True)
        while call.pending.write(_ITEM):
            pass
        waiting = asyncio.create_task(call.pending.ready())
        call.home.abort()
        look = "`PendingStream.ready` of a stream that is broken"
        more = await stage.soon(waiting, "ready done when the worker has given up", look)
        check(more is False, did=f"ready gave {more!r}", wanted="False: no more is wanted", look=look)
        check_parts(await call.rest(), [Broken("")])

    @case(needs=_STREAMED)
    async def test_stop_ends_the_request(self, stage: ResponseStage) -> None:
        """After a stop the handler gets what has come of the request, then Broken; its answer goes on."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker, sends=True)
        call.pending.write(b"one")
        came = await stage.soon(call.home.receive(), "the first item", _LOOK)
        waiting = asyncio.create_task(call.home.receive())
        await asyncio.sleep(0)
        call.pending.stop()
        parts = [*came, *await stage.soon(waiting, "HomeStream.receive done after stop", _LOOK)]
        look = "`stop` of a stream whose request has not ended"
        check_parts(parts, [b"one", Broken("")], look)
        await call.until_told("STOP")
        more = await stage.soon(call.pending.ready(), "ready done after stop", look)
        check(more is False, did=f"ready gave {more!r}", wanted="False: no more is wanted", look=look)
        call.pending.end()
        await call.answer(b"so far")
        check_parts(await call.rest(), [Prologue(), b"so far", End()], look)

    @case(needs=_STREAMED)
    async def test_each_way_by_itself(self, stage: ResponseStage) -> None:
        """An answer that nobody reads does not hold its request up."""
        frontend, worker = await stage.pair(stream_window_bytes=WINDOW)
        call = await stage.call(frontend, worker, sends=True)
        call.home.prologue(None)
        written = 1
        while call.home.write(_ITEM):
            written += 1
        items = [_ITEM] * (4 * WINDOW // len(_ITEM))

        async def ask() -> None:
            for item in items:
                if not call.pending.write(item):
                    await call.pending.ready()
            call.pending.end()

        asking = asyncio.create_task(ask())
        check_parts(await _request(stage, call.home), [*items, End()], _LOOK)
        await asking
        call.home.end()
        check_parts(await call.rest(), [Prologue(), *[_ITEM] * written, End()])


async def _request(stage: ResponseStage, home: HomeStream) -> list[Part]:
    """All of a request's parts."""
    parts: list[Part] = []
    while not parts or not isinstance(parts[-1], End | Broken):
        batch = await stage.soon(home.receive(), f"the rest of the request after {shown(parts)}", _LOOK, 10.0)
        check(batch, did="HomeStream.receive returned an empty list", wanted="it waits", look=_LOOK)
        parts += batch
    return parts


def _type_error(work: Any, what: str) -> None:
    try:
        work()
    except TypeError:
        return
    raise Nonconformance(
        f"{what} returned as if all were well", f"TypeError: {what}", "`expect`, `write`, `end`"
    )

"""An answer that is cut off never looks complete, and nobody waits for what won't come."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from reqplane.model import Broken, Control, End, Part, Prologue

from reqplane_conformance.case import case
from reqplane_conformance.response.control import check_told
from reqplane_conformance.response.flow import Writer
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts, shown
from reqplane_conformance.response.stage import WINDOW, ResponseStage
from reqplane_conformance.verdict import check

_DEAD_AFTER = 1.0
"""Seconds of silence after which a peer counts as dead, in these cases."""
_LOST = "what happens to the streams of a connection that is lost"
_BEATS = "heartbeats: who sends them while nothing else is to send, and who counts the silence"


def _quick(stage: ResponseStage) -> dict[str, Any]:
    """Limits by which silence is noticed soon."""
    return {"heartbeat": 0.1 * stage.patience, "stream_dead_after": _DEAD_AFTER * stage.patience}


class CutCases(ResponseSuite, suite=True):
    """Answers that are cut off."""

    group = "cuts"

    @case(priority=4)
    async def test_abort(self, stage: ResponseStage) -> None:
        """An answer that the worker gives up is Broken after what came, never at its End."""
        frontend, worker = await stage.pair()
        call, other = await stage.call(frontend, worker), await stage.call(frontend, worker)
        call.home.prologue(None)
        call.home.write(b"one")
        call.home.abort()
        call.home.abort()
        call.home.end()
        check_parts(await call.rest(), [Prologue(), b"one", Broken("")], "`abort`: it may send no end marker")
        await other.answer(b"unharmed")
        check_parts(await other.rest(), [Prologue(), b"unharmed", End()], "`abort` is about one stream")
        check_told(other.told, look="`abort` is about one stream")

    @case(within=40.0, priority=3)
    async def test_worker_killed(self, stage: ResponseStage) -> None:
        """When a worker's process is gone, each of its streams gives what came, then Broken, soon."""
        frontend = await stage.frontend(**_quick(stage))
        worker = await stage.outside_worker(**_quick(stage))
        streams: list[Any] = []
        for number in range(3):
            pending = frontend.transport.expect("conformance")
            stream = await worker.call_home(pending.info)
            if number:
                await worker.write(stream, b"one", b"two")
            streams.append(pending)
        await asyncio.wait([pending.opened for pending in streams])
        came = [await _come(stage, pending, 6 if number else 0) for number, pending in enumerate(streams)]
        waiting = asyncio.create_task(streams[0].receive())
        await asyncio.sleep(0)
        await self.vanish(worker)
        look = f"{_LOST}: each ends with Broken, also one that has had nothing yet"
        check_parts(await stage.soon(waiting, "Broken after a kill -9", look, 10.0), [Broken("")], look)
        for pending, before in list(zip(streams, came, strict=True))[1:]:
            check_parts(
                [*before, *await stage.rest(pending, "Broken")],
                [Prologue(), b"one", b"two", Broken("")],
                look,
            )

    @case(within=40.0)
    async def test_never_half_an_item(self, stage: ResponseStage) -> None:
        """When a worker dies while large items are under way, those that arrive are whole."""
        limits = _quick(stage) | {"stream_window_bytes": 1 << 30}
        frontend = await stage.frontend(**limits)
        worker = await stage.outside_worker(**limits)
        pending = frontend.transport.expect("conformance")
        stream = await worker.call_home(pending.info)
        await asyncio.wait([pending.opened])
        await worker.write(stream, size=700_000, count=24)
        await self.vanish(worker)
        parts = await stage.rest(pending, "Broken after a kill -9")
        items = [bytes([number]) * 700_000 for number in range(24)]
        check_parts(
            parts,
            [Prologue(), *items[: max(len(parts) - 2, 0)], Broken("")],
            "what becomes of bytes that were received when the connection ends before their item does",
        )

    @case(within=40.0)
    async def test_frontend_killed(self, stage: ResponseStage) -> None:
        """When a frontend's process is gone, its workers hear GONE, and no writer waits."""
        frontend = await stage.outside_frontend(**_quick(stage))
        worker = await stage.process(**_quick(stage))
        told: list[Control] = []
        home = await stage.call_home(worker, await frontend.expect(), told)
        home.prologue(None)
        home.write(b"one")
        await self.vanish(frontend)
        await stage.until(lambda: told, "GONE after a kill -9 of the frontend", 10.0)
        check_told(told, Control.GONE, look=_LOST)
        await stage.soon(home.ready(), "ready done", "`ready` of a stream whose frontend is gone")
        check(home.write(b"no"), did="write gave False after GONE", wanted="True: nothing to wait for")
        home.end()

    @case()
    async def test_worker_leaves(self, stage: ResponseStage) -> None:
        """A worker that closes breaks the streams that are open, and its handlers hear GONE."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        call.home.prologue(None)
        call.home.write(b"one")
        came = await _come(stage, call.pending, 3)
        await worker.transport.aclose()
        parts = [*came, *await call.rest()]
        check_parts(parts, [Prologue(), b"one", Broken("")], "`aclose` of a worker")
        await call.until_told("GONE at the handlers of a worker that closed")
        check_told(call.told, Control.GONE, look="`aclose` of a worker")

    @case(within=30.0)
    async def test_leaving_worker_delivers(self, stage: ResponseStage) -> None:
        """What a worker had written before it closed arrives, its End too."""
        frontend, worker = await stage.pair(stream_window_bytes=1 << 30)
        call = await stage.call(frontend, worker)
        reading = asyncio.create_task(call.rest(within=20.0))
        items = [bytes([number]) * 60_000 for number in range(60)]
        call.home.prologue(None)
        for item in items:
            call.home.write(item)
        call.home.end()
        await worker.transport.aclose()
        check_parts(
            await reading,
            [Prologue(), *items, End()],
            "`aclose`: what was written has to go out before the connection closes; a socket that is closed "
            "with something unread in it throws away what it had still to send",
        )

    @case()
    async def test_frontend_leaves(self, stage: ResponseStage) -> None:
        """A frontend that closes leaves nobody waiting: readers get Broken, workers GONE or KILL."""
        frontend, worker = await stage.pair(stream_window_bytes=WINDOW)
        call = await stage.call(frontend, worker)
        never = frontend.transport.expect("nobody calls home")
        full = await stage.call(frontend, worker)
        writer = Writer(full)
        await writer.held()
        waiting = [asyncio.create_task(one.receive()) for one in (call.pending, never)]
        await asyncio.sleep(0)
        await frontend.transport.aclose()
        look = "`aclose` of a frontend: streams that are open, and those that are still expected"
        for task in waiting:
            check_parts(await stage.soon(task, "receive done after aclose", look), [Broken("")], look)
        await stage.soon(asyncio.wait([writer.task]), "a writer past `ready` after aclose", look)
        for one in (call, full):
            await one.until_told("GONE or KILL at the worker")
            check(
                one.told in ([Control.GONE], [Control.KILL]),
                did=f"the worker was told {one.told}",
                wanted="GONE or KILL, once",
                look=look,
            )
        parts = await full.rest()
        check(
            isinstance(parts[-1], Broken),
            did=f"received {shown(parts)}",
            wanted="Broken at the end",
            look=look,
        )

    @case(within=40.0)
    async def test_call_after_a_loss(self, stage: ResponseStage) -> None:
        """After a frontend was killed, one at the same address gets its own answers, and only these."""
        port = stage.one_port()
        worker = await stage.process()
        told: list[Control] = []
        old = await stage.outside_frontend(port)
        old_info = await old.expect()
        await stage.call_home(worker, old_info, told)
        await self.vanish(old)
        frontend = await stage.frontend(port)
        look = "`call_home`: a connection belongs to one process of a frontend, and not to an address"
        call = await stage.call(frontend, worker, look=look)
        await call.answer(b"new")
        check_parts(await call.rest(), [Prologue(), b"new", End()], look)
        await stage.until(lambda: told, "GONE for the stream to the frontend that was killed")

    # ── heartbeats ──

    @case(needs=("heartbeats",), within=40.0)
    async def test_frozen_worker(self, stage: ResponseStage) -> None:
        """A worker that is silent for stream_dead_after counts as gone, though its connection stands."""
        frontend = await stage.frontend(**_quick(stage))
        worker = await stage.outside_worker(**_quick(stage))
        pending = frontend.transport.expect("conformance")
        await worker.write(await worker.call_home(pending.info), b"one")
        parts = await _come(stage, pending, 3)
        async with self.clogged(worker):
            parts += await stage.rest(pending, "Broken, from a worker that is frozen", 10 * _DEAD_AFTER)
        check_parts(parts, [Prologue(), b"one", Broken("")], _BEATS)

    @case(needs=("heartbeats",), within=40.0)
    async def test_frozen_frontend(self, stage: ResponseStage) -> None:
        """A frontend that is silent for stream_dead_after counts as gone."""
        frontend = await stage.outside_frontend(**_quick(stage))
        worker = await stage.process(**_quick(stage))
        told: list[Control] = []
        home = await stage.call_home(worker, await frontend.expect(), told)
        home.prologue(None)
        async with self.clogged(frontend):
            await stage.until(lambda: told, "GONE, for a frontend that is frozen", 10 * _DEAD_AFTER)
        check_told(told, Control.GONE, look=_BEATS)

    @case(needs=("heartbeats",), within=40.0)
    @pytest.mark.parametrize("busy", [False, True])
    async def test_silence_is_no_loss(self, stage: ResponseStage, busy: bool) -> None:
        """A stream on which nothing happens lives on, and so does one whose worker computes for a while."""
        frontend = await stage.frontend(**_quick(stage))
        worker = await stage.outside_worker(**_quick(stage))
        pending = frontend.transport.expect("conformance")
        stream = await worker.call_home(pending.info)
        over = time.monotonic() + 2.2 * _DEAD_AFTER * stage.patience
        while time.monotonic() < over:
            if busy:
                await worker.busy(0.5 * _DEAD_AFTER * stage.patience)
            await asyncio.sleep(0.1)
        await worker.write(stream, b"still there")
        await worker.end(stream)
        check_parts(await stage.rest(pending, "the end"), [Prologue(), b"still there", End()], _BEATS)


async def _come(stage: ResponseStage, pending: Any, size: int) -> list[Part]:
    """The prologue, and items of so many bytes."""
    parts: list[Part] = []
    while not parts or sum(len(part) for part in parts if isinstance(part, bytes | bytearray)) < size:
        parts += await stage.soon(pending.receive(), "what the worker wrote, received", "`receive`")
    return parts

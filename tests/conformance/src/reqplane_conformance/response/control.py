"""Stop, kill and close: before, while and after the worker is at home."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import replace

import pytest
from reqplane.errors import CannotConnect
from reqplane.interfaces import HomeStream
from reqplane.model import Broken, ConnectionInfo, Control, End, Prologue

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts, shown
from reqplane_conformance.response.stage import Process, ResponseStage, info_from
from reqplane_conformance.verdict import check

_ENDS = ["kill", "close"]
_ALONE = "what becomes of a connection, and of its other streams, when one stream is turned away"


def _names(told: list[Control]) -> str:
    return ", ".join(what.name for what in told) or "nothing"


def check_told(told: list[Control], *wanted: Control, look: str, blame: str = "") -> None:
    check(
        told == list(wanted),
        did=f"the worker was told {_names(told)}",
        wanted=_names(list(wanted)),
        look=look,
        blame=blame,
    )


async def turned_away(stage: ResponseStage, worker: Process, info: ConnectionInfo, why: str) -> None:
    """A worker that calls home with this must not be let in: it is killed, or can't connect."""
    told: list[Control] = []
    look = "what a frontend does about a subject that it does not know, or not any more"
    try:
        home: HomeStream = await stage.soon(
            worker.transport.call_home(info, told.append), f"call_home done, for {why}", look, 10.0
        )
    except CannotConnect:
        return
    home.prologue(None)
    home.write(b"nobody reads this")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5.0 * stage.patience):
            while not told:
                await asyncio.sleep(0.005)
    check(
        told in ([Control.KILL], [Control.GONE]),
        did=f"a worker that called home for {why} was told {_names(told)}",
        wanted="KILL, once, or GONE where the stream has a connection of its own",
        look=look,
    )
    await stage.soon(home.ready(), "ready done", "`ready` of a stream that was killed")
    home.write(b"nor this")
    home.end()


class ControlCases(ResponseSuite, suite=True):
    """Stop, kill and close."""

    group = "control"

    @case()
    async def test_stop(self, stage: ResponseStage) -> None:
        """A worker hears STOP, and what it still writes is received, the end too."""
        call = await stage.call(*await stage.pair())
        call.home.prologue(None)
        call.pending.stop()
        await call.until_told("STOP at the worker")
        await call.write(b"last words")
        call.home.end()
        check_parts(
            await call.rest(), [Prologue(), b"last words", End()], "`stop` asks only, and ends nothing"
        )
        check_told(call.told, Control.STOP, look="`stop` of the pending stream")

    @case()
    async def test_stop_before_the_call(self, stage: ResponseStage) -> None:
        """STOP waits for a worker that has not called home yet."""
        frontend, worker = await stage.pair()
        pending = frontend.transport.expect("conformance")
        pending.stop()
        call = await stage.home(worker, pending)
        await call.until_told("STOP at a worker that called home later")
        await call.answer()
        check_parts(await call.rest(), [Prologue(), End()], "`stop` before the call: who remembers it?")
        check_told(call.told, Control.STOP, look="`stop` before the call: who remembers it?")

    @case()
    @pytest.mark.parametrize("end", _ENDS)
    async def test_kill(self, stage: ResponseStage, end: str) -> None:
        """After kill or close the worker hears KILL once, `receive` gives what came and then Broken."""
        frontend, worker = await stage.pair()
        call, other = await stage.call(frontend, worker), await stage.call(frontend, worker)
        call.home.prologue(None)
        call.home.write(b"one")
        for _ in range(2):
            getattr(call.pending, end)()
        *came, last = await call.rest()
        check(
            isinstance(last, Broken) and came in ([], [Prologue()], [Prologue(), b"one"]),
            did=f"received {shown([*came, last])}",
            wanted="what had come, in order, and then Broken",
            look="`kill` and `close` of the pending stream",
        )
        await call.until_told("KILL at the worker")
        check(call.home.write(b"no"), did="write gave False after KILL", wanted="True: nothing to wait for")
        call.home.end()
        await other.answer(b"unharmed")
        check_parts(await other.rest(), [Prologue(), b"unharmed", End()])
        check(
            call.told in ([Control.KILL], [Control.GONE]),
            did=f"the worker was told {_names(call.told)}",
            wanted="KILL, once",
            look="`kill` and `close` of the pending stream",
        )
        check_told(other.told, look="what is told to other streams when one is killed")

    @case()
    @pytest.mark.parametrize("end", _ENDS)
    async def test_late_call(self, stage: ResponseStage, end: str) -> None:
        """A worker that calls home after kill or close is killed."""
        frontend, worker = await stage.pair()
        other = await stage.call(frontend, worker)
        pending = frontend.transport.expect("conformance")
        for _ in range(2):
            getattr(pending, end)()
        await turned_away(stage, worker, info_from(pending.info), "an answer that nobody waits for any more")
        look = "`kill` and `close` before the worker has called home"
        check_parts(await stage.rest(pending, "Broken"), [Broken("")], look)
        check(
            not pending.opened.done() or pending.opened.cancelled(),
            did="`opened` is done, as if the worker were welcome",
            wanted="cancelled by close, pending after kill",
            look=look,
        )
        await other.answer(b"unharmed")
        check_parts(await other.rest(), [Prologue(), b"unharmed", End()], _ALONE, "control.unknown_subject")

    @case()
    @pytest.mark.parametrize("called", [False, True])
    async def test_close_wakes_the_reader(self, stage: ResponseStage, called: bool) -> None:
        """A `receive` that waits gets Broken at close, whether the worker has called home or not."""
        frontend, worker = await stage.pair()
        pending = frontend.transport.expect("conformance")
        if called:
            await stage.home(worker, pending)
            await asyncio.wait([pending.opened])
        waiting = asyncio.create_task(pending.receive())
        await asyncio.sleep(0)
        pending.close()
        look = "`close`: who wakes up a `receive` that waits?"
        parts = await stage.soon(waiting, "receive done after close", look)
        check_parts(parts, [Broken("")], look)
        check(
            pending.opened.cancelled() != called,
            did=f"after close `opened` is {pending.opened!r:.80}",
            wanted="cancelled, if the worker has not called home before",
            look=look,
        )

    @case()
    async def test_after_the_end(self, stage: ResponseStage) -> None:
        """Stop, kill and close after the end harm nobody: the core closes each stream that it has read."""
        frontend, worker = await stage.pair()
        other = await stage.call(frontend, worker)
        call = await stage.call(frontend, worker)
        await call.answer(b"item")
        await call.rest()
        call.pending.stop()
        call.pending.kill()
        call.pending.close()
        marker = await stage.call(frontend, worker)
        await marker.answer()
        await marker.rest()
        look = "what `close` sends for a stream that has ended, and what the other end makes of it"
        check_told(call.told, look=look)
        check_told(other.told, look=look)
        await other.answer(b"unharmed")
        check_parts(await other.rest(), [Prologue(), b"unharmed", End()], look)

    @case()
    async def test_subject_is_good_for_one(self, stage: ResponseStage) -> None:
        """A subject lets one worker in, once; a second call for it is turned away and harms nobody."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        call.home.prologue(None)
        second = await stage.process()
        for caller in (worker, second):
            info = info_from(call.pending.info)
            await turned_away(stage, caller, info, "a subject that has been used")
        await call.write(b"one")
        call.home.end()
        check_parts(await call.rest(), [Prologue(), b"one", End()], _ALONE, "control.unknown_subject")
        check_told(call.told, look=_ALONE, blame="control.unknown_subject")

    @case()
    async def test_unknown_subject(self, stage: ResponseStage) -> None:
        """A worker that calls home for a subject that nobody drew is killed, and harms no other stream."""
        frontend, worker = await stage.pair()
        other = await stage.call(frontend, worker)
        info = replace(info_from(other.pending.info), subject=str(uuid.uuid4()))
        await turned_away(stage, worker, info, "a subject that nobody drew")
        await other.answer(b"unharmed")
        check_parts(await other.rest(), [Prologue(), b"unharmed", End()], _ALONE)
        check_told(other.told, look=_ALONE)

"""The other side is not there, goes away, or says nothing: what senders are told, and when."""

from __future__ import annotations

import asyncio

import pytest
from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, ReqplaneError

from reqplane_conformance.case import case
from reqplane_conformance.request.fates import Audit, fate, fates, is_time_out, says_where, told
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.relay import place_of
from reqplane_conformance.request.stage import Frontend, RequestStage, Worker
from reqplane_conformance.request.waiting import AT_ONCE, WAITS, ends, until_it_works
from reqplane_conformance.stage import NotExercised
from reqplane_conformance.usage import resident_bytes
from reqplane_conformance.verdict import check, expected

_MIB = 1 << 20
_OWN_TIME_OUT = 30.0
"""Seconds within which a transport gives up by itself, where no deadline tells it to."""


_BY_ITSELF = "a transport bounds the wait by a time-out of its own too"


async def gone(stage: RequestStage) -> Worker:
    """A worker that has closed in good order; its record may still be known."""
    worker = await stage.worker()
    await worker.listener.close()
    await worker.transport.aclose()
    return worker


class FailureCases(RequestSuite, suite=True):
    """What senders are told when the other side is gone or silent."""

    group = "failure"

    @case(priority=3)
    async def test_nobody_listening(self, stage: RequestStage) -> None:
        """A send to an address where nobody listens fails, at its deadline at the latest."""
        frontend, worker = await stage.frontend(), await gone(stage)
        with expected(CannotConnect, DeliveryUnknown, when="when nobody listens there"):
            await ends(stage, frontend.send(worker, within=1.0), 2.5)

    @case(needs=("notices_dead_worker",))
    async def test_nobody_listening_is_noticed(self, stage: RequestStage) -> None:
        """Where nobody listens a send fails at once, by CannotConnect, so that another worker is asked."""
        frontend, worker = await stage.frontend(), await gone(stage)
        with expected(CannotConnect, when="at once when nobody listens there"):
            await ends(stage, frontend.send(worker), 2.0, AT_ONCE)

    @case(priority=3)
    async def test_worker_vanished(self, stage: RequestStage) -> None:
        """A send to a worker that was killed fails, also on a connection that was there before."""
        frontend, worker = await stage.frontend(), await stage.outside()
        await frontend.deliver(worker)
        await self.vanish(worker)
        with expected(CannotConnect, DeliveryUnknown, when="when the worker's process is gone"):
            await ends(stage, frontend.send(worker, within=1.0), 2.5)

    @case(needs=("notices_dead_worker",), within=30.0)
    async def test_dead_worker_is_noticed(self, stage: RequestStage) -> None:
        """Sends to a worker that was killed soon fail without waiting for a time-out."""
        frontend, worker = await stage.frontend(), await stage.outside()
        await frontend.deliver(worker)
        await self.vanish(worker)
        errors: list[ReqplaneError | None] = [None]
        while len(errors) <= 5 and (errors[-1] is None or is_time_out(errors[-1])):
            errors.append(await fate(ends(stage, frontend.send(worker, within=2.0), 3.5)))
        check(
            errors[-1] is not None and not is_time_out(errors[-1]),
            did=f"five sends to a worker that was killed waited for 2 s each; the last {told(errors[-1])}",
            wanted="an error at once, or else the capability notices_dead_worker is not claimed",
            look="what `send` does when its connection is reset, or closed without an ack",
        )

    @case(priority=4)
    async def test_worker_dies_in_accept(self, stage: RequestStage) -> None:
        """When the worker dies before its ack, the sender gets DeliveryUnknown: it may have been taken."""
        frontend, worker = await stage.frontend(), await stage.outside()
        await worker.do("dies", count=1)
        look = "`send`: an ack that does not come, and a connection that ends instead, are DeliveryUnknown"
        with expected(DeliveryUnknown, when="when the worker died in accept", look=look):
            await ends(stage, frontend.send(worker, within=2.0), 3.5)

    @case(priority=3)
    @pytest.mark.parametrize("connected", [True, False], ids=["connected", "new"])
    async def test_frozen_worker(self, stage: RequestStage, connected: bool) -> None:
        """A send to a worker that says nothing ends at its deadline, by DeliveryUnknown("timed_out")."""
        frontend, worker = await stage.frontend(), await stage.outside()
        if connected:
            await frontend.deliver(worker)
        kinds = (DeliveryUnknown,) if connected else (DeliveryUnknown, CannotConnect)
        async with self.clogged(worker):
            look = f"{WAITS}; and what a time-out becomes: CannotConnect is for what was surely not sent"
            with expected(*kinds, when="at the deadline, when no ack has come", look=look) as caught:
                await ends(stage, frontend.send(worker, within=0.5), 2.0)
        check(
            not isinstance(caught.error, DeliveryUnknown) or caught.error.reason == "timed_out",
            did=f"send {told(caught.error)}",
            wanted='DeliveryUnknown("timed_out", …) when the deadline passes',
            look=WAITS,
        )

    @case(within=_OWN_TIME_OUT + 10, priority=4)
    async def test_frozen_worker_without_deadline(self, stage: RequestStage) -> None:
        """Without a deadline a send to a silent worker ends by a time-out of the transport's own."""
        frontend, worker = await stage.frontend(), await stage.outside()
        audit = Audit()
        await audit.send(frontend, worker, stage.frame(b"before"))
        check(audit.acked == 1, did=f"send {told(audit.errors[0])}", wanted="it is delivered", look=WAITS)
        async with self.clogged(worker):
            sending = audit.send(frontend, worker, stage.frame(b"to nobody"), within=None)
            await ends(stage, sending, _OWN_TIME_OUT, _BY_ITSELF)
        error = audit.errors[-1]
        check(
            isinstance(error, DeliveryUnknown | CannotConnect),
            did=f"send {told(error)}",
            wanted="DeliveryUnknown after a time-out of its own; CannotConnect if it was still connecting",
            look=WAITS,
        )
        if isinstance(error, CannotConnect):  # a handshake had no answer: then the frame never comes
            await audit.send(frontend, worker, stage.frame(b"the next"))
            await audit.settled(stage, worker)
            audit.check(worker)

    @case()
    async def test_late_ack(self, stage: RequestStage) -> None:
        """A frame that was given up arrives once or not at all, and its late ack disturbs no other."""
        frontend, worker = await stage.frontend(), await stage.outside()
        audit, last = Audit(), stage.frame(b"last")
        await audit.send(frontend, worker, stage.frame())
        async with self.clogged(worker):
            for _ in range(4):
                await audit.send(frontend, worker, stage.frame(b"given up"), within=0.1)
        await audit.send(frontend, worker, last)
        check(
            audit.errors[-1] is None,
            did=f"when the worker was back, send {told(audit.errors[-1])}",
            wanted="the next send works: what was given up before has nothing to do with it",
            look="how an ack finds its send on a connection that is used again",
        )
        await audit.settled(stage, worker)
        audit.check(worker)

    @case()
    async def test_ack_of_another(self, stage: RequestStage) -> None:
        """The ack of a frame that was given up is never taken for that of the next one."""
        frontend, worker = await stage.frontend(), await stage.outside()
        audit = Audit()
        await worker.do("takes", seconds=0.6 * stage.patience)
        await audit.send(frontend, worker, stage.frame(b"given up"), within=0.3)
        await audit.send(frontend, worker, stage.frame(b"next"))
        check(
            audit.errors[-1] or audit.frames[-1].join() in worker.frames,
            did="a frame was given up, and when its ack came the next send returned, whose frame was not "
            "accepted yet",
            wanted="each send waits for the ack of its own frame",
            look="how an ack finds its send on a connection that is used again: by a number, or else a "
            "connection whose ack was not waited for is not used again",
        )
        await worker.do("takes", seconds=0.0)

    @case()
    async def test_deadline_has_passed(self, stage: RequestStage) -> None:
        """A send whose deadline has passed already ends at once."""
        frontend, worker = await stage.frontend(), await stage.outside()
        await frontend.deliver(worker)
        look = "the seconds that are left: many libraries take a negative number as `for ever`"
        async with self.clogged(worker):
            for within in (0.0, -5.0):
                with expected(DeliveryUnknown, CannotConnect, when="at once", look=look):
                    await ends(stage, frontend.send(worker, within=within), 1.0)

    @case(within=40.0)
    async def test_memory_is_bounded(self, stage: RequestStage) -> None:
        """What was given up is not kept: memory does not grow while a worker reads nothing."""
        frontend, worker = await stage.frontend(), await stage.outside()
        size = frontend.fitting(_MIB)
        at_once, rounds = 16, 8
        held: list[int] = []
        await frontend.deliver(worker)
        async with self.clogged(worker):
            for _ in range(2 * rounds):
                frames = [stage.frame(b"x" * size) for _ in range(at_once)]
                await fates(frontend.send(worker, frame, within=0.1) for frame in frames)
                del frames
                held.append(resident_bytes())
        grown, sent = held[-1] - held[rounds - 1], rounds * at_once * size
        check(
            grown < sent // 2,
            did=f"while {sent // _MIB} MiB in frames were given up, each after 0.1 s because nobody read it, "
            f"the process grew by {grown // _MIB} MiB",
            wanted="memory stays as it is, however many there were: a frame is let go with its send",
            look="the buffer in front of a connection: a StreamWriter's `close` keeps it until it is "
            "written, `transport.abort` does not",
        )

    @case()
    async def test_errors_say_where(self, stage: RequestStage) -> None:
        """Errors name the address and the problem, so that their readers know where to look."""
        frontend, outside, closed = await stage.frontend(), await stage.outside(), await gone(stage)
        await frontend.deliver(outside)
        async with self.clogged(outside):
            errors = [await fate(frontend.send(outside, within=0.2))]
        errors.append(await fate(frontend.send(closed, within=0.5)))
        most = frontend.transport.max_frame_bytes
        errors.append(await fate(frontend.send(outside, stage.frame(bytes(most)))))
        for error in errors:
            if error is not None:
                says_where(error, frontend.transport.name, "")
        too_large = errors[-1]
        check(
            not isinstance(too_large, FrameTooLarge) or too_large.limit == most,
            did=f"with max_frame_bytes = {most}, send {told(too_large)}",
            wanted="FrameTooLarge with the frame's size and the limit that max_frame_bytes tells",
        )

    @case(needs=("reconnects",), within=40.0, priority=3)
    async def test_comes_back(self, stage: RequestStage) -> None:
        """It works again by itself when the worker is back at its address, and when its server is back."""
        port = stage.one_port()
        frontend, worker = await stage.frontend(), await stage.outside(**port)
        await frontend.deliver(worker)
        await self.vanish(worker)
        await fate(ends(stage, frontend.send(worker, within=0.5), 2.0))
        again = await stage.outside(**port)
        await until_it_works(stage, frontend, again)
        try:
            await self.restart_peer(stage)
        except NotExercised:
            if not port:
                await place_of(stage, again)  # without a server, and so it has nothing else to come back
            return
        await until_it_works(stage, frontend, again)

    @case(within=40.0)
    async def test_killed_under_traffic(self, stage: RequestStage) -> None:
        """When a worker is killed under traffic, each frame is accepted where its sender was told so."""
        port, audit, over = stage.one_port(), Audit(), asyncio.Event()
        workers = [await stage.outside(**port)]

        async def keep_sending(frontend: Frontend) -> None:
            while not over.is_set():
                await audit.send(frontend, workers[-1], stage.frame(b"x" * 2000), within=1.0)
                await asyncio.sleep(0.001)  # a send may fail without waiting for anything

        frontends = [await stage.frontend() for _ in range(2)]
        senders = [asyncio.create_task(keep_sending(frontend)) for frontend in frontends for _ in range(4)]
        await stage.until(lambda: len(workers[0].got) > 100, "100 frames")
        await self.vanish(workers[0])
        workers.append(await stage.outside(**port))
        await stage.until(lambda: len(workers[1].got) > 100, "100 frames at a new worker", 10.0)
        over.set()
        await asyncio.gather(*senders)
        await audit.settled(stage, *workers)
        audit.check(*workers)

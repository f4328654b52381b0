"""Opening, serving, draining and closing: what a transport holds, and when it lets go of it."""

from __future__ import annotations

import asyncio

import pytest
from reqplane.errors import CannotConnect, DeliveryUnknown, RequestRefused, WorkerDraining

from reqplane_conformance.case import case
from reqplane_conformance.leftovers import sockets
from reqplane_conformance.request.fates import Audit, fate, fates, told
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import Frontend, RequestStage, Worker
from reqplane_conformance.request.waiting import closed, ends
from reqplane_conformance.verdict import check, expected, fail


class LifeCases(RequestSuite, suite=True):
    """What a transport does from `open` to `aclose`."""

    group = "life"

    @case(priority=6)
    async def test_nothing_left_over(self, stage: RequestStage) -> None:
        """Once all is closed, no task, socket, thread, timer or reserved byte is left."""
        frontend, worker = await stage.frontend(), await stage.worker()
        sizes = [frontend.fitting(size) for size in (0, 100, 100_000, 4_000_000)]
        for size in sizes:
            await fates(frontend.send(worker, stage.frame(bytes(size))) for _ in range(8))
        worker.refuse = WorkerDraining("the worker is leaving")
        await fates(frontend.send(worker, stage.frame(bytes(size))) for size in sizes)

    @case(priority=4)
    async def test_closes_twice(self, stage: RequestStage) -> None:
        """`close` and `aclose` may be called again, and at the same time, and in any order."""
        frontend, worker, other = await stage.frontend(), await stage.worker(), await stage.worker()
        await frontend.deliver(worker)
        await closed(stage, worker.listener.close(), worker.listener.close())
        await closed(stage, worker.listener.close())
        await closed(stage, worker.transport.aclose(), worker.transport.aclose())
        await closed(stage, worker.listener.close(), worker.transport.aclose())
        await closed(stage, other.transport.aclose())
        await closed(stage, other.listener.close())
        await closed(stage, frontend.transport.aclose(), frontend.transport.aclose())

    @case(priority=4)
    async def test_send_after_close(self, stage: RequestStage) -> None:
        """After `aclose` a send is CannotConnect."""
        frontend, worker = await stage.frontend(), await stage.worker()
        await frontend.deliver(worker)
        await frontend.transport.aclose()
        with expected(CannotConnect, when="after aclose", look="the first lines of `send`"):
            await ends(stage, frontend.send(worker), 1.0)
        check(
            len(worker.got) == 1, did="the frame arrived all the same", wanted="CannotConnect sends nothing"
        )

    @case()
    async def test_listens_again(self, stage: RequestStage) -> None:
        """A transport whose last listener was closed listens again."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for _ in range(3):
            await frontend.deliver(worker, when="after close and another listen")
            await worker.listener.close()
            await stage.listen(worker)
            frontend = await stage.frontend()  # the address may be another one now
        await frontend.deliver(worker, when="after close and another listen")

    @case(priority=4)
    async def test_one_of_two_closes(self, stage: RequestStage) -> None:
        """Closing one endpoint leaves the others of its process as they are."""
        frontend, first = await stage.frontend(), await stage.worker("conformance.backend.one")
        second = await stage.worker("conformance.backend.two", beside=first)
        for worker in (first, second):
            await frontend.deliver(worker)
        await first.listener.close()
        with expected(CannotConnect, DeliveryUnknown, RequestRefused, when="from an endpoint that is closed"):
            await ends(stage, frontend.send(first, within=1.0), 2.5)
        for sender in (frontend, await stage.frontend()):
            await sender.deliver(
                second,
                when="after another endpoint of the process was closed",
                look="`Listener.close`: only that of the last one frees the address, and what all share",
            )
        check(
            (len(first.got), len(second.got)) == (1, 3),
            did=f"the closed endpoint got {len(first.got)} frames and the other one {len(second.got)}",
            wanted="1 and 3: nothing after the close, and nothing that was sent to the other",
            look="how the listener finds the endpoint that a frame is for",
        )

    @case(within=30.0)
    @pytest.mark.parametrize("count", [1, 40])
    async def test_drain_acks_all(self, stage: RequestStage, count: int) -> None:
        """When `drain` returns, the ack of every frame that was accepted is on the wire."""
        frontend, worker = await stage.frontend(), await stage.outside()
        audit = Audit()
        await audit.send(frontend, worker, stage.frame())
        await worker.do("dies", count=count, drains=True)
        frames = [stage.frame() for _ in range(count)]
        await asyncio.gather(*(audit.send(frontend, worker, frame, within=3.0) for frame in frames))
        await audit.settled(stage, worker)
        audit.check(worker)
        failed = [error for error in audit.errors if error is not None]
        check(
            not failed,
            did=f"{count} frames were accepted, the worker drained, and its process ended: for {len(failed)} "
            f"of them send {told(failed[0] if failed else None)}",
            wanted="drain returns when every ack is written to the socket",
            look="`Listener.drain`: acks that wait in a task, a queue or a write buffer",
        )

    @case(priority=4)
    async def test_drain_goes_on(self, stage: RequestStage) -> None:
        """After `drain` frames still reach accept, which refuses them, and the senders learn that at once."""
        frontend, worker = await stage.frontend(), await stage.worker()
        await frontend.deliver(worker)
        worker.refuse = WorkerDraining("the worker is leaving")
        offered = worker.offered
        await closed(stage, worker.listener.drain())
        look = "`Listener.drain`, which stops nothing: the listener goes on until its close"
        with expected(RequestRefused, DeliveryUnknown, when="while the worker drains", look=look):
            await ends(stage, frontend.send(worker, within=3.0), 2.0, "the refusal comes at once")
        check(
            worker.offered > offered,
            did="accept was not called with a frame that came after drain",
            wanted="the core says no, by accept, until the listener is closed",
            look="`Listener.drain`, which stops nothing",
        )

    @case(within=60.0)
    async def test_opens_50_times(self, stage: RequestStage) -> None:
        """Opening, serving and closing 50 times leaves no socket and no task behind."""
        first = await self._once(stage)
        before = len(sockets()), len(asyncio.all_tasks())
        for _ in range(49):
            await self._once(stage)
        await stage.until(
            lambda: len(sockets()) <= before[0] and len(asyncio.all_tasks()) <= before[1],
            f"the end of all sockets and tasks but {before} (there are "
            f"{len(sockets())} sockets and {len(asyncio.all_tasks())} tasks)",
        )
        check(first.got, did="nothing arrived", wanted="each listener gets its frame")

    async def _once(self, stage: RequestStage) -> Worker:
        frontend, worker = await stage.frontend(), await stage.worker()
        await frontend.deliver(worker)
        await worker.listener.close()
        await worker.transport.aclose()
        await frontend.transport.aclose()
        return worker

    @case(priority=4)
    async def test_closes_while_sending(self, stage: RequestStage) -> None:
        """`aclose` ends what is being sent, by our errors and at once."""
        frontend, worker = await stage.frontend(), await stage.outside()
        await frontend.deliver(worker)
        async with self.clogged(worker):
            sizes = [frontend.fitting(size) for size in (10, 1000, 100_000, 900_000)]
            frames = [stage.frame(bytes(size)) for size in sizes for _ in range(4)]
            sends = [asyncio.ensure_future(_fate_or_cancel(frontend, worker, frame)) for frame in frames]
            await asyncio.sleep(0.1)
            await closed(stage, frontend.transport.aclose())
            await asyncio.wait(sends, timeout=1.0 * stage.patience)
        left = sum(not send.done() for send in sends)
        for send in sends:
            send.cancel()
        check(
            not left,
            did=f"a second after aclose {left} of {len(sends)} sends still waited",
            wanted="aclose ends them: DeliveryUnknown, or CannotConnect where nothing was sent yet",
            look="`aclose`, which must know what is under way",
        )
        for error in await asyncio.gather(*sends):
            check(
                isinstance(error, CannotConnect | DeliveryUnknown),
                did=f"at aclose a send under way {_described(error)}",
                wanted="DeliveryUnknown, or CannotConnect where nothing was sent yet; a CancelledError would "
                "look as if its caller had been cancelled",
                look="tasks and futures that aclose cancels while somebody waits for them",
            )

    @case(priority=4)
    async def test_closes_under_traffic(self, stage: RequestStage) -> None:
        """When a listener closes under traffic, each frame is acked and accepted, or neither."""
        worker, audit, over = await stage.worker(), Audit(), asyncio.Event()
        frontends = [await stage.frontend() for _ in range(2)]

        async def keep_sending(frontend: Frontend) -> None:
            while not over.is_set():
                await audit.send(frontend, worker, stage.frame(b"x" * 2000), within=1.0)
                await asyncio.sleep(0)  # a send may fail without waiting for anything

        senders = [asyncio.create_task(keep_sending(frontend)) for frontend in frontends for _ in range(8)]
        await stage.until(lambda: len(worker.got) > 200, "200 frames")
        await closed(stage, worker.listener.close())
        arrived = len(worker.got)
        await asyncio.sleep(0.02 * stage.patience)  # they go on sending
        over.set()
        await asyncio.gather(*senders)
        check(
            len(worker.got) == arrived,
            did=f"accept was called {len(worker.got) - arrived} times after close had returned",
            wanted="nothing is handed to accept once close has returned",
            look="`Listener.close`: connections, and frames that were being read",
        )
        await audit.settled(stage, worker)
        audit.check(worker)

    @case(priority=4)
    @pytest.mark.parametrize("moment", ["first", "turns", "waiting"])
    async def test_cancelled_send(self, stage: RequestStage, moment: str) -> None:
        """A send that is cancelled ends at once, leaves nothing behind, and disturbs no other."""
        frontend, worker = await stage.frontend(), await stage.outside()
        audit = Audit()
        sizes = [frontend.fitting(size) for size in (100, 4000, 500_000, 2_000_000)]
        await audit.send(frontend, worker, stage.frame())
        before = sockets()
        async with self.clogged(worker):
            for turns, size in enumerate(sizes * 2):
                audit.frames.append(frame := stage.frame(bytes(size)))
                audit.errors.append(DeliveryUnknown("timed_out"))
                sending = asyncio.ensure_future(frontend.send(worker, frame, within=None))
                for _ in range({"first": 0, "turns": turns, "waiting": 1}[moment]):
                    await asyncio.sleep(0.05 if moment == "waiting" else 0)
                await _cancelled(stage, sending)
            await _let_go(stage, before, len(sizes * 2))
        for _ in range(4):
            await audit.send(frontend, worker, stage.frame())
        failed = next((error for error in audit.errors[-4:] if error is not None), None)
        check(
            failed is None,
            did=f"after others had been cancelled, send {told(failed)}",
            wanted="the next send works",
            look="a connection on which half a frame was written: it must not be used again",
        )
        await audit.settled(stage, worker)
        audit.check(worker)


async def _let_go(stage: RequestStage, before: set[tuple[int, int]], cancelled: int) -> None:
    """A connection that a cancelled send had for itself is closed, though nobody reads at its other end."""
    most, loop = cancelled // 2, asyncio.get_running_loop()
    end = loop.time() + 1.0 * stage.patience
    while (held := len(sockets() - before)) > most and loop.time() < end:
        await asyncio.sleep(0.01)
    check(
        held <= most,
        did=f"after {cancelled} sends had been cancelled while the worker read nothing, {held} of their "
        f"sockets were open",
        wanted="a cancelled send lets its connection go: a handful at most is left, for others to use",
        look="a StreamWriter's `close` waits until everything is written; `transport.abort` does not",
        blame=stage.leftover_case,
    )


async def _cancelled(stage: RequestStage, sending: asyncio.Future[None]) -> None:
    sending.cancel()
    await asyncio.wait({sending}, timeout=1.0 * stage.patience)
    if not sending.done():
        fail(
            "a send that was cancelled still waited a second later",
            "it ends at once",
            "an `except` that catches CancelledError, and a `finally` that waits for the other side",
        )
    if not sending.cancelled():
        error = sending.exception()
        fail(
            f"a send that was cancelled {_described(error)}",
            "CancelledError comes out",
            "an `except` that catches CancelledError: `except BaseException`, or a bare one",
        )


def _described(error: BaseException | None) -> str:
    return "returned" if error is None else f"raised {type(error).__name__}: {error}"


async def _fate_or_cancel(frontend: Frontend, worker: object, frame: object) -> BaseException | None:
    try:
        return await fate(frontend.send(worker, frame, within=None))  # pyright: ignore[reportArgumentType]
    except asyncio.CancelledError as error:
        return error

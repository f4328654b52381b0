"""Frames arrive once, are acknowledged at the right moment, and do not wait for one another."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from reqplane.interfaces import Delivery
from reqplane.model import Peer
from reqplane.wire.frame import Frame

from reqplane_conformance.case import case
from reqplane_conformance.request.copies import bytes_of
from reqplane_conformance.request.frames import READING, check_arrived, noise
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import ONLY_OURS, OURS, Frontend, RequestStage
from reqplane_conformance.verdict import Nonconformance, check

_LARGE = 1024 * 1024
_WAITING = 120
"""More than the 100 connections that many a library's pool has for all addresses together."""
_MIXING = f"{READING}: with an await between two writes to one connection others come in between"
_AGAIN = "what sends again by itself: a library's retries, a redelivery by the broker, a lost connection"


def check_each_once(arrived: Iterable[bytes], sent: Iterable[Frame]) -> None:
    """What arrived are these frames, each once, in any order."""
    __tracebackhide__ = True
    counts, wanted = Counter(arrived), {frame.join() for frame in sent}
    lost = sum(frame not in counts for frame in wanted)
    strange = sum(frame not in wanted for frame in counts)
    check(
        not lost and not strange,
        did=f"of {len(wanted)} frames that were acknowledged {lost} did not arrive as they were sent; "
        f"{strange} arrived that nobody sent",
        wanted="frames that are on their way together do not mix: each arrives whole",
        look=_MIXING,
    )
    twice = [frame for frame, count in counts.items() if count > 1]
    check(
        not twice,
        did=f"of {len(wanted)} frames {len(twice)} arrived more than once, such as {twice[:1]!r:.120}",
        wanted="a frame is handed to accept once: whatever it asks for would be done twice",
        look=_AGAIN,
        blame="delivery.not_again_while_accept_takes_long",
    )


async def send_all(
    frontend: Frontend, worker: Any, frames: Iterable[Frame], at_once: int, **more: Any
) -> None:
    """Deliver them all, so many at a time; `more` is for `deliver`."""
    left = iter(frames)
    how: dict[str, Any] = {"within": 20.0, "when": f"with {at_once} on their way at once", **more}

    async def one_after_the_other() -> None:
        for frame in left:
            await frontend.deliver(worker, frame, **how)

    sending = [asyncio.create_task(one_after_the_other()) for _ in range(at_once)]
    try:
        await asyncio.gather(*sending)
    finally:  # not a TaskGroup, which would hide a verdict in a group of them
        for task in sending:
            task.cancel()


class DeliveryCases(RequestSuite, suite=True):
    """Frames arrive."""

    group = "delivery"

    @case(priority=3)
    async def test_acks_before_the_handler_ends(self, stage: RequestStage) -> None:
        """The ack does not wait for the handler, which may run for minutes."""
        frontend, worker = await stage.frontend(), await stage.worker()
        over = asyncio.Event()
        handlers: list[asyncio.Task[bool]] = []
        worker.on_accept = lambda _: handlers.append(asyncio.create_task(over.wait()))
        look = "what the listener awaits between accept and the ack"
        try:
            await frontend.deliver(worker, within=3.0, when="while its handler still runs", look=look)
        finally:
            over.set()
            await asyncio.gather(*handlers)

    @case(priority=3)
    async def test_acks_after_accept(self, stage: RequestStage) -> None:
        """The ack comes after accept has returned, never before."""
        worker = await stage.outside()
        frontend = await stage.frontend()
        await worker.do("takes", seconds=0.3)
        await frontend.deliver(worker)
        loop = asyncio.get_running_loop()
        returned = loop.time()
        await stage.until(lambda: worker.got, "the frame")
        check(
            worker.got[0].at <= returned,
            did=f"send returned {worker.got[0].at - returned:.3f} s before accept did",
            wanted="the ack is written when accept has returned",
            look="the order of `accept(delivery)` and the ack in the listener",
        )

    @case(priority=3)
    async def test_not_again_while_accept_takes_long(self, stage: RequestStage) -> None:
        """A frame is handed to accept once, also where the ack takes more than a second."""
        worker = await stage.outside()
        frontend = await stage.frontend()
        await worker.do("takes", seconds=1.5)
        frame = await frontend.deliver(worker, when="1.5 s after it was sent")
        await worker.do("takes", seconds=0.0)
        last = await frontend.deliver(worker)
        await stage.until(lambda: last.join() in worker.frames, "the frame that was sent last")
        check_each_once(worker.frames, [frame, last])

    @case(within=30.0)
    async def test_a_thousand_each_once(self, stage: RequestStage) -> None:
        """Of a thousand frames, 50 on their way at a time, none is lost and none arrives twice."""
        frontend, worker = await stage.frontend(), await stage.worker()
        frames = [stage.frame(noise(1 + number % 200)) for number in range(1000)]
        await send_all(frontend, worker, frames, at_once=50)
        check_each_once(worker.frames, frames)

    @case()
    async def test_the_first_sixty_four_at_once(self, stage: RequestStage) -> None:
        """The first 64 frames of a process may all be sent at once, before there is any connection."""
        frontend, worker = await stage.frontend(), await stage.worker()
        frames = [stage.frame() for _ in range(64)]
        await send_all(frontend, worker, frames, at_once=64)
        check_each_once(worker.frames, frames)

    @case(within=20.0, priority=3)
    async def test_large_and_small_do_not_mix(self, stage: RequestStage) -> None:
        """Large and small frames that are sent at once arrive whole, each with its own bytes."""
        frontend, worker = await stage.frontend(), await stage.worker()
        large = frontend.fitting(_LARGE)
        sizes = [large if number % 8 == 0 else 10 + number for number in range(64)]
        frames = [stage.frame(noise(size)) for size in sizes]
        await send_all(frontend, worker, frames, at_once=64, look=_MIXING)
        check_each_once(worker.frames, frames)

    @case(within=30.0)
    async def test_a_stuck_worker_holds_up_nobody(self, stage: RequestStage) -> None:
        """While one worker takes nothing, frames to others are delivered as if it were not there."""
        frontend, worker, stuck = await stage.frontend(), await stage.worker(), await stage.outside()
        await frontend.deliver(stuck)
        body = noise(frontend.fitting(_LARGE))
        waiting: list[asyncio.Task[None]] = []
        async with self.clogged(stuck):
            for number in range(_WAITING):
                frame = stage.frame(body if number < 4 else b"small")
                waiting.append(asyncio.create_task(_let_fail(frontend, stuck, frame)))
            await asyncio.sleep(0.05)
            when = f"by one worker while {_WAITING} frames to another one wait"
            look = "what all targets share: a lock, a pool, a limit, a connection read by turns"
            frames = [stage.frame() for _ in range(64)]
            await send_all(frontend, worker, frames, at_once=16, within=3.0, when=when, look=look)
        await asyncio.gather(*waiting)

    @case()
    async def test_a_frame_stays_as_it_was_accepted(self, stage: RequestStage) -> None:
        """What accept got keeps its bytes: the handler reads them later, when others have come."""
        frontend, worker = await stage.frontend(), await stage.worker()
        kept: list[Delivery] = []
        worker.on_accept = kept.append
        sizes = (10, 10, 10, 1000, 70_000, 70_000) * 4
        frames = [stage.frame(noise(frontend.fitting(size))) for size in sizes]
        for frame in frames:
            check_arrived(worker, await frontend.deliver(worker, frame))
        changed = sum(bytes_of(one.frame) != frame.join() for one, frame in zip(kept, frames, strict=False))
        check(
            not changed,
            did=f"of {len(frames)} frames {changed} had other bytes when the last one had arrived",
            wanted="the bytes of a Delivery are nobody else's from then on",
            look="a receive buffer that is used again: copy the frame out of it, or begin a new one",
        )

    @case()
    async def test_a_frame_can_be_sent_again(self, stage: RequestStage) -> None:
        """`send` leaves the frame as it is: after a refusal the core sends it to another worker."""
        frontend, first = await stage.frontend(), await stage.worker("conformance.backend.first")
        second = await stage.worker("conformance.backend.second")
        frame = stage.frame(bytearray(noise(frontend.fitting(100_000))))
        whole = frame.join()
        for worker in (first, second, first):
            await frontend.send(worker, frame)
            check(
                frame.join() == whole and worker.frames[-1:] == [whole],
                did=f"a frame of {len(whole)} bytes arrived as {len(b''.join(worker.frames[-1:]))}, and had "
                f"{len(frame)} left when `send` was done with it",
                wanted="all of them, each time that it is sent",
                look="what `send` does with the frame at its end: let go of it, and change nothing in it",
            )

    @case(priority=2)
    async def test_accept_runs_on_the_loop(self, stage: RequestStage) -> None:
        """`accept` is called on the event loop of the runtime, never in another thread."""
        frontend, worker = await stage.frontend(), await stage.worker()
        threads: list[threading.Thread] = []
        worker.on_accept = lambda _: threads.append(threading.current_thread())
        check_arrived(worker, await frontend.deliver(worker))
        check(
            threads == [threading.current_thread()],
            did=f"accept was called in {', '.join(thread.name for thread in threads)}",
            wanted="in the thread of the event loop: accept starts tasks, which only works there",
            look="callbacks of your library: hand them over by loop.call_soon_threadsafe",
        )

    @case()
    async def test_tells_what_came_and_whence(self, stage: RequestStage) -> None:
        """A Delivery has the frame's bytes, the plane's name, and a Peer if that is known."""
        frontend, worker = await stage.frontend(), await stage.worker()
        got: list[Delivery] = []
        worker.on_accept = got.append
        check_arrived(worker, await frontend.deliver(worker))
        delivery: Any = got[0]
        peer = delivery.peer
        rules: dict[str, bool] = {
            "frame": isinstance(delivery.frame, bytes | bytearray | memoryview | Frame),
            "plane": delivery.plane == stage.subject.name,
            "peer": peer is None or (isinstance(peer, Peer) and bool(peer.address)),
        }
        for name, holds in rules.items():
            check(
                holds,
                did=f"the Delivery's {name} was {getattr(delivery, name)!r:.200}",
                wanted="the frame's bytes, the transport's `name`, and None or Peer(address)",
                look="the arguments of Delivery",
            )

    @case(priority=2)
    async def test_without_a_deadline(self, stage: RequestStage) -> None:
        """A call without a deadline has `NEVER`, which is infinite, as its deadline."""
        frontend, worker = await stage.frontend(), await stage.worker()
        look = "arithmetic with `deadline`: an infinite one fits no integer and no timer"
        try:
            frame = await frontend.deliver(worker, within=None, when="whose deadline is infinite", look=look)
        except Nonconformance as error:
            if error.blame == ONLY_OURS:
                raise Nonconformance(error.did, error.wanted, look) from error.__cause__
            raise
        check_arrived(worker, frame)


async def _let_fail(frontend: Frontend, worker: Any, frame: Frame) -> None:
    """Send to a worker that takes nothing; it may take the frame later, or the send may fail."""
    with suppress(*OURS):
        await frontend.send(worker, frame, within=20.0)

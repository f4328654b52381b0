"""Frames arrive: whole, once, and acknowledged at the right moment."""

from __future__ import annotations

import asyncio

from reqplane.wire.frame import Frame

from reqplane_conformance.case import case
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import RequestStage
from reqplane_conformance.verdict import check

_READING = "the listener's code that reads a frame, and `send`, which writes `frame.buffers` one by one"


class DeliveryCases(RequestSuite, suite=True):
    """Frames arrive."""

    group = "delivery"

    @case()
    async def test_byte_for_byte(self, stage: RequestStage) -> None:
        """A frame arrives as the bytes that were sent, every value of a byte among them."""
        frontend, worker = await stage.frontend(), await stage.worker()
        frame = stage.frame(bytes(range(256)))
        await frontend.send(worker, frame)
        check(worker.got, did="send returned, and accept was not called", wanted="accept is called first")
        arrived = worker.frames[0]
        check(
            arrived == frame.join(),
            did=f"a frame of {len(frame)} bytes arrived as {len(arrived)} bytes, {arrived[:60]!r} …",
            wanted=f"the bytes that were sent, {frame.join()[:60]!r} …",
            look=_READING,
        )

    @case()
    async def test_acks_before_the_handler_ends(self, stage: RequestStage) -> None:
        """The ack does not wait for the handler, which may run for minutes."""
        frontend, worker = await stage.frontend(), await stage.worker()
        over = asyncio.Event()
        handlers: list[asyncio.Task[bool]] = []
        worker.on_accept = lambda _: handlers.append(asyncio.create_task(over.wait()))
        try:
            await frontend.send(worker, within=5.0)
        finally:
            over.set()
            await asyncio.gather(*handlers)

    @case(priority=3)
    async def test_acks_after_accept(self, stage: RequestStage) -> None:
        """The ack comes after accept has returned, never before."""
        worker = await stage.outside()
        frontend = await stage.frontend()
        await worker.do("takes", seconds=0.3)
        await frontend.send(worker, Frame(b"{}", b"slow"))
        loop = asyncio.get_running_loop()
        returned = loop.time()
        await stage.until(lambda: worker.got, "the frame")
        check(
            worker.got[0].at <= returned,
            did=f"send returned {worker.got[0].at - returned:.3f} s before accept did",
            wanted="the ack is written when accept has returned",
            look="the order of `accept(delivery)` and the ack in the listener",
        )

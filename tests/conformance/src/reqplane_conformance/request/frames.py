"""Frames arrive as the bytes that were sent, whatever their size, and within the limits of both sides."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from reqplane.errors import DeliveryUnknown, FrameTooLarge, RequestRefused
from reqplane.model import Body
from reqplane.wire.frame import Frame

from reqplane_conformance.case import case
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import RequestStage, Worker
from reqplane_conformance.verdict import Nonconformance, check, expected, fail

READING = "the listener's code that reads a frame, and `send`, which writes `frame.buffers` one by one"
_KIB, _MIB = 1024, 1024 * 1024
_MOST = 17 * _MIB
"""More than three bytes can say."""
_SIZES = (1, 2, 1023, 4 * _KIB, 64 * _KIB - 1, 64 * _KIB, 64 * _KIB + 1, 256 * _KIB, _MIB, _MOST)
_LIMIT = 64 * _KIB
_LIKE_A_WIRE = (
    b"\r\n\r\n",
    b"\n.\n",
    b"\0" * 64,
    b"\xff" * 64,
    b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PUB subject 5\r\nhello\r\nMSG subject 1 5\r\nhello\r\n",
    b'{"id": "\\u0000"}',
    Frame(b"{}", b"a frame in a frame").join(),
)
"""What transports use to tell one frame from the next."""


def noise(size: int) -> bytes:
    """Bytes of which no two pieces are alike, so that nothing can be missing or swapped unseen."""
    return hashlib.shake_128(b"%d" % size).digest(size)


def _middle(body: bytes) -> memoryview:
    return memoryview(body)[1:-1]


def check_arrived(worker: Worker, frame: Frame, others: Sequence[Worker] = ()) -> None:
    """The last frame that was accepted is this one; `others` are those who might have got it instead."""
    __tracebackhide__ = True
    _check_nobody_else(worker, frame, [other for other in others if other is not worker])
    check(
        worker.got,
        did=f"send returned for a frame of {len(frame)} bytes, and accept had not been called",
        wanted="the ack comes when accept has returned",
        look="what the listener does between reading a frame and writing its ack",
        blame="delivery.acks_after_accept",
    )
    sent, arrived = frame.join(), worker.got[-1].frame
    if arrived != sent:
        fail(
            f"a frame of {len(sent)} bytes arrived as {len(arrived)} bytes, {_difference(sent, arrived)}",
            "the bytes that were sent, all of them and nothing else",
            READING,
        )


def _check_nobody_else(worker: Worker, frame: Frame, others: Sequence[Worker]) -> None:
    __tracebackhide__ = True
    for other in others:
        together = other.host is worker.host
        check(
            frame.join() not in other.frames,
            did=f"a frame for {_name(worker)} was accepted by {_name(other)}, "
            f"in {'the same' if together else 'another'} process",
            wanted="a frame reaches the worker and the endpoint that it was sent to, and no other",
            look="what a target holds, and how the listener finds the accept of a frame's endpoint",
            blame="delivery.two_endpoints" if together else "delivery.two_workers",
        )


def _name(worker: Worker) -> str:
    return f"{worker.endpoint}/{worker.instance_id}"


def _difference(sent: bytes, arrived: bytes) -> str:
    shorter = min(len(sent), len(arrived))
    first = next((at for at in range(shorter) if sent[at] != arrived[at]), shorter)
    before, after = sent[first : first + 20], arrived[first : first + 20]
    return f"different from byte {first} on: {before!r} … became {after!r} …"


class FrameCases(RequestSuite, suite=True):
    """What arrives is what was sent."""

    group = "delivery"

    @case(priority=1)
    async def test_byte_for_byte(self, stage: RequestStage) -> None:
        """A frame arrives as the bytes that were sent, every value of a byte among them."""
        frontend, worker = await stage.frontend(), await stage.worker()
        try:
            frame = await frontend.deliver(worker, stage.frame(bytes(range(256))))
        except Nonconformance as error:
            await asyncio.sleep(0.3)  # was it only too early?
            with suppress(Nonconformance):
                await frontend.deliver(worker)
                error.blame = "delivery.ready_when_listen_returns"
            raise
        check_arrived(worker, frame)

    @case(priority=3)
    async def test_nothing_in_a_frame_means_anything(self, stage: RequestStage) -> None:
        """A frame is opaque: line breaks, zeros, protocols and other frames in it are only bytes."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for body in _LIKE_A_WIRE:
            check_arrived(worker, await frontend.deliver(worker, stage.frame(body)))

    @pytest.mark.parametrize("header", [0, 1, 60 * _KIB])
    @case(priority=3)
    async def test_header_only(self, stage: RequestStage, header: int) -> None:
        """A frame without a body arrives, and so does one without anything but its prefix."""
        frontend, worker = await stage.frontend(), await stage.worker()
        check_arrived(worker, await frontend.deliver(worker, Frame(noise(header))))

    @pytest.mark.parametrize("size", _SIZES)
    @case(within=20.0, priority=3)
    async def test_every_size(self, stage: RequestStage, size: int) -> None:
        """Bodies of 1 byte up to what `max_frame_bytes` allows, or 17 MiB, arrive whole."""
        frontend, worker = await stage.frontend(), await stage.worker()
        most = min(_MOST, frontend.transport.max_frame_bytes) - 64  # and the head of the frame
        size = min(size, most)
        check_arrived(worker, await frontend.deliver(worker, stage.frame(noise(size))))

    @pytest.mark.parametrize("kind", [bytearray, memoryview, _middle])
    @case()
    async def test_any_kind_of_bytes(self, stage: RequestStage, kind: Callable[[bytes], Body]) -> None:
        """A body may be bytes, a bytearray or a memoryview, of a part of something larger too."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for size in (2, 3, 100, 300 * _KIB):
            frame = Frame(b"{}", kind(noise(frontend.fitting(size))))
            check_arrived(worker, await frontend.deliver(worker, frame))

    @case()
    async def test_one_byte_more_is_too_large(self, stage: RequestStage) -> None:
        """The largest frame that `max_frame_bytes` allows arrives; one byte more is FrameTooLarge, unsent."""
        frontend = await stage.frontend(max_frame_bytes=_LIMIT)
        worker = await stage.worker(max_frame_bytes=_LIMIT)
        most = frontend.transport.max_frame_bytes
        check(
            0 < most <= _LIMIT,
            did=f"max_frame_bytes is {most} where Host.limits.max_frame_bytes is {_LIMIT}",
            wanted="what Host.limits says, or less where the transport can't carry that",
            look="`max_frame_bytes`, and what `open` takes from its host",
        )
        check_arrived(worker, await frontend.deliver(worker, _frame_of(most)))
        with expected(
            FrameTooLarge,
            when=f"for a frame of {most + 1} bytes where max_frame_bytes is {most}",
            look="the beginning of `send`: the size is checked before anything is written",
        ) as caught:
            await frontend.send(worker, _frame_of(most + 1))
        error = caught.error
        assert isinstance(error, FrameTooLarge)
        check(
            (error.size, error.limit) == (most + 1, most),
            did=f"FrameTooLarge told the size {error.size} and the limit {error.limit}",
            wanted=f"the size of the frame, {most + 1}, and max_frame_bytes, {most}",
            look="the arguments of FrameTooLarge",
        )
        await frontend.deliver(worker)
        check(
            not _longer(worker, most),
            did="a frame that was FrameTooLarge arrived all the same",
            wanted="NotDelivered means that no worker has accepted it: it is sent again elsewhere",
            look="the beginning of `send`: the size is checked before anything is written",
        )

    @pytest.mark.parametrize("more", [1, _MIB])
    @case()
    async def test_the_worker_keeps_its_own_limit(self, stage: RequestStage, more: int) -> None:
        """A worker whose limit is less than its sender's does not accept what is above it, and lives on."""
        frontend = await stage.frontend()
        most = frontend.transport.max_frame_bytes
        limit = min(_LIMIT, most // 2)
        worker = await stage.worker(max_frame_bytes=limit)
        look = "the listener, where it learns a frame's size: compare it with Host.limits.max_frame_bytes"
        frame = _frame_of(min(limit + more, most))
        with expected(
            FrameTooLarge,
            RequestRefused,
            DeliveryUnknown,
            when=f"for {len(frame)} bytes to a worker that takes {limit}",
            look=look,
        ):
            await frontend.send(worker, frame)
        check_arrived(worker, await frontend.deliver(worker, when="after one that was too large", look=look))
        check(
            not _longer(worker, limit),
            did=f"a worker whose limit is {limit} bytes accepted a frame of {len(frame)}",
            wanted="sizes are checked on both sides, before anything is allocated",
            look=look,
        )


def _longer(worker: Worker, most: int) -> list[bytes]:
    return [frame for frame in worker.frames if len(frame) > most]


def _frame_of(size: int) -> Frame:
    """A frame that has so many bytes in all."""
    return Frame(b"{}", noise(size - len(Frame(b"{}"))))

"""Frames on their way to one worker: two POSTs at a time, and what comes meanwhile shares the next.

A POST costs far more than the frame in it, on both sides, so under load frames gather.  Alone nothing
waits: a frame goes at once while fewer than two POSTs are under way.  Only workers that announce it in
their record get several frames in one POST.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable
from typing import Any

from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError, WireError
from reqplane.interfaces import Timer, Timers
from reqplane.model import Headers
from reqplane.wire.frame import Frame

from reqplane_http import batch
from reqplane_http.answers import verdict
from reqplane_http.exchange import Exchange, settle_as

_AT_ONCE = 2
"""POSTs to one worker at a time; a third gains nothing."""
_ALONE_FROM = 64 * 1024
"""A frame of this size neither waits for others nor makes them wait."""
_HEADROOM = 1024
"""What a frame's headers may take in a batch, roughly; large ones only make a batch somewhat larger."""


class Waiting(asyncio.Future[None]):
    """One frame that shares a POST, or waits to; done at its ack."""

    def __init__(self, frame: Frame, headers: Headers, address: str, limit: str) -> None:
        super().__init__()
        self.frame, self.headers = frame, headers
        self.size = len(frame)
        self.address = address
        self.limit = limit
        self.post: Exchange | None = None  # what carries it; None: it waits
        self.until = 0.0
        self.timer: Timer | None = None

    def cancel(self, msg: Any = None) -> bool:
        self._disarm()
        return super().cancel(msg)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def settle(self, refusal: batch.Refusal | None) -> None:
        """Its part of the POST's answer is here."""
        self._disarm()
        if self.done():
            return
        if refusal is None:
            self.set_result(None)
        else:
            self.set_exception(verdict(200, *refusal, self.size, self.address))

    def fail(self, error: RequestError) -> None:
        self._disarm()
        if not self.done():
            self.set_exception(error)

    def send_by(self, by_http1: Callable[[Frame, Headers, float], asyncio.Future[None]]) -> None:
        """It goes another way; the POST that carried it has taken nothing."""
        self._disarm()
        if self.done():
            return
        instead = by_http1(self.frame, self.headers, self.until)

        def tell(_: asyncio.Future[None]) -> None:
            if not self.done() and not instead.cancelled():
                settle_as(self, instead)

        instead.add_done_callback(tell)
        self.add_done_callback(lambda _: instead.cancel())

    def expire(self) -> None:
        """The time is up."""
        post = self.post
        if post is None:
            self._unsent(f"it did not answer the frames before this one {self.limit}")
        elif post.stream:
            why = f"no ack from {self.address} {self.limit}"
            self.fail(DeliveryUnknown("timed_out", why, transport="http", address=self.address))
        else:
            self._unsent(f"no {post.lacks} {self.limit}")
            if isinstance(post, Batch):
                post.dissolve()

    def _unsent(self, why: str) -> None:
        self.fail(CannotConnect(why, transport="http", address=self.address))


class Batch(Exchange):
    """One POST with several frames.  Whatever becomes of it becomes of each of them."""

    keep = batch.MOST_BYTES

    def __init__(
        self, address: str, block: bytes, frames: list[Waiting], put_back: Callable[[list[Waiting]], None]
    ) -> None:
        pieces: list[Any] = []
        for one in frames:
            pieces += batch.pack(one.frame, one.headers)
            one.post = self
        super().__init__(address, block, [b"".join(pieces)])
        self._frames = frames
        self._put_back = put_back
        self.by_http1: Callable[[Frame, Headers, float], asyncio.Future[None]] | None = None

    def only_http1(self, why: str) -> None:
        """One by one: who speaks HTTP/1.1 only has not announced that it takes several at once."""
        if self.by_http1 is None or self.done():
            self.unreachable(why)
            return
        self.release()
        for frame in self._frames:
            frame.send_by(self.by_http1)
        self.set_result(None)

    def dissolve(self) -> None:
        """Nothing is sent yet, and one of the frames must not be any more: the others gather anew."""
        if self.cancel():
            self._put_back([frame for frame in self._frames if not frame.done()])

    def settle(self) -> None:
        if self.status != 200 or self.left:
            self.fail(self._verdict())
            return
        try:
            verdicts = batch.unpack_answer(self.body, len(self._frames))
        except WireError as error:
            why = f"{self.address} answered a batch with something else: {error}"
            self.fail(DeliveryUnknown("gateway", why, status=200, transport="http", address=self.address))
            return
        for frame, one in zip(self._frames, verdicts, strict=True):
            frame.settle(one)
        self.set_result(None)

    def _verdict(self) -> RequestError:
        """A worker's refusal of the whole POST stands for each frame; anything else may have been it."""
        error = verdict(self.status, self.refusal_code(), self.text(), self.size, self.address)
        if self.refusal_code() is not None:
            return error
        return DeliveryUnknown(
            "gateway", error.problem, status=self.status, transport="http", address=self.address
        )

    def fail(self, error: RequestError) -> None:
        self.release()
        if self.done():
            return
        for frame in self._frames:
            frame.fail(copy.copy(error))  # each caller writes its own request into it
        self.set_result(None)


class Lane:
    """The frames to one worker.  `post` sends a frame alone, `submit` any exchange.

    `by_http1` sends a frame to a peer that turned out to speak nothing else.
    """

    def __init__(
        self,
        address: str,
        block: bytes,
        post: Callable[[Frame, Headers, float, str], Exchange],
        submit: Callable[[Exchange], None],
        by_http1: Callable[[Frame, Headers, float], asyncio.Future[None]] | None,
        timers: Timers,
    ) -> None:
        self._address, self._block = address, block
        self._post, self._submit, self._timers = post, submit, timers
        self._by_http1 = by_http1
        self._waiting: deque[Waiting] = deque()
        self._under_way = 0

    def send(self, frame: Frame, headers: Headers, until: float, limit: str) -> asyncio.Future[None]:
        """Send a frame now, or with those that wait."""
        if len(frame) >= _ALONE_FROM:
            return self._post(frame, headers, until, limit)
        if self._under_way < _AT_ONCE and not self._waiting:
            return self._alone(frame, headers, until, limit)
        waiting = Waiting(frame, headers, self._address, limit)
        waiting.until = until
        waiting.timer = self._timers.at(until, waiting.expire)
        self._waiting.append(waiting)
        return waiting

    def _alone(self, frame: Frame, headers: Headers, until: float, limit: str) -> Exchange:
        exchange = self._post(frame, headers, until, limit)
        self._under_way += 1
        exchange.add_done_callback(self._done)
        return exchange

    def _done(self, _: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        while self._waiting and self._under_way < _AT_ONCE:
            self._next()

    def _next(self) -> None:
        frames = self._gather()
        if len(frames) == 1:
            self._join(frames[0])
        elif frames:
            exchange = Batch(self._address, self._block, frames, self._put_back)
            self._under_way += 1
            exchange.add_done_callback(self._done)
            exchange.limit = frames[0].limit
            exchange.by_http1 = self._by_http1
            exchange.timer = self._timers.at(max(one.until for one in frames), exchange.expire)
            self._submit(exchange)

    def _gather(self) -> list[Waiting]:
        """Those whose turn it is; nobody waits for one that is done, so it is not sent."""
        frames: list[Waiting] = []
        room = batch.MOST_BYTES
        while self._waiting and len(frames) < batch.MOST_FRAMES:
            size = self._waiting[0].size + _HEADROOM
            if frames and size > room:
                break
            one = self._waiting.popleft()
            if not one.done():
                frames.append(one)
                room -= size
        return frames

    def _put_back(self, frames: list[Waiting]) -> None:
        """It is their turn again."""
        self._waiting.extendleft(reversed(frames))

    def _join(self, waiting: Waiting) -> None:
        """A lone frame is an ordinary POST; its fate is that of the one who waits."""
        exchange = self._alone(waiting.frame, waiting.headers, waiting.until, waiting.limit)
        waiting.post = exchange

        def tell(_: asyncio.Future[Any]) -> None:
            error = None if exchange.cancelled() else exchange.exception()
            if isinstance(error, RequestError):
                waiting.fail(error)
            else:
                waiting.settle(None)

        exchange.add_done_callback(tell)
        waiting.add_done_callback(lambda _: exchange.cancel())

"""One frame on its way by HTTP/1.1, in an httpx request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import httpx
from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError
from reqplane.interfaces import Timer
from reqplane.model import Headers
from reqplane.wire.frame import Frame
from reqplane.wire.trace import REFUSAL

from reqplane_http.answers import verdict
from reqplane_http.blocks import fits
from reqplane_http.reason import root_of
from reqplane_http.target import Target

_PIECE = 256 * 1024
"""Bytes that are handed to the connection at once."""
_MOST_OF_ANSWER = 64 * 1024
"""Bytes of an answer's body that are read; of a longer one the rest is not."""


class Upload(httpx.AsyncByteStream):
    """A frame as the body of a request, which knows whether all of it is gone.

    It is handed over in pieces, the next when the connection has taken the one before.  A worker accepts a
    frame only when all of it is there: until the last piece is handed over it was surely not accepted.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.begun = False  # the head is on its way
        self.complete = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        left = len(self._frame)
        for buffer in self._frame.buffers:
            for start in range(0, len(buffer), _PIECE):
                piece = buffer if len(buffer) <= _PIECE else memoryview(buffer)[start : start + _PIECE]
                left -= len(piece)
                self.complete = not left
                yield cast(bytes, piece)  # any buffer will do


class Http1Post(asyncio.Future[None]):
    """Done at the ack, or failed with the error that the answer stands for.

    The exchange itself is a task, which ends a little later.  Cancelling the future, or the end of its time,
    cancels the task, and that closes the connection.
    """

    def __init__(self, target: Target, frame: Frame, headers: Headers) -> None:
        super().__init__()
        self.address = target.address
        self.size = len(frame)
        self.limit = ""  # what the timer stands for: "within 5 s"
        self.timer: Timer | None = None
        self.task: asyncio.Task[None] | None = None
        self._upload = Upload(frame)
        fields = [
            ("host", target.address),
            ("content-type", "application/octet-stream"),
            ("content-length", str(self.size)),
            *((name, value) for name, value in headers.items() if fits(value)),
        ]
        self._request = httpx.Request("POST", target.url, headers=fields, stream=self._upload)

    async def exchange(self, line: httpx.AsyncBaseTransport) -> bool:
        """Send the frame and settle.  True: the connection can be used again.  Raises CancelledError only."""
        try:
            answer = await line.handle_async_request(self._request)
            try:
                return await self._settle(answer)
            finally:
                await answer.aclose()
        except Exception as error:
            self._lost(error)
            return False
        finally:
            self._disarm()

    async def _settle(self, answer: httpx.Response) -> bool:
        if answer.status_code == 202 and self._upload.complete:
            if not self.done():
                self.set_result(None)
            return (await _read(answer))[1]
        body, whole = await _read(answer)
        text = body.decode("utf-8", "replace").rstrip("\n")
        self.fail(verdict(answer.status_code, answer.headers.get(REFUSAL), text, self.size, self.address))
        return whole and self._upload.complete

    def _lost(self, error: Exception) -> None:
        """No answer came."""
        if self._upload.complete:
            self.lost(f"the connection to {self.address} was lost: {root_of(error)}")
        else:
            self.unreachable(root_of(error))

    def lost(self, why: str) -> None:
        self.fail(DeliveryUnknown("connection_lost", why, transport="http", address=self.address))

    def unreachable(self, why: str) -> None:
        """It was surely not accepted."""
        self.fail(CannotConnect(why, transport="http", address=self.address))

    def fail(self, error: RequestError) -> None:
        if not self.done():
            self.set_exception(error)

    def expire(self) -> None:
        """The time is up.  Also ends an exchange whose answer never ends."""
        if self._upload.complete:
            self.timed_out(self.limit)
        elif self.task is None:
            self.unreachable(f"no free connection {self.limit}")
        elif not self._upload.begun:
            self.unreachable(f"no connection {self.limit}")
        else:
            self.unreachable(f"it did not take the whole request {self.limit}")
        self._leave()

    def timed_out(self, when: str) -> None:
        why = f"no ack from {self.address} {when}"
        self.fail(DeliveryUnknown("timed_out", why, transport="http", address=self.address))

    def close(self) -> None:
        """The transport is being closed."""
        if self._upload.complete:
            self.lost("the transport was closed")
        else:
            self.unreachable("the transport was closed")
        self._leave()

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self._leave()
        return super().cancel(msg)

    def _leave(self) -> None:
        self._disarm()
        if self.task is not None:
            self.task.cancel()

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


async def _read(answer: httpx.Response) -> tuple[bytes, bool]:
    """The answer's body as far as it matters, and whether that was all of it."""
    body = b""
    try:
        async with aclosing(cast("AsyncGenerator[bytes]", answer.aiter_raw())) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) >= _MOST_OF_ANSWER:
                    return body[:_MOST_OF_ANSWER], False
    except httpx.TransportError:  # the status is here, and counts
        return body, False
    return body, True

"""One POST under way: the bytes that are still to be sent, and the future of its fate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError
from reqplane.interfaces import Timer
from reqplane.model import Body
from reqplane.wire.trace import REFUSAL

from reqplane_http.answers import verdict

if TYPE_CHECKING:
    from reqplane_http.connection import Connection

_REFUSAL = REFUSAL.encode()


class Exchange(asyncio.Future[Any]):
    """A request and its answer.

    It is the future that the caller awaits, so a request costs no task and no callback: cancelling it
    resets its stream at once.  Its timer runs until the stream has ended, even when the future is done.
    """

    early = False
    """Settle on a 202's header, without waiting for the end of the answer."""
    keep: int | None = None
    """How many bytes of the answer's body to wait for; None: all."""
    method = b"POST"
    fruitless = 0
    """How often it was sent for nothing."""
    lacks = "connection"
    """What it waits for while it has no stream."""

    def __init__(self, address: str, block: bytes, buffers: Sequence[Body]) -> None:
        super().__init__()
        self.address = address
        self.block = block
        self.buffers: Sequence[Body] = buffers
        self.left = self.size = sum(map(len, buffers))
        self._whole = buffers  # until the end: it may have to be sent again
        self.connection: Connection | None = None  # None: there is none yet
        self.stream = 0  # 0: its HEADERS have not been written
        self.timer: Timer | None = None
        self.limit = ""  # what the timer stands for: "within 5 s"
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    def take(self, most: int) -> Body:
        """The next bytes of the body, at most `most` and usually as many."""
        if most >= self.left:
            self.left = 0
            rest, self.buffers = self.buffers, ()
            return rest[0] if len(rest) == 1 else b"".join(rest)
        first, *others = self.buffers
        view = memoryview(first)
        piece, rest = view[:most], view[most:]
        self.left -= len(piece)
        self.buffers = [rest, *others] if len(rest) else others
        return piece

    def settle(self) -> None:
        """The answer is here."""
        raise NotImplementedError

    def refusal_code(self) -> str | None:
        """The code of a worker's refusal; None: the answer is not one."""
        return next((value.decode("latin-1") for name, value in self.headers if name == _REFUSAL), None)

    def text(self) -> str:
        """The answer's body."""
        return self.body.decode("utf-8", "replace").rstrip("\n")

    def fail(self, error: RequestError) -> None:
        """It ends without an answer."""
        self.release()
        if not self.done():
            self.set_exception(error)

    def rewind(self) -> None:
        """Be as if nothing of it had been sent."""
        self.buffers, self.left = self._whole, self.size
        self.connection, self.stream = None, 0

    def lost(self, why: str) -> None:
        """The connection is gone, or its stream, after the request had been sent."""
        self.fail(DeliveryUnknown("connection_lost", why, transport="http", address=self.address))

    def unreachable(self, why: str) -> None:
        """It was surely not accepted."""
        self.fail(CannotConnect(why, transport="http", address=self.address))

    def only_http1(self, why: str) -> None:
        """It was surely not accepted, since the peer does not speak HTTP/2, but HTTP/1.1."""
        self.unreachable(why)

    def release(self) -> None:
        """Let go of the frame and the timer."""
        self.buffers, self._whole, self.left = (), (), 0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self._leave()
        return super().cancel(msg)

    def expire(self) -> None:
        """The time is up.  Also ends a stream whose answer never ends."""
        self._leave()
        if self.stream:
            self.timed_out(self.limit)
        else:
            self.unreachable(f"no {self.lacks} {self.limit}")

    def timed_out(self, when: str) -> None:
        why = f"no ack from {self.address} {when}"
        self.fail(DeliveryUnknown("timed_out", why, transport="http", address=self.address))

    def _leave(self) -> None:
        self.release()
        if self.connection is not None:
            self.connection.abandon(self)


class Post(Exchange):
    """A frame on its way: done at the ack, or failed with the error that the answer stands for."""

    early = True
    keep = 64 * 1024
    by_http1: tuple[Callable[..., asyncio.Future[None]], *tuple[Any, ...]] | None = None
    """What sends the frame by HTTP/1.1 instead, with its arguments: no closure a request.  None: nothing."""
    _instead: asyncio.Future[None] | None = None

    def only_http1(self, why: str) -> None:
        if self.by_http1 is None or self.done():
            self.unreachable(why)
            return
        send, *arguments = self.by_http1
        self.connection = None
        self.release()
        self._instead = send(*arguments)
        self._instead.add_done_callback(self._done_instead)

    def release(self) -> None:
        self.by_http1 = None
        super().release()

    def _done_instead(self, other: asyncio.Future[None]) -> None:
        if not self.done() and not other.cancelled():
            settle_as(self, other)

    def cancel(self, msg: Any = None) -> bool:
        if self._instead is not None:
            self._instead.cancel()
        return super().cancel(msg)

    def settle(self) -> None:
        if self.status == 202 and not self.left:
            self.set_result(None)
            return
        error = verdict(self.status, self.refusal_code(), self.text(), self.size, self.address)
        self.set_exception(error)


def settle_as(future: asyncio.Future[None], other: asyncio.Future[None]) -> None:
    """Let a future's outcome be that of another one."""
    error = other.exception()
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class AnyRequest(Exchange):
    """Any request: its result is (status, headers, body)."""

    def settle(self) -> None:
        self.set_result((self.status, self.headers, self.body))

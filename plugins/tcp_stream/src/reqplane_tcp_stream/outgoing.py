"""Requests that are streams themselves, at the frontend's end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from reqplane.errors import FrameTooLarge
from reqplane.interfaces import Timer
from reqplane.model import Body, ConnectionInfo, Control, Event

from reqplane_tcp_stream.pending import Carrier, PendingTcpStream

if TYPE_CHECKING:
    from reqplane_tcp_stream.subjects import Subjects


class Sink(Protocol):
    """The connection that a request's items go out by; `number` is the stream's on it."""

    @property
    def writable(self) -> bool:
        """The socket takes more."""
        ...

    @property
    def largest(self) -> int:
        """The bytes of the largest item that both sides take."""
        ...

    @property
    def has_credit(self) -> bool:
        """The worker says how much it takes; else only the socket does."""
        ...

    def request_item(self, number: int, body: Body) -> None:
        """Send one."""

    def request_end(self, number: int) -> None:
        """Say that the request is whole."""

    def request_cut(self, number: int, control: Control) -> None:
        """No more of it is sent, by STOP or KILL; harmless after its end."""


class SendingTcpStream(PendingTcpStream):
    """One attempt whose request is a stream too."""

    __slots__ = (
        "_credit",
        "_cut",
        "_early",
        "_largest",
        "_late",
        "_ready",
        "_request_key",
        "_sink",
        "_whole",
    )

    def __init__(
        self,
        subjects: Subjects,
        key: bytes,
        request_key: bytes,
        info: ConnectionInfo,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(subjects, key, info, loop)
        self._request_key = request_key
        self._largest = subjects.host.limits.max_frame_bytes
        self._credit: int | None = subjects.window  # None: there is none on this wire
        self._sink: Sink | None = None
        self._early: list[bytes] = []  # items, before there is a sink
        self._whole = False
        self._cut: Control | None = None  # what ended the request before it was whole
        self._late: Timer | None = None
        self._ready: asyncio.Future[None] | None = None

    # ── the core's side ──

    def write(self, item: Body) -> bool:
        size = len(item)
        if size > self._largest:
            raise FrameTooLarge(
                size, self._largest, "the smaller DYN_MAX_FRAME_BYTES of worker and frontend sets the limit"
            )
        if not self._wanted:
            return False
        if self._sink is None:
            self._early.append(bytes(item))
        else:
            self._sink.request_item(self._number, item)
        if self._credit is not None:
            self._credit -= size or 1
        return self._takes_more()

    @property
    def _wanted(self) -> bool:
        """More of the request may go out."""
        return not (self._over or self._whole or self._cut)

    def _takes_more(self) -> bool:
        if self._sink is None or not self._sink.writable:
            return False
        return self._credit is None or self._credit > 0

    async def ready(self) -> bool:
        while self._wanted:
            if self._takes_more():
                return True
            self._ready = self._loop.create_future()
            try:
                await self._ready
            finally:
                self._ready = None
        return False

    def end(self) -> None:
        if self._wanted:
            self._whole = True
            if self._sink is not None:
                self._sink.request_end(self._number)

    def stop(self) -> None:
        super().stop()
        self._cut_off(Control.STOP)

    # ── the connections' side ──

    def open(self, carrier: Carrier, number: int, enveloped: bool = False) -> None:
        super().open(carrier, number, enveloped)
        if carrier.sink is not None:
            self._subjects.forget_request(self._request_key)
            self.send_by(carrier.sink)
        elif self._sink is None:
            host = self._subjects.host
            limit = host.limits.call_home_timeout
            self._late = host.timers.at(self._loop.time() + limit, self._never_came)

    def _never_came(self) -> None:
        self._end(
            f"the worker opened the connection of the answer and not that of the request within "
            f"{self._subjects.host.limits.call_home_timeout:g} s (DYN_CALL_HOME_TIMEOUT)"
        )

    def send_by(self, sink: Sink) -> None:
        """From now on items go out, and first those that have waited for this."""
        self._cancel_timer()
        self._sink, self._largest = sink, min(sink.largest, self._largest)
        if not sink.has_credit:
            self._credit = None
        early, self._early = self._early, []
        for item in early:
            if len(item) > self._largest:
                self._end(f"an item of {len(item)} bytes was sent, the worker takes {self._largest}")
                return
            sink.request_item(self._number, item)
        if self._whole:
            sink.request_end(self._number)
        elif self._cut is not None:
            sink.request_cut(self._number, self._cut)
        self.wake()

    def request_lost(self) -> None:
        """The connection of the request is gone; what that means for the answer, the answer says."""
        self._cut_off(Control.KILL)

    def credit(self, amount: int) -> None:
        if self._credit is not None:
            self._credit += amount
            self.wake()

    def wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def finish(self, event: Event) -> None:
        if self._over:
            return
        super().finish(event)
        self._cancel_timer()
        self._subjects.forget_request(self._request_key)
        self._cut_off(Control.KILL)

    def _cut_off(self, control: Control) -> None:
        """Send no more of the request."""
        if self._cut is None or control is Control.KILL:
            self._cut = control
            if self._sink is not None:
                self._sink.request_cut(self._number, control)
            self.wake()

    def _cancel_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

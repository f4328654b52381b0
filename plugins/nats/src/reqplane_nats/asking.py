"""Frames on their way: each waits for its reply on one inbox that all of them share."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from typing import Any

from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, RequestError
from reqplane.interfaces import Host, Timer
from reqplane.model import Body, Headers
from reqplane.wire.frame import Frame

from reqplane_nats import block
from reqplane_nats.answers import NO_RESPONDERS, refusal_in
from reqplane_nats.link import Link
from reqplane_nats.target import Target

ROOM_FOR_HEADERS = 8 * 1024
"""Bytes of a server's max_payload that frames leave for the headers: all that are carried fit."""


class Ask(asyncio.Future[None]):
    """One frame and its fate.

    It is the future that the caller awaits: no task, and cancelling it leaves nothing behind.
    """

    timer: Timer | None = None
    sent = True
    """False while it waits for room in front of the connection."""
    strange = ""
    """A reply that is none, in words."""

    def __init__(self, asking: Asking, token: bytes, subject: str, limit: str) -> None:
        super().__init__()
        self._asking = asking
        self.token = token
        self.subject = subject
        self._limit = limit

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self._asking.forget(self)
        return super().cancel(msg)

    def fail(self, error: RequestError) -> None:
        self._asking.forget(self)
        if not self.done():
            self.set_exception(error)

    def expire(self) -> None:
        """The time is up."""
        if not self.sent:
            why = f"no room to send {self._limit}: the NATS server takes nothing"
            error = CannotConnect(why, transport="nats", address=self._asking.address)
            error.by_worker = False
            self.fail(error)
            return
        why = f"no ack from {self.subject} {self._limit}"
        if self.strange:
            why += f"; somebody replied with {self.strange}, which is none"
        self.fail(DeliveryUnknown("timed_out", why, transport="nats", address=self.subject))


class Asking:
    """All frames of this process that wait for their acks."""

    def __init__(self, host: Host, link: Link, limit: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timers = host.timers
        self._link = link
        self._limit = limit
        self._within = f"within {limit:g} s (DYN_NATS_REQUEST_TIMEOUT_SECS)"
        self._before = f"before the call's deadline (DYN_NATS_REQUEST_TIMEOUT_SECS is {limit:g} s)"
        self._most = host.limits.max_frame_bytes
        self.inbox = f"_INBOX.{os.urandom(12).hex()}."
        self._token_at = len(self.inbox)
        self._numbers = itertools.count(1)
        self._asks: dict[bytes, Ask] = {}
        self._waiting: deque[tuple[Ask, tuple[Body, ...]]] = deque()
        link.on_lost, link.on_emptied, link.on_forbidden = self._lost, self._emptied, self._forbidden
        link.subscribe(f"{self.inbox}*", "", self._answered)

    @property
    def address(self) -> str:
        return self._link.address

    @property
    def under_way(self) -> int:
        """Frames that wait for their acks."""
        return len(self._asks)

    @property
    def most(self) -> int:
        """The largest frame, in bytes."""
        most = self._link.max_payload
        return min(self._most, most - min(ROOM_FOR_HEADERS, most // 2))

    def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """Send a frame; the future is done at the ack."""
        wire = self._link.wire
        size = len(frame)
        now = self._loop.time()
        until = now + self._limit
        limit = self._within
        if deadline < until:
            until, limit = deadline, self._before
        token = b"%x" % next(self._numbers)
        ask = Ask(self, token, target.subject, limit)
        if wire is None:
            ask.fail(self._link.unreachable())
            return ask
        if headers:
            head = block.encode(headers)
            whole = size + len(head)
            line = b"%s%s %d %d\r\n%s" % (target.with_headers, token, len(head), whole, head)
        else:
            whole = size
            line = b"%s%s %d\r\n" % (target.without_headers, token, size)
        if size > self._most or whole > self._link.max_payload - ROOM_FOR_HEADERS:
            error = self._too_large(size, whole)
            if error is not None:
                ask.fail(error)
                return ask
        if until <= now:
            why = f"no ack from {target.subject} {limit}, which had passed before the frame was sent"
            ask.fail(DeliveryUnknown("timed_out", why, transport="nats", address=target.subject))
            return ask
        self._asks[token] = ask
        ask.timer = self._timers.at(until, ask.expire)
        if wire.full or self._waiting:
            ask.sent = False
            self._waiting.append((ask, (line, *frame.buffers, b"\r\n")))
        else:
            wire.write(line, *frame.buffers, b"\r\n")
        return ask

    def _too_large(self, size: int, whole: int) -> FrameTooLarge | None:
        """Beyond max_payload a server would cut the connection, and count the headers."""
        if size > self._most:
            how = "DYN_MAX_FRAME_BYTES sets the limit, on both sides"
            return FrameTooLarge(size, self._most, how, transport="nats", address=self.address)
        if size <= self.most and whole <= self._link.max_payload:
            return None
        how = (
            f"the NATS server's max_payload is {self._link.max_payload}, and the headers need room too; "
            f"raise max_payload in its configuration"
        )
        return FrameTooLarge(size, self.most, how, transport="nats", address=self.address)

    def forget(self, ask: Ask) -> None:
        """It is over."""
        self._asks.pop(ask.token, None)
        if ask.timer is not None:
            ask.timer.cancel()
            ask.timer = None

    # ── what comes back ──

    def _answered(self, subject: bytes, reply: bytes, head: bytes, payload: Body) -> None:
        ask = self._asks.get(subject[self._token_at :])
        if ask is None:
            return  # too late
        if not head and not payload:
            self.forget(ask)
            if not ask.done():
                ask.set_result(None)
            return
        status, headers = block.decode(head) if head else ("", {})
        error = refusal_in(headers, payload, ask.subject)
        if error is not None:
            ask.fail(error)
        elif status.startswith(NO_RESPONDERS) and not payload:
            why = f"nobody listens there (no responders at the NATS server {self.address})"
            ask.fail(CannotConnect(why, transport="nats", address=ask.subject))
        elif payload:
            # Not a worker's: a JetStream stream on its subject replies too.  The ack may still come.
            ask.strange = repr(bytes(payload[:80]))
        else:
            self.forget(ask)
            if not ask.done():
                ask.set_result(None)

    def _lost(self, why: str) -> None:
        """What was written may have arrived; what was not has not."""
        self._waiting.clear()
        for ask in list(self._asks.values()):
            if ask.sent:
                text = f"the connection to the NATS server {self.address} was lost: {why}"
                ask.fail(DeliveryUnknown("connection_lost", text, transport="nats", address=ask.subject))
            else:
                ask.fail(self._link.unreachable())

    def _emptied(self) -> None:
        wire = self._link.wire
        while self._waiting and wire is not None and not wire.full:
            ask, pieces = self._waiting.popleft()
            if not ask.done():
                ask.sent = True
                wire.write(*pieces)
                wire.flush()

    def _forbidden(self, subject: str, why: str) -> None:
        """The server did not pass on what was sent there."""
        for ask in [one for one in self._asks.values() if one.subject == subject]:
            ask.fail(CannotConnect(f"the NATS server: {why}", transport="nats", address=subject))

    def close(self) -> None:
        self._lost("it was closed")

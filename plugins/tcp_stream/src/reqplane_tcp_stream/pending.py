"""Subjects that are waited for, and the answers of workers that called home, as the core reads them."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from reqplane.interfaces import Host, PendingStream
from reqplane.model import Broken, ConnectionInfo, Event, Part, SharedOffer
from reqplane.wire.shared import SUBJECT_BYTES


class Carrier(Protocol):
    """The connection by which a stream's worker called home; `number` is the stream's on it."""

    def credit(self, number: int, amount: int) -> None:
        """So many bytes of items have been consumed."""

    def stop(self, number: int) -> None:
        """Ask the worker to finish early."""

    def kill(self, number: int) -> None:
        """Let the worker give up; nothing more of the stream is wanted."""


class Subjects:
    """The streams that are waited for, by the secret that lets a worker claim one, once."""

    def __init__(self, host: Host) -> None:
        limits = host.limits
        self.window = limits.stream_window_bytes
        self.offer: SharedOffer | None = SharedOffer(
            host.process, self.window, max_frame=limits.max_frame_bytes
        )
        self.address = ""
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, PendingTcpStream] = {}
        self._random = b""
        self._random_at = 0

    def expect(self, request_id: str) -> PendingTcpStream:
        """Reserve a subject for one attempt."""
        key = self._draw()
        text = key.hex()
        subject = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        info = ConnectionInfo(self.address, subject, request_id, self.offer)
        stream = self._waiting[key] = PendingTcpStream(self, key, info, self._loop)
        return stream

    def claim(self, key: bytes) -> PendingTcpStream | None:
        """Give the stream out, once."""
        return self._waiting.pop(key, None)

    def forget(self, key: bytes) -> None:
        self._waiting.pop(key, None)

    def close(self) -> None:
        for stream in list(self._waiting.values()):
            stream.close()

    def _draw(self) -> bytes:
        """A random uuid (version 4), from a stock of random bytes: one system call for 256 of them."""
        if self._random_at >= len(self._random):
            self._random, self._random_at = os.urandom(16 * 256), 0
        raw = bytearray(self._random[self._random_at : self._random_at + 16])
        self._random_at += 16
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)


def subject_key(subject: str) -> bytes | None:
    """A subject's 16 bytes; None if it is not a uuid."""
    try:
        key = bytes.fromhex(subject.replace("-", ""))
    except ValueError:
        return None
    return key if len(key) == SUBJECT_BYTES else None


class PendingTcpStream(PendingStream):
    """One attempt's answer, from its subject to its end."""

    __slots__ = (
        "_allowed",
        "_carrier",
        "_handed",
        "_key",
        "_loop",
        "_number",
        "_over",
        "_parts",
        "_received",
        "_stopped",
        "_subjects",
        "_waiter",
        "enveloped",
        "info",
        "opened",
        "started",
    )

    def __init__(
        self, subjects: Subjects, key: bytes, info: ConnectionInfo, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.info = info
        self.opened = loop.create_future()
        self.enveloped = False
        self.started = False
        """Its prologue has come."""
        self._subjects = subjects
        self._key = key
        self._loop = loop
        self._carrier: Carrier | None = None
        self._number = 0
        self._parts: list[Part] = []
        self._received = 0  # bytes of items that have come, ever
        self._handed = 0  # how many of them the application had got with the last receive
        self._allowed = subjects.window  # how many may have come before one more item may
        self._over = False
        self._stopped = False  # before the worker has called home
        self._waiter: asyncio.Future[None] | None = None

    # ── the core's side ──

    async def receive(self) -> list[Part]:
        self._give_credit()
        while not self._parts:
            if self._over:
                return [Broken("the stream has ended already")]
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        parts, self._parts = self._parts, []
        self._handed = self._received
        return parts

    def _give_credit(self) -> None:
        """What the last `receive` handed out has been consumed by now."""
        window = self._subjects.window
        amount = self._handed - self._allowed + window
        if amount * 2 >= window and not self._over and self._carrier is not None:
            self._allowed += amount
            self._carrier.credit(self._number, amount)

    def stop(self) -> None:
        if self._carrier is None:
            self._stopped = True
        elif not self._over:
            self._carrier.stop(self._number)

    def kill(self) -> None:
        self._end("it was killed here")

    def close(self) -> None:
        self._end("it was closed here")
        self.opened.cancel()

    def _end(self, reason: str) -> None:
        """Let the worker give up, now or when it calls home."""
        if self._over:
            return
        if self._carrier is None:
            self._subjects.forget(self._key)
        else:
            self._carrier.kill(self._number)
        self.finish(Broken(reason))

    # ── the connection's side ──

    def open(self, carrier: Carrier, number: int, enveloped: bool = False) -> None:
        """The worker has called home."""
        self._carrier, self._number, self.enveloped = carrier, number, enveloped
        if self._stopped:
            carrier.stop(number)
        if not self.opened.done():
            self.opened.set_result(None)

    @property
    def full(self) -> bool:
        """No more may come before the application has consumed something."""
        return self._received >= self._allowed

    def item(self, body: bytes | bytearray) -> None:
        """A plain item of a shared connection, whose worker knows its credit."""
        if self._received >= self._allowed:
            self.overrun()
            return
        self._parts.append(body)
        self._received += len(body) or 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def part(self, part: Part, size: int = 0) -> None:
        """Anything else, of which `size` bytes count against the window."""
        self._parts.append(part)
        self._received += size
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def overrun(self) -> None:
        """The worker sends what it may not, and its reader must not pay for that with memory."""
        self._end(
            f"the worker sent more than the {self._subjects.window} bytes (DYN_STREAM_WINDOW_BYTES) that may "
            f"be unread"
        )

    def finish(self, event: Event) -> None:
        """The last event; idempotent."""
        if not self._over:
            self._over = True
            self.part(event)

"""The answers of workers that called home, as the core reads them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from reqplane.interfaces import PendingStream
from reqplane.model import Broken, ConnectionInfo

from reqplane_tcp_stream.inbox import Inbox

if TYPE_CHECKING:
    from reqplane_tcp_stream.outgoing import Sink
    from reqplane_tcp_stream.subjects import Subjects


class Carrier(Protocol):
    """The connection by which a stream's worker called home; `number` is the stream's on it."""

    @property
    def sink(self) -> Sink | None:
        """What the items of a request go out by that is a stream too; None: by a connection of their own."""

    def credit(self, number: int, amount: int) -> None:
        """So many bytes of items have been consumed."""

    def stop(self, number: int) -> None:
        """Ask the worker to finish early."""

    def kill(self, number: int) -> None:
        """Let the worker give up; nothing more of the stream is wanted."""


class PendingTcpStream(Inbox, PendingStream):
    """One attempt's answer, from its subject to its end."""

    __slots__ = (
        "_carrier",
        "_key",
        "_number",
        "_stopped",
        "_subjects",
        "enveloped",
        "info",
        "opened",
        "started",
    )

    def __init__(
        self, subjects: Subjects, key: bytes, info: ConnectionInfo, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(subjects.window, loop)
        self.info = info
        self.opened = loop.create_future()
        self.enveloped = False
        self.started = False
        """Its prologue has come."""
        self._subjects = subjects
        self._key = key
        self._carrier: Carrier | None = None
        self._number = 0
        self._stopped = False  # before the worker has called home

    # ── the core's side ──

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

    def consumed(self, amount: int) -> None:
        if self._carrier is not None:
            self._carrier.credit(self._number, amount)

    def overrun(self) -> None:
        self._end(
            f"the worker sent more than the {self._window} bytes (DYN_STREAM_WINDOW_BYTES) that may be unread"
        )

    # ── its request, where that is a stream too ──

    def credit(self, amount: int) -> None:
        """The worker has consumed so much of the request."""

    def wake(self) -> None:
        """The connection takes more."""

"""What has come of a stream and is not read yet: at most a window of items, and one more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from reqplane.model import Broken, Control, Event, Part

WHY: Mapping[Control, str] = {
    Control.STOP: "the frontend wants the answer to finish early",
    Control.KILL: "the frontend gave the call up",
    Control.GONE: "the connection to the frontend was lost",
}
"""Why no more of a request comes, by what its handler is told."""


class Inbox:
    """One direction of a stream, at its reader's end.

    Subclasses say how its writer hears that there is room again, and what becomes of one that does not wait
    for that.
    """

    __slots__ = ("_allowed", "_handed", "_loop", "_over", "_parts", "_received", "_waiter", "_window")

    def __init__(self, window: int, loop: asyncio.AbstractEventLoop) -> None:
        self._window = window
        self._loop = loop
        self._parts: list[Part] = []
        self._received = 0  # bytes of items that have come, ever
        self._handed = 0  # how many of them the application had got with the last receive
        self._allowed = window  # how many may have come before one more item may
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    # ── the reader ──

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
        window = self._window
        amount = self._handed - self._allowed + window
        if amount * 2 >= window and not self._over:
            self._allowed += amount
            self.consumed(amount)

    # ── the writer ──

    @property
    def full(self) -> bool:
        """No more may come before the application has consumed something."""
        return self._received >= self._allowed

    def item(self, body: bytes | bytearray) -> None:
        """A plain item of a shared connection, whose writer knows its credit."""
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

    def finish(self, event: Event) -> None:
        """The last event; idempotent."""
        if not self._over:
            self._over = True
            self.part(event)

    # ── for subclasses ──

    def consumed(self, amount: int) -> None:
        """So many bytes of items have been consumed."""
        raise NotImplementedError

    def overrun(self) -> None:
        """The writer sends what it may not, and its reader must not pay for that with memory."""
        raise NotImplementedError

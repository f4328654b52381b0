"""One direction of a stream in memory: what its writer may send, and what its reader has not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.model import Broken, End, Part, Prologue


class Credit:
    """Bytes that a writer may send before its reader has consumed something."""

    def __init__(self, window: int) -> None:
        self.over = False
        self._left = window
        self._more = asyncio.Event()
        self._more.set()

    def spend(self, size: int) -> bool:
        """An item of this size is sent, and may be larger than what is left; False: wait before the next."""
        self._left -= size or 1  # or an endless row of empty ones would cost nothing
        if self._left <= 0:
            self._more.clear()
        return self._left > 0

    def give(self, amount: int) -> None:
        self._left += amount
        if self._left > 0:
            self._more.set()

    def end(self) -> None:
        """Nothing is sent any more, so nobody waits."""
        self.over = True
        self._more.set()

    async def ready(self) -> bool:
        """False: it is over."""
        await self._more.wait()
        return not self.over


class Inbox:
    """Parts that have come; `consumed` is told how many bytes of them the application is done with."""

    def __init__(self, consumed: Callable[[int], None]) -> None:
        self.over = False
        self._consumed = consumed
        self._parts: list[Part] = []
        self._unread = 0
        self._handed = 0
        self._came = asyncio.Event()

    def item(self, part: Part, size: int) -> None:
        self._unread += size or 1
        self.event(part)

    def event(self, part: Part) -> None:
        """A part that costs no credit."""
        if self.over:
            return
        self.over = isinstance(part, End | Broken) or (isinstance(part, Prologue) and part.error is not None)
        self._parts.append(part)
        self._came.set()

    def break_off(self, reason: str) -> None:
        """No more will come; harmless once that is so."""
        self.event(Broken(reason))

    async def receive(self) -> list[Part]:
        """As `PendingStream.receive`; what the last call gave has been consumed by now."""
        if self._handed:
            handed, self._handed = self._handed, 0
            self._consumed(handed)
        if not self._parts:
            if self.over:
                return [Broken("the stream has ended already")]
            self._came.clear()
            await self._came.wait()
        parts: list[Part]
        parts, self._parts = self._parts, []
        self._handed, self._unread = self._unread, 0
        return parts

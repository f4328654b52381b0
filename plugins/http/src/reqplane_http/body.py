"""Reads a request's body whole, within bounds of size and of time.

hypercorn has two traps here.  A request that is answered before its body has been read kills its whole
HTTP/2 connection, and every other request on it; so everything is read first, also what will be refused.
And a body may come in a byte a second for ever; so there is a deadline.  A request that breaks a bound
for good can't be answered on HTTP/2, only reset (see streams.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from reqplane.interfaces import Timers

Receive = Callable[[], Awaitable[Any]]

BODY_SECONDS = 30.0
"""How long a body may take; a frontend gives up after DYN_HTTP_REQUEST_TIMEOUT, which is less."""


class BodyTooLarge(Exception):
    """The body has more bytes than it may; `whole`: they have all been read and thrown away."""

    def __init__(self, size: int, *, whole: bool) -> None:
        super().__init__(size)
        self.size, self.whole = size, whole


class BodyTooSlow(Exception):
    """The body did not come in time."""


class CallerGone(Exception):
    """The caller went away in the middle of its request."""


class _Reading:
    """A task that waits for a body and may be told to stop."""

    __slots__ = ("cut_short", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.cut_short = False

    def cut(self) -> None:
        if not self.cut_short:
            self.cut_short = True
            self.task.cancel()


class BodyReader:
    """Reads bodies; one for a server."""

    def __init__(self, timers: Timers, limit: int) -> None:
        self._timers = timers
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._under_way: set[_Reading] = set()

    async def read(self, receive: Receive) -> bytes:
        """The whole body.  Raises BodyTooLarge, BodyTooSlow or CallerGone."""
        task = asyncio.current_task()
        assert task is not None
        reading = _Reading(task)
        timer = self._timers.at(self._loop.time() + BODY_SECONDS, reading.cut)
        self._under_way.add(reading)
        try:
            return await self._collect(receive)
        except asyncio.CancelledError:
            if not reading.cut_short:
                raise
            task.uncancel()
            raise BodyTooSlow from None
        finally:
            timer.cancel()
            self._under_way.discard(reading)

    def cut_all(self) -> None:
        """Stop waiting for the bodies that are under way."""
        for reading in list(self._under_way):
            reading.cut()

    async def _collect(self, receive: Receive) -> bytes:
        limit, size = self._limit, 0
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise CallerGone
            chunk: bytes = message.get("body", b"")
            if chunk:
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                elif size <= 2 * limit:
                    chunks.clear()
                else:
                    raise BodyTooLarge(size, whole=False)
            if not message.get("more_body", False):
                break
        if size > limit:
            raise BodyTooLarge(size, whole=True)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

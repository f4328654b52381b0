"""Reads a request's body whole, within bounds of size, of memory and of time.

hypercorn has two traps here.  A request that is answered before its body has been read kills its whole
HTTP/2 connection, and every other request on it; so everything is read first, also what will be refused.
And a body may come in a byte a second for ever; so there is a deadline, for the answer too, which a peer may
be as slow to take.  A request that breaks a bound for good can't be answered on HTTP/2, only reset (see
streams.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from reqplane.interfaces import Budget, Host

Receive = Callable[[], Awaitable[Any]]

BODY_SECONDS = 30.0
"""How long a request may take from its head until its answer is on the wire; a frontend gives up after
DYN_HTTP_REQUEST_TIMEOUT, which is less."""

_MOST_CHUNKS = 1000
"""Pieces of a body that are kept apart: one of a byte costs fifty."""


class BodyTooLarge(Exception):
    """The body has more bytes than it may; `whole`: they have all been read and thrown away."""

    def __init__(self, size: int, *, whole: bool) -> None:
        super().__init__(size)
        self.size, self.whole = size, whole


class NoRoom(Exception):
    """The process holds as many bytes of requests as it may; the body was read and thrown away."""


class CallerGone(Exception):
    """The caller went away in the middle of its request."""


class Intakes:
    """The requests that are being read or answered; one for a server."""

    def __init__(self, host: Host) -> None:
        self.timers = host.timers
        self.budget: Budget = host.inflight
        self.loop = asyncio.get_running_loop()
        self.under_way: set[Intake] = set()

    def begin(self) -> Intake:
        """The request that the current task serves."""
        return Intake(self)

    def cut_all(self) -> None:
        """Stop waiting for the bodies that are under way."""
        for intake in list(self.under_way):
            if not intake.answering:
                intake.cut()


class Intake:
    """One request: its deadline, and the bytes that it holds.  The task that serves it calls `end`."""

    __slots__ = (
        "_all",
        "_budget",
        "_chunks",
        "_keeps",
        "_task",
        "_timer",
        "answering",
        "cut_short",
        "held",
    )

    def __init__(self, intakes: Intakes) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._all = intakes
        self._budget = intakes.budget
        self._task = task
        self._timer = intakes.timers.at(intakes.loop.time() + BODY_SECONDS, self.cut)
        self._chunks: list[bytes] = []
        self._keeps = True
        self.held = 0
        self.answering = False
        self.cut_short = False
        intakes.under_way.add(self)

    def cut(self) -> None:
        """The time is over: cancel the task, which learns from `was_cut` what it was."""
        if not self.cut_short:
            self.cut_short = True
            self._task.cancel()

    def was_cut(self) -> bool:
        """Whether the task's cancellation was the deadline's; it then goes on uncancelled."""
        if self.cut_short:
            self._task.uncancel()
        return self.cut_short

    def end(self) -> None:
        self._timer.cancel()
        self._all.under_way.discard(self)
        self.release()

    def release(self) -> None:
        """Give back what the body holds of the process's budget."""
        if self.held:
            self._budget.give(self.held)
            self.held = 0

    async def read(self, receive: Receive, most: int, *, keep: bool) -> bytes:
        """The whole body, of at most `most` bytes; one that need not be kept is thrown away.

        Raises BodyTooLarge, NoRoom or CallerGone.
        """
        size = 0
        self._keeps = keep
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise CallerGone
            chunk: bytes = message.get("body", b"")
            if chunk:
                size += len(chunk)
                if size > 2 * most:
                    raise BodyTooLarge(size, whole=False)
                if self._keeps:
                    self._keep(chunk, size <= most)
            if not message.get("more_body", False):
                break
        if size > most:
            raise BodyTooLarge(size, whole=True)
        if keep and not self._keeps:
            raise NoRoom
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def _keep(self, chunk: bytes, allowed: bool) -> None:
        """Keep a piece; where that is not possible, none."""
        if allowed and self._reserve(len(chunk)):
            self._chunks.append(chunk)
            if len(self._chunks) == _MOST_CHUNKS:
                self._chunks = [b"".join(self._chunks)]
        else:
            self._keeps = False
            self._chunks.clear()
            self.release()

    def _reserve(self, size: int) -> bool:
        """Hold `size` bytes more.  A request that is alone may hold any number, so it is asked for as one."""
        if self._budget.take(size):
            self.held += size
            return True
        size += self.held
        self.release()
        if self._budget.take(size):
            self.held = size
            return True
        return False

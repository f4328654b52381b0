"""A frontend's connection to one address: requests out, answers in, in the same order.

What one turn of the loop writes goes out in one piece, except that the first request of an idle connection
goes at once.  What the socket does not take yet waits in front of it and can still be withdrawn; what was
begun is written to its end, since there is no other way to tell the worker where the next request begins.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Protocol, cast

from reqplane.interfaces import Timer, Timers
from reqplane.model import Body

from reqplane_tcp.answers import GOODBYE, MOST_ANSWER, verdict
from reqplane_tcp.ask import Ask
from reqplane_tcp.chunk import Chunk
from reqplane_tcp.wire import LONG

_ALONE_FROM = 32 * 1024
"""Bytes of a piece that is not worth copying to save a system call."""
_SLICE = 256 * 1024
"""Bytes of a large payload that are handed to the socket at once."""
_MOST_UNSENT = 256 * 1024
"""Bytes that may wait in this process for the socket to take them."""
_LOOKS = 10
"""How often a connection is looked at within the time that an answer may take."""


class Owner(Protocol):
    """Whom a connection tells what becomes of it."""

    def retired(self, lane: Lane) -> None:
        """It takes no more requests."""
        ...

    def again(self, ask: Ask, why: str) -> None:
        """This one was surely not accepted, and may be sent once more."""
        ...


class Lane(asyncio.BufferedProtocol):
    """From before it is connected until it is lost."""

    def __init__(
        self, owner: Owner, address: str, chunk: Chunk, timers: Timers, limit: float, ttl: float
    ) -> None:
        self._owner = owner
        self._address = address
        self._chunk = chunk
        self._timers = timers
        self._loop = asyncio.get_running_loop()
        self._limit, self._ttl = limit, ttl
        self._transport: asyncio.Transport | None = None
        self._sent: deque[Ask] = deque()  # the oldest first; those that nobody waits for too
        self._waiting: OrderedDict[Ask, None] = OrderedDict()
        self._out: list[Body] = []
        self._unfinished: memoryview | None = None  # what is left of the payload that was begun
        self._gathered = 0  # how many requests the pieces in `_out` are of
        self._armed = False
        self._paused = True  # until it is connected
        self._rest = b""
        self._look: Timer | None = None
        self._idle: Timer | None = None
        self._last_due = 0.0
        self.usable = True
        """It takes requests."""
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone."""

    # ── requests ──

    @property
    def lacks(self) -> str:
        """Why what waits is not sent, in words."""
        return "no connection" if self._transport is None else "no room to send: the worker takes nothing"

    @property
    def unconnected(self) -> bool:
        return self._transport is None

    @property
    def crowded(self) -> bool:
        """What comes now has to wait."""
        return self._paused or self._unfinished is not None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, ask: Ask) -> None:
        """Send it, or let it wait.  Only while `usable`."""
        self._last_due = ask.due
        if self._look is None:
            self._look_later()
        if self._paused or self._unfinished is not None or self._waiting:
            ask.lane = self
            self._waiting[ask] = None
        else:
            self._send(ask)

    def leave(self, ask: Ask) -> None:
        """It does not wait any more."""
        self._waiting.pop(ask, None)

    def _send(self, ask: Ask) -> None:
        self._sent.append(ask)
        self._gathered += 1
        head, body = ask.pieces
        self._out.append(head)
        if len(body) < _ALONE_FROM:
            self._out.append(body)
            if not self._armed:
                self._armed = True
                self._loop.call_soon(self._end_of_turn)
                self._flush()
        else:
            self._flush()
            self._unfinished = memoryview(body)
            self._go_on()

    def _end_of_turn(self) -> None:
        if self._out:
            self._flush()
            self._loop.call_soon(self._end_of_turn)  # still busy: go on gathering for one more turn
        else:
            self._armed = False

    def _flush(self) -> None:
        """Joined, not by `writelines`: that one forgets to pause the protocol in some versions of Python."""
        out, self._out = self._out, []
        self._gathered = 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _go_on(self) -> None:
        """Write what is left of a large payload, as far as the socket takes it."""
        while self._unfinished is not None and not self._paused and self._transport is not None:
            piece, rest = self._unfinished[:_SLICE], self._unfinished[_SLICE:]
            self._unfinished = rest if len(rest) else None
            if self._transport.is_closing():
                return
            self._transport.write(piece)

    def _let_in(self) -> None:
        """Send what waits, as far as there is room."""
        self._go_on()
        while self._waiting and not self.crowded:
            ask, _ = self._waiting.popitem(last=False)
            ask.lane = None
            self._send(ask)

    # ── the connection ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if not self.usable:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(_MOST_UNSENT)
        self._paused = False
        self._let_in()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._let_in()

    def eof_received(self) -> None:
        self.give_up(f"the worker at {self._address} closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        why = f"the connection to {self._address} was lost"
        self.give_up(f"{why}: {exc}" if exc else why)
        if not self.over.done():
            self.over.set_result(None)

    def unreachable(self, why: str) -> None:
        """It could not be connected."""
        waiting, self._waiting = self._waiting, OrderedDict()
        self.give_up(why)
        for ask in waiting:
            ask.lane = None
            ask.unreachable(why)
        if not self.over.done():
            self.over.set_result(None)

    def give_up(self, why: str) -> None:
        """Close at once: what has no answer may have been accepted, what was not sent has not."""
        self.retire()
        sent, self._sent = self._sent, deque()
        unsent = self._gathered + (self._unfinished is not None)
        self._unfinished, self._gathered = None, 0
        self._out.clear()
        for _ in range(len(sent) - unsent):
            sent.popleft().lost(why)
        for ask in sent:
            self._owner.again(ask, why)
        self._send_elsewhere(why)
        self._stop()

    def retire(self) -> None:
        """Take no more requests; those that were sent may still be answered."""
        if self.usable:
            self.usable = False
            self._owner.retired(self)

    def _send_elsewhere(self, why: str) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for ask in waiting:
            ask.lane = None
            self._owner.again(ask, why)

    def _stop(self) -> None:
        for timer in (self._look, self._idle):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    # ── answers ──

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._chunk.window(self._rest)

    def buffer_updated(self, nbytes: int) -> None:
        end = len(self._rest) + nbytes
        self._rest = b""
        if not self._read(end):
            self.give_up(f"{self._address} sent what is no answer")
        elif not self.usable and not self._sent:
            self.give_up("it is not used any more")

    def _read(self, end: int) -> bool:
        """Tell all whose answers these bytes complete; False if the worker breaks the rules.

        More answers than were asked for: whoever speaks there, none of them is an answer.
        """
        chunk, view, sent = self._chunk.bytes, self._chunk.view, self._sent
        answers: list[bytes] = []
        at = 0
        while at + LONG.size <= end:
            size: int = LONG.unpack_from(chunk, at)[0]
            if size > MOST_ANSWER:
                return False
            start = at + LONG.size
            if start + size > end:
                break
            at = start + size
            answers.append(bytes(view[start:at]) if size else b"")
        self._rest = bytes(view[at:end])
        if answers and answers[-1] == GOODBYE:
            answers.pop()
            if len(answers) <= len(sent):
                self._settle(answers)
                self._leave()
                return True
        if len(answers) > len(sent):
            return False
        self._settle(answers)
        return True

    def _settle(self, answers: list[bytes]) -> None:
        next_sent = self._sent.popleft
        for text in answers:
            ask = next_sent()
            if ask.done():
                continue
            if text:
                ask.fail(verdict(text, ask.size, ask.address))
            else:
                if ask.timer is not None:
                    ask.timer.cancel()
                ask.pieces = ()
                ask.set_result(None)

    def _leave(self) -> None:
        """The worker looks at nothing more."""
        why = f"the worker at {self._address} left, and did not look at the request"
        self.retire()
        sent, self._sent = self._sent, deque()
        self._unfinished, self._gathered = None, 0
        self._out.clear()
        for ask in sent:
            self._owner.again(ask, why)
        self._send_elsewhere(why)
        self._stop()

    # ── time ──

    def _look_later(self) -> None:
        self._look = self._timers.at(self._loop.time() + self._limit / _LOOKS, self._look_now)

    def _look_now(self) -> None:
        """Let go of what is overdue; a connection whose oldest answer is overdue gets no more requests."""
        self._look = None
        now = self._loop.time()
        for queue in (self._sent, self._waiting):
            for ask in list(queue):
                if ask.due > now:
                    break
                ask.expire()
        if self._sent and self._sent[0].due <= now:
            self.retire()
            self._send_elsewhere(f"{self._address} does not answer")
        if self._sent and self._sent[-1].due <= now:
            self.give_up(f"{self._address} does not answer")
        elif self._sent or self._waiting:
            self._look_later()
        elif self._idle is None:
            self._idle = self._timers.at(self._idle_until, self._close_if_idle)

    @property
    def _idle_until(self) -> float:
        return self._last_due - self._limit + self._ttl

    def _close_if_idle(self) -> None:
        self._idle = None
        if self._sent or self._waiting:
            return  # it is being looked at
        if self._idle_until <= self._loop.time():
            self.give_up("it was idle")
        else:
            self._idle = self._timers.at(self._idle_until, self._close_if_idle)

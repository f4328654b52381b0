"""What joins two memory response transports, as a connection does."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from reqplane.errors import SettingsError
from reqplane.interfaces import Host, Timer

from reqplane_conformance.memory.network import network


class Process(Protocol):
    """Who is at an end of a line."""

    host: Host
    frozen: bool
    missed: list[Callable[[], None]]
    """What happens to it when it thaws."""


class Stream(Protocol):
    """An end of a stream."""

    def lost(self, reason: str) -> None:
        """Its line is gone."""
        ...


class Side:
    """One end of a line.  What it tells the other end arrives in order, in a later turn of the loop."""

    def __init__(self, owner: Process, ended: Callable[[Side], None]) -> None:
        self.owner = owner
        self.other: Side
        self.streams: dict[int, Any] = {}
        self.last = 0
        """The number of the stream that was opened last."""
        self.over = False
        self._ended = ended
        self._way: deque[Callable[[Side], None]] = deque()
        self._beat = min(owner.host.limits.heartbeat, owner.host.limits.stream_dead_after / 3)
        self._silent = 0
        self._pulse: Timer | None = None

    def join(self, other: Side) -> None:
        """Make a line of two ends."""
        for side, its_other in ((self, other), (other, self)):
            side.other = its_other
            side._beat_on()

    # ── telling ──

    def tell(self, act: Callable[[Side], None]) -> None:
        """Let the other end do this, unless the line is over by then."""
        if not self.over:
            self.other._way.append(act)
            later(self.other._arrive)

    def tell_stream(self, number: int, act: Callable[[Any], None]) -> None:
        """Let the other end do this to its stream of this number, if it has one."""
        self.tell(lambda side: act(side.streams[number]) if number in side.streams else None)

    def _arrive(self) -> None:
        if self.owner.frozen:
            self.owner.missed.append(self._arrive)
        elif self._way and not self.over:
            self._silent = 0
            self._way.popleft()(self)

    # ── heartbeat ──

    def _beat_on(self) -> None:
        self._pulse = self.owner.host.timers.at(asyncio.get_running_loop().time() + self._beat, self._check)

    def _check(self) -> None:
        """Say that this end is there, and give the line up when nothing has come for too long."""
        if not self.owner.frozen:
            self._silent += 1
            if self._silent * self._beat > self.owner.host.limits.stream_dead_after:
                self.end("the peer has been silent for too long")
                return
            self.tell(lambda side: None)
        self._beat_on()

    # ── its end ──

    def close(self, reason: str) -> None:
        """This end leaves; what it has told arrives before the other end hears of that."""
        self.tell(lambda side: side.end(reason))
        self.end(reason)

    def cut(self, reason: str) -> None:
        """The process of this end is gone; what is under way is lost."""
        self.other._way.clear()
        self.tell(lambda side: side.end(reason))
        self.end(reason)

    def end(self, reason: str) -> None:
        """For this end the line is gone, and every stream on it."""
        if self.over:
            return
        self.over = True
        if self._pulse is not None:
            self._pulse.cancel()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.lost(reason)
        self._ended(self)


def later(act: Callable[[], None]) -> None:
    """In a turn of the loop that is still to come, or after the network's delay."""
    loop, delay = asyncio.get_running_loop(), network().delay
    if delay:
        loop.call_later(delay, act)
    else:
        loop.call_soon(act)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────

_Ports = weakref.WeakValueDictionary[int, Any]
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Ports] = weakref.WeakKeyDictionary()
_NAME = "memory-stream"


def listening(address: str) -> Any:
    """Who listens there, None if nobody does."""
    name, _, port = address.rpartition(":")
    return _ports().get(int(port)) if name == _NAME and port.isascii() and port.isdigit() else None


def listen(port: int, who: Any) -> str:
    """Take an address, at any free port if that is 0."""
    ports = _ports()
    if not port:
        port = max(ports, default=0) + 1
    if port in ports:
        why = "somebody listens at this port; MEMORY_STREAM_PORT=0 takes any that is free"
        raise SettingsError([("MEMORY_STREAM_PORT", str(port), why)])
    ports[port] = who
    return f"{_NAME}:{port}"


def leave(address: str, who: Any) -> None:
    if address and listening(address) is who:
        del _ports()[int(address.rpartition(":")[2])]


def _ports() -> _Ports:
    return _loops.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())

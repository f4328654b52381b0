"""One address: the connections to it.

Small requests go by one connection, so that a large one does not hold them up; large ones go by up to three.
"""

from __future__ import annotations

import asyncio

from reqplane.interfaces import Host
from reqplane.sockets import reason, split_address

from reqplane_tcp.ask import Ask
from reqplane_tcp.chunk import Chunk
from reqplane_tcp.lane import Lane
from reqplane_tcp.settings import TcpSettings

LARGE_FROM = 64 * 1024
"""Bytes of a request that goes by another connection than the small ones."""
_MOST_LARGE = 3
_MOST_FRUITLESS = 2
"""How often a request is sent once more, where it was surely not accepted."""
_LAST = 0.1
"""Of the time that an ack may take: what must be left for that."""


class Place:
    """Hands requests to connections, and makes one where there is none."""

    def __init__(self, host: Host, settings: TcpSettings, chunk: Chunk, address: str) -> None:
        self._host, self._settings, self._chunk = host, settings, chunk
        self.address = address
        self._small: list[Lane] = []
        self._large: list[Lane] = []
        self._open: set[Lane] = set()  # those that take no more requests too
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, ask: Ask) -> None:
        lanes = self._small if ask.size < LARGE_FROM else self._large
        if lanes and not lanes[0].crowded:
            lanes[0].submit(ask)
        else:
            self._choose(lanes).submit(ask)

    def _choose(self, lanes: list[Lane]) -> Lane:
        """One with room; a new one; or the one with the fewest that wait."""
        free = next((lane for lane in lanes if not lane.crowded), None)
        if free is not None:
            return free
        if not lanes or (lanes is self._large and len(lanes) < _MOST_LARGE):
            lanes.append(self._new())
            return lanes[-1]
        return min(lanes, key=lambda lane: lane.waiting)

    # ── what connections tell ──

    def retired(self, lane: Lane) -> None:
        for lanes in (self._small, self._large):
            if lane in lanes:
                lanes.remove(lane)

    def again(self, ask: Ask, why: str) -> None:
        if ask.done():
            return
        ask.fruitless += 1
        too_late = ask.due < asyncio.get_running_loop().time() + self._settings.request_timeout * _LAST
        if self._closed or too_late or ask.fruitless > _MOST_FRUITLESS:
            ask.unreachable(why)
        else:
            self.submit(ask)

    # ── making connections ──

    def _new(self) -> Lane:
        settings = self._settings
        lane = Lane(
            self, self.address, self._chunk, self._host.timers, settings.request_timeout, settings.idle_ttl
        )
        self._open.add(lane)
        lane.over.add_done_callback(lambda _: self._open.discard(lane))
        task = self._host.spawn(self._connect(lane), f"tcp connection to {self.address}")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return lane

    async def _connect(self, lane: Lane) -> None:
        limit = self._settings.connect_timeout
        why = "the transport is closed"
        try:
            async with asyncio.timeout(limit):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: lane, *split_address(self.address))
            return
        except TimeoutError:
            why = f"no connection within {limit:g} s (DYN_TCP_CONNECT_TIMEOUT)"
        except OSError as error:
            why = reason(error)
        finally:
            if lane.unconnected:
                lane.unreachable(why)

    async def close(self) -> None:
        """Free everything; what is under way fails."""
        self._closed = True
        for task in list(self._connecting):
            task.cancel()
        if self._connecting:
            await asyncio.wait(list(self._connecting))
        lanes = list(self._open)
        for lane in lanes:
            lane.give_up("the transport was closed")
        if lanes:
            await asyncio.wait([lane.over for lane in lanes])

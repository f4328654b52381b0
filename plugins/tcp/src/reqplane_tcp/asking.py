"""A frontend's side: targets, and a future for each frame that is sent to one."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from reqplane.errors import FrameTooLarge, RequestError, WireError
from reqplane.interfaces import Host
from reqplane.model import Headers
from reqplane.wire.frame import Frame

from reqplane_tcp.ask import Ask
from reqplane_tcp.chunk import Chunk
from reqplane_tcp.place import Place
from reqplane_tcp.settings import TcpSettings
from reqplane_tcp.target import takes_headers
from reqplane_tcp.wire import LONG, NO_HEADERS, headers_block, path_block


class Target:
    """An endpoint of a worker, with the beginning of its requests."""

    __slots__ = ("_path", "begins", "place", "takes_headers")

    def __init__(self, place: Place, path: str) -> None:
        self.place = place
        self._path = path
        self.takes_headers = takes_headers(path)
        self.begins = path_block(path)

    def __repr__(self) -> str:
        return f"Target({self.place.address}/{self._path})"


class Asking:
    """All frames of this process that are on their way."""

    def __init__(self, host: Host, settings: TcpSettings, chunk: Chunk) -> None:
        limit = settings.request_timeout
        self._host, self._settings, self._chunk = host, settings, chunk
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._within = f"within {limit:g} s (DYN_TCP_REQUEST_TIMEOUT)"
        self._before = f"before the call's deadline (DYN_TCP_REQUEST_TIMEOUT is {limit:g} s)"
        self._most = host.limits.max_frame_bytes
        self._places: WeakValueDictionary[str, Place] = WeakValueDictionary()
        self._closed = False

    def target(self, address: str, path: str) -> Target:
        """A worker's endpoint; those at one address share their connections."""
        place = self._places.get(address)
        if place is None:
            place = self._places[address] = Place(self._host, self._settings, self._chunk, address)
        return Target(place, path)

    def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """Send a frame; the future is done at the ack."""
        size = len(frame)
        now = self._loop.time()
        due = now + self._limit
        block = NO_HEADERS if target.takes_headers else b""
        begins = target.begins
        ask = Ask(target.place.address, (), size, due, self._within, self._loop)
        if headers and target.takes_headers:
            try:
                block = headers_block(headers)
            except WireError as error:
                return self._failed(ask, self._too_large(ask, error.problem))
        if size > self._most or self._closed or deadline <= now:
            return self._refused(ask, deadline <= now)
        ask.pieces = (b"".join((begins, block, LONG.pack(size), frame.head)), frame.body)
        if deadline < due:
            ask.limit = self._before
            ask.timer = self._host.timers.at(deadline, ask.expire)
        target.place.submit(ask)
        return ask

    def _refused(self, ask: Ask, late: bool) -> Ask:
        """What can't be sent at all."""
        if ask.size > self._most:
            how = "DYN_MAX_FRAME_BYTES sets the limit, on both sides"
            return self._failed(ask, self._too_large(ask, how))
        if self._closed:
            ask.unreachable("the transport is closed")
        elif late:
            ask.unreachable(f"no ack {self._before}, which had passed before the frame was sent")
        return ask

    def _too_large(self, ask: Ask, why: str) -> FrameTooLarge:
        return FrameTooLarge(ask.size, self._most, why, transport="tcp", address=ask.address)

    def _failed(self, ask: Ask, error: RequestError) -> Ask:
        ask.fail(error)
        return ask

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(place.close() for place in list(self._places.values())))

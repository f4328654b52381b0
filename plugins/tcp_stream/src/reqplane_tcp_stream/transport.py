"""The response transport: a listener for frontends, connections home for workers."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

from reqplane.errors import WireError
from reqplane.interfaces import HomeStream, Host, ResponseTransport
from reqplane.model import ConnectionInfo, Control, Load, ResponseCapabilities
from reqplane.settings import load
from reqplane.sockets import first_free_socket, host_and_port, listening_socket
from reqplane.wire.response import Handshake
from reqplane.wire.shared import Opening

from reqplane_tcp_stream.allow import objection
from reqplane_tcp_stream.arrival import Arrival, First
from reqplane_tcp_stream.connection import Connection, close_all
from reqplane_tcp_stream.dial import Dialler
from reqplane_tcp_stream.frontend import FrontendConnection
from reqplane_tcp_stream.homes import HomeConnections
from reqplane_tcp_stream.pending import PendingTcpStream
from reqplane_tcp_stream.settings import FIRST_PORT, TcpStreamSettings
from reqplane_tcp_stream.single import SingleFrontend
from reqplane_tcp_stream.single_request import RequestFrontend
from reqplane_tcp_stream.subjects import Subjects, subject_key

_BACKLOG = 1024
_MAX_UNPROVEN = 256
"""Connections that may stand open before their opening frame came."""


class TcpStreamTransport(ResponseTransport):
    """Answers by TCP, on one shared connection for each pair of processes.

    Toward a peer that does not know that form, Dynamo, each answer has a connection of its own.
    """

    name = "tcp_stream"
    capabilities = ResponseCapabilities(
        shared_connection=True, credit=True, heartbeats=True, reports=True, streamed_requests=True
    )
    settings = TcpStreamSettings
    loopback: ClassVar[Mapping[str, str]] = {
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
    }

    def __init__(self, host: Host, settings: TcpStreamSettings) -> None:
        self._host = host
        self._settings = settings
        self._subjects = Subjects(host)
        self._homes = HomeConnections(host, Dialler(settings.allow))
        self._objection = functools.lru_cache(1024)(functools.partial(objection, settings.allow))
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._unproven: dict[Arrival, None] = {}  # the oldest first
        self._opening = asyncio.Lock()
        self._leaving = False
        self.advertised = ""

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host, load(TcpStreamSettings, host.env))

    # ── frontend ──

    async def listen(self) -> None:
        async with self._opening:
            if self._server is not None:
                return
            sock = await _listener(self._settings)
            loop = asyncio.get_running_loop()
            try:
                self._server = await loop.create_server(self._accept, sock=sock, backlog=_BACKLOG)
            except BaseException:
                sock.close()
                raise
        address = self._settings.advertise_host or self._host.advertise(self._settings.bind_host)
        self.advertised = host_and_port(address, sock.getsockname()[1])
        self._subjects.address = self.advertised

    def _accept(self) -> Arrival:
        arrival = Arrival(self._host, self._admit, self._left)
        self._connections.add(arrival)
        self._unproven[arrival] = None
        if self._leaving:  # it was accepted just before the listener closed
            arrival.give_up("the frontend is leaving")
        elif len(self._unproven) > _MAX_UNPROVEN:
            next(iter(self._unproven)).give_up("too many connections without an opening")
        return arrival

    def _left(self, arrival: Arrival) -> None:
        """It was admitted, or is gone."""
        self._unproven.pop(arrival, None)
        self._connections.discard(arrival)

    def _admit(self, first: First) -> Connection:
        """What a connection becomes by its first frame; WireError if nobody here knows its secret."""
        admitted = self._shared(first) if isinstance(first, Opening) else self._single(first)
        self._connections.add(admitted)
        return admitted

    def _shared(self, opening: Opening) -> FrontendConnection:
        if opening.process != self._host.process:
            raise WireError("a worker called for another process, perhaps this one's predecessor")
        return FrontendConnection(self._host, self._subjects, opening, self._connections.discard)

    def _single(self, handshake: Handshake) -> SingleFrontend | RequestFrontend:
        key = subject_key(handshake.subject)
        if key is None or handshake.stream_type not in ("response", "request"):
            raise WireError("the handshake is not for a stream of this frontend")
        if handshake.stream_type == "request":
            return self._request(key)
        stream = self._subjects.claim(key)
        if stream is None:
            raise WireError("a worker called for an answer that nobody waits for, or not any more")
        return SingleFrontend(self._host, stream, self._connections.discard)

    def _request(self, key: bytes) -> RequestFrontend:
        stream = self._subjects.claim_request(key)
        if stream is None:
            raise WireError("a worker called for a request that is no stream, or over, or somebody else's")
        return RequestFrontend(self._host, stream, self._connections.discard)

    def expect(self, request_id: str, *, sends: bool = False) -> PendingTcpStream:
        if sends:
            return self._subjects.expect_sending(request_id)
        return self._subjects.expect(request_id)

    # ── worker ──

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        return await self._homes.call_home(info, control)

    def objection(self, info: ConnectionInfo) -> str | None:
        if info.request is None:
            return self._objection(info.address)
        return self._objection(info.address) or self._objection(info.request.address) or self._too_wide(info)

    def _too_wide(self, info: ConnectionInfo) -> str | None:
        """A request may fill its window here, so that is not the frontend's alone to choose."""
        limits = self._host.limits
        most = max(limits.max_frame_bytes, limits.stream_window_bytes)
        if info.shared is None or info.shared.window <= most:
            return None
        return (
            f"the request is a stream with a window of {info.shared.window} bytes (the frontend's "
            f"DYN_STREAM_WINDOW_BYTES); this worker, by its DYN_MAX_FRAME_BYTES, allows {most}"
        )

    def report(self, load: Load) -> None:
        self._homes.report(load)

    async def aclose(self) -> None:
        self._leaving = True
        self._subjects.close()
        if self._server is not None:
            self._server.close()
        for connection in list(self._unproven):
            connection.give_up("the frontend is leaving")
        await self._homes.close()
        await close_all(list(self._connections), "the frontend is leaving")
        if self._server is not None:
            await self._server.wait_closed()


async def _listener(settings: TcpStreamSettings) -> socket.socket:
    """The listener's socket; SettingsError names the variable of an address that can't be used."""
    variables = {
        "host_variable": "DYN_TCP_RESPONSE_STREAM_HOST",
        "port_variable": "DYN_TCP_RESPONSE_STREAM_PORT",
    }
    if settings.bind_port is None:
        return await first_free_socket(settings.bind_host, FIRST_PORT, backlog=_BACKLOG, **variables)
    return await listening_socket(settings.bind_host, settings.bind_port, backlog=_BACKLOG, **variables)

"""The worker's side: one ROUTER socket for all endpoints of the process."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any

import zmq
from reqplane.errors import InvalidFrame, RequestRefused, UnknownEndpoint, describe
from reqplane.interfaces import Accept, Delivery, Host, Listener
from reqplane.model import Headers, Peer, Served
from reqplane.settings import host, port, reachable_host, seconds, setting, settings_class
from reqplane.sockets import host_and_port, listening_socket

from reqplane_zmq.sockets import LoopSocket, send, terminate

BESIDES = 2**20
"""Bytes that a part may have beyond the largest frame: a frame that is only a little too large is refused by
us, with a reason; libzmq cuts the connection of whoever sends more."""

_LINGER = 1000
"""Milliseconds for acks to get out, when the socket is closed or drained."""

_FRONTENDS = 1000
"""So many of those that were answered last are remembered, to be told when the worker leaves."""


@settings_class
class ZmqSettings:
    """The variables of this plane."""

    host: str = setting("DYN_ZMQ_HOST", default="0.0.0.0", parse=host)
    port: int = setting("DYN_ZMQ_PORT", default=0, parse=port)
    advertise_host: str = setting("DYN_ZMQ_ADVERTISE_HOST", default="", parse=reachable_host)
    request_timeout: float = setting("DYN_ZMQ_REQUEST_TIMEOUT", default=5.0, parse=seconds)


class Server:
    """Opened by the first listener, closed with the last."""

    def __init__(self, host: Host, settings: ZmqSettings) -> None:
        self._host, self._settings = host, settings
        self._endpoints: dict[str, Accept] = {}
        self._router: LoopSocket | None = None
        self._changing = asyncio.Lock()
        self._frontends: dict[bytes, None] = {}
        self._numbers = itertools.count()
        self._marks: dict[bytes, set[bytes]] = {}  # who has not sent it back yet
        self.address = ""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        endpoint = str(served.endpoint)
        self._endpoints[endpoint] = accept
        try:
            async with self._changing:
                if self._router is None:
                    await self._open(self._settings.host, self._settings.port)
        except BaseException:  # cancelled perhaps
            await self.leave(endpoint, accept)
            raise
        return ZmqListener(self, endpoint, accept)

    async def _open(self, host: str, port: int) -> None:
        names = {"host_variable": "DYN_ZMQ_HOST", "port_variable": "DYN_ZMQ_PORT"}
        listening = await listening_socket(host, port, **names, backlog=1024)
        bound, port = listening.getsockname()[:2]
        router = zmq.Context().socket(zmq.ROUTER)
        router.set(zmq.IPV6, 1)
        router.set(zmq.MAXMSGSIZE, self._host.limits.max_frame_bytes + BESIDES)
        router.set(zmq.RCVHWM, 64)  # frames of one peer in libzmq's memory, while the event loop is busy
        router.set(zmq.SNDHWM, 100_000)
        router.set(zmq.ROUTER_MANDATORY, 1)  # else what can't be sent is dropped, and nobody told
        router.set(zmq.USE_FD, listening.detach())  # it belongs to libzmq from here on
        router.bind(f"tcp://{host_and_port(bound, port)}")
        self._router = LoopSocket(router, self._received)
        self.address = host_and_port(self._settings.advertise_host or self._host.advertise(host), port)

    def _received(self, parts: list[zmq.Frame]) -> None:
        if len(parts) == 2:
            self._marks.get(parts[1].bytes, set()).discard(parts[0].bytes)
        if len(parts) != 6 or len(parts[1]) != 8:
            return  # none of ours: there is no number to answer to
        code, problem = "", ""
        try:
            self._accept(*parts[2:])
        except RequestRefused as error:
            code, problem = error.code, error.problem
        except (Exception, asyncio.CancelledError) as error:
            self._host.log.exception("a frame could not be accepted")
            code, problem = "refused", describe(error)
        answer = [text.encode(errors="replace")[:1000] for text in (code, problem)]
        who = parts[0].bytes
        if self._send([who, parts[1].bytes, *answer]):
            self._frontends.pop(who, None)  # the last one answered is the last in the dict
            self._frontends[who] = None
            if len(self._frontends) > _FRONTENDS:
                del self._frontends[next(iter(self._frontends))]

    def _accept(self, endpoint: zmq.Frame, headers: zmq.Frame, head: zmq.Frame, body: zmq.Frame) -> None:
        size, most = len(head) + len(body), self._host.limits.max_frame_bytes
        if size > most:
            raise InvalidFrame(f"the frame has {size} bytes, at most {most} are allowed")
        path = endpoint.bytes.decode(errors="replace")
        if path not in self._endpoints:
            raise UnknownEndpoint(f"{path:.200} is not served here")
        # Joined, although accept takes a frame in two pieces: those of a stranger need not fit each other.
        frame = b"".join((head.buffer, body.buffer))
        peer = Peer(str(body.get("Peer-Address")))
        self._endpoints[path](Delivery(frame, _headers(headers.bytes), "zmq", peer))

    def _send(self, parts: list[bytes]) -> bool:
        try:
            if self._router is not None:
                send(self._router.socket, parts)
                return True
        except zmq.ZMQError:  # the frontend is gone, or has not read for 100 000 acks
            pass
        return False

    async def drain(self, *parting: bytes) -> None:
        """Return when the acks are out.

        libzmq does not tell what it has sent.  So whoever was answered is sent a mark behind the acks, and
        sends it back.
        """
        mark, clock = next(self._numbers).to_bytes(8), asyncio.get_running_loop().time
        self._marks[mark] = out = set(self._frontends)
        end = clock() + _LINGER / 1000
        try:
            while clock() < end:
                for who in list(out):
                    if not self._send([who, mark, *parting]):
                        out.discard(who)  # it is gone, or was always going to miss its acks
                        self._frontends.pop(who, None)
                if not out:
                    break
                await asyncio.sleep(0.01)
        finally:
            del self._marks[mark]

    async def leave(self, endpoint: str, accept: Accept) -> None:
        if self._endpoints.get(endpoint) is accept:
            del self._endpoints[endpoint]
        await self._close_unused()

    async def close(self) -> None:
        self._endpoints.clear()
        await self._close_unused()

    async def _close_unused(self) -> None:
        async with self._changing:
            if self._router is not None and not self._endpoints:
                # What is sent on a connection that is about to end may be running, for all its sender knows.
                await self.drain(b"bye")
                router, self._router = self._router, None
                self._frontends.clear()
                router.close(_LINGER)
                await terminate(router.socket.context)


class ZmqListener(Listener):
    """One endpoint on the server."""

    def __init__(self, server: Server, endpoint: str, accept: Accept) -> None:
        self._server, self._endpoint, self._accept = server, endpoint, accept

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {"zmq": {"address": self._server.address, "endpoint": self._endpoint}}

    async def drain(self) -> None:
        await self._server.drain()

    async def close(self) -> None:
        await self._server.leave(self._endpoint, self._accept)


def _headers(data: bytes) -> Headers:
    try:
        headers = json.loads(data)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidFrame("the headers are not a JSON object of texts")
    return headers

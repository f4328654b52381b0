"""The frontend's HTTP/2 client: POSTs of frames, and the same as a transport for httpx."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx
from reqplane.errors import CannotConnect, DeliveryUnknown
from reqplane.interfaces import Host
from reqplane.model import Headers
from reqplane.sockets import host_and_port
from reqplane.wire.frame import Frame

from reqplane_http import batch
from reqplane_http.blocks import headers_block, request_block, target_block
from reqplane_http.exchange import AnyRequest, Exchange, Post
from reqplane_http.lane import Lane
from reqplane_http.limit import AckLimit
from reqplane_http.origin import Origin
from reqplane_http.settings import HttpSettings
from reqplane_http.target import Target

PlainPost: TypeAlias = Callable[[Target, Frame, Headers, float], "asyncio.Future[None]"]
"""Sends a frame by HTTP/1.1."""

_HTTP1_SECONDS = 60.0
"""How long an address that answered the HTTP/2 preface by HTTP/1.1 gets nothing else."""
_NOT_IN_HTTP2 = frozenset({b"host", b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class H2Transport(httpx.AsyncBaseTransport):
    """HTTP/2 in clear text with prior knowledge: one connection carries many requests at once.

    `post` is the fast way for frames.  As a transport of an `httpx.AsyncClient` it carries any request:

        async with httpx.AsyncClient(transport=H2Transport(host, settings)) as client: …

    It follows no redirects and reads no proxy from the environment.  Frames for those who turn out to speak
    HTTP/1.1 only, a proxy with a worker's record perhaps, go by `plain`, where there is one.
    """

    def __init__(self, host: Host, settings: HttpSettings, plain: PlainPost | None = None) -> None:
        self._host = host
        self._settings = settings
        self._plain = plain
        self._http1_until: dict[tuple[str, int], float] = {}
        self._timers = host.timers
        self._limit = AckLimit(settings.request_timeout)
        self._loop = asyncio.get_running_loop()
        self._origins: dict[tuple[str, int], Origin] = {}
        self._closed = False

    def post(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """Send a frame.  The future is done at the 202; its errors are those of `RequestTransport.send`."""
        if self._http1_until and self._plain is not None and self._is_http1(target.origin):
            return self._plain(target, frame, headers, deadline)
        until, limit = self._limit.until(self._loop.time(), deadline)
        if target.lane is not None:
            return target.lane.send(frame, headers, until, limit)
        return self._post(target, frame, headers, until, limit)

    def _is_http1(self, place: tuple[str, int]) -> bool:
        until = self._http1_until.get(place)
        if until is not None and until <= self._loop.time():
            del self._http1_until[place]  # it may have changed; the next one tries
            return False
        return until is not None

    def _only_http1(self, place: tuple[str, int]) -> None:
        self._http1_until[place] = self._loop.time() + _HTTP1_SECONDS
        self._host.log.info("%s does not speak HTTP/2 and gets HTTP/1.1", host_and_port(*place))

    def gather(self, target: Target) -> None:
        """From now on this target's frames share POSTs."""
        target.lane = Lane(
            target.address,
            target_block(target.address, target.path, batch.CONTENT_TYPE),
            lambda frame, headers, until, limit: self._post(target, frame, headers, until, limit),
            lambda exchange: self._submit(exchange, target.origin),
            None if self._plain is None else functools.partial(self._plain, target),
            self._timers,
        )

    def _post(self, target: Target, frame: Frame, headers: Headers, until: float, limit: str) -> Post:
        """One frame, one POST."""
        block = target.block + headers_block(headers) if headers else target.block
        exchange = Post(target.address, block, frame.buffers)
        exchange.limit = limit
        if self._plain is not None:
            exchange.by_http1 = (self._plain, target, frame, headers, until)
        if until <= self._loop.time():
            exchange.timed_out(self._limit.passed)
        else:
            exchange.timer = self._timers.at(until, exchange.expire)
            self._submit(exchange, target.origin)
        return exchange

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """What httpx calls.  The whole answer is read before it returns."""
        url = request.url
        if url.scheme != "http" or self._closed:
            problem = "the transport is closed" if self._closed else f"no {url.scheme}:// here, only http://"
            raise httpx.UnsupportedProtocol(problem, request=request)
        headers = [(n.lower(), value) for n, value in request.headers.raw if n.lower() not in _NOT_IN_HTTP2]
        method = request.method.encode()
        block = request_block(method, url.netloc, url.raw_path, headers)
        exchange = AnyRequest(url.netloc.decode(), block, [await request.aread()])
        exchange.method = method
        patience: float | None = request.extensions.get("timeout", {}).get("read")
        if patience is not None:
            exchange.limit = f"within {patience:g} s"
            exchange.timer = self._timers.at(self._loop.time() + patience, exchange.expire)
        self._submit(exchange, (url.host, url.port or 80))
        status, answer, body = await _as_httpx(exchange, request)
        fields = [(name, value) for name, value in answer if not name.startswith(b":")]
        return httpx.Response(status, headers=fields, content=body, extensions={"http_version": b"HTTP/2"})

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        self._closed = True
        for origin in list(self._origins.values()):
            await origin.close()
        self._origins.clear()

    def _submit(self, exchange: Exchange, place: tuple[str, int]) -> None:
        if self._closed:
            exchange.unreachable("the transport is closed")
            return
        origin = self._origins.get(place)
        if origin is None:
            origin = self._origins[place] = Origin(
                self._host, self._settings, place, self._forget, self._only_http1
            )
        origin.submit(exchange)

    def _forget(self, origin: Origin) -> None:
        if self._origins.get(origin.place) is origin:
            del self._origins[origin.place]


async def _as_httpx(exchange: Exchange, request: httpx.Request) -> Any:
    """The exchange's result, with errors as httpx knows them."""
    try:
        return await exchange
    except CannotConnect as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except DeliveryUnknown as error:
        kind = httpx.ReadTimeout if error.reason == "timed_out" else httpx.ReadError
        raise kind(str(error), request=request) from error

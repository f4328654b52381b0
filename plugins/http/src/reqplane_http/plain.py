"""HTTP/1.1 to those that do not announce HTTP/2, and for large frames: the connections to one address.

Each connection is an `httpx.AsyncHTTPTransport` of its own.  httpx's pool looks at each of its connections
for each request, which costs more than the request when there are a hundred.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import httpx
from reqplane.interfaces import Host, Timer
from reqplane.model import Headers
from reqplane.wire.frame import Frame

from reqplane_http.http1 import Http1Post
from reqplane_http.limit import AckLimit
from reqplane_http.settings import HttpSettings
from reqplane_http.target import Target

_MOST_AT_ONCE = 100
"""Connections to one address; with all of them busy, frames wait."""
_MOST_IDLE_SECONDS = 4.0
"""Many servers close a connection that was idle for 5 s, and a request that meets the closing may be lost.
So we close first, also where DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS would allow more."""


class Lines:
    """Makes connections, all alike."""

    def __init__(self, settings: HttpSettings) -> None:
        self.most_idle = settings.pool_max_idle_per_host
        self.idle_limit = min(settings.pool_idle_timeout, _MOST_IDLE_SECONDS)
        self._limits = httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=self.idle_limit
        )
        # httpx wants one, and would read all of the system's certificates for each connection.
        self._no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def new(self) -> httpx.AsyncHTTPTransport:
        """It connects with the first request."""
        return httpx.AsyncHTTPTransport(
            verify=self._no_tls, trust_env=False, http1=True, http2=False, limits=self._limits
        )


class Idle(NamedTuple):
    """A connection that waits for a request."""

    since: float
    line: httpx.AsyncHTTPTransport


class PlainOrigin:
    """Hands frames to idle connections, the one used last first, and makes one where there is none."""

    def __init__(
        self, host: Host, lines: Lines, place: tuple[str, int], unused: Callable[[PlainOrigin], None]
    ) -> None:
        self._host, self._lines = host, lines
        self.place = place
        self._unused = unused
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Idle] = deque()
        self._busy: dict[asyncio.Task[None], Http1Post] = {}
        self._waiting: deque[Http1Post] = deque()
        self._timer: Timer | None = None

    def submit(self, post: Http1Post) -> None:
        if len(self._busy) < _MOST_AT_ONCE:
            self._start(post)
        else:
            self._waiting.append(post)

    async def close(self) -> None:
        """Free everything; what is under way fails."""
        waiting, self._waiting = self._waiting, deque()
        for post in (*waiting, *self._busy.values()):
            post.close()
        if self._busy:
            await asyncio.wait(set(self._busy))
        self._disarm()
        while self._idle:
            await self._idle.pop().line.aclose()

    def _start(self, post: Http1Post) -> None:
        task = post.task = self._host.spawn(self._carry(post), f"POST to {post.address}")
        self._busy[task] = post
        task.add_done_callback(self._done)

    async def _carry(self, post: Http1Post) -> None:
        line = self._idle.pop().line if self._idle else self._lines.new()
        again = False
        try:
            again = await post.exchange(line)
        finally:
            if again and len(self._idle) < self._lines.most_idle:
                self._keep(line)
            else:
                await line.aclose()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._busy[task]
        while self._waiting and len(self._busy) < _MOST_AT_ONCE:
            post = self._waiting.popleft()
            if not post.done():
                self._start(post)
        self._leave_if_unused()

    # ── idle connections ──

    def _keep(self, line: httpx.AsyncHTTPTransport) -> None:
        self._idle.append(Idle(self._loop.time(), line))
        if self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        self._timer = self._host.timers.at(self._idle[0].since + self._lines.idle_limit, self._look)

    def _look(self) -> None:
        """Close those that are idle for long."""
        self._timer = None
        before = self._loop.time() - self._lines.idle_limit
        while self._idle and self._idle[0].since <= before:
            self._host.spawn(self._idle.popleft().line.aclose(), "close of an idle connection")
        if self._idle:
            self._look_later()
        self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if not self._busy and not self._idle:
            self._disarm()
            self._unused(self)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PlainClient:
    """Sends frames by HTTP/1.1.  Follows no redirects, reads no proxy from the environment."""

    def __init__(self, host: Host, settings: HttpSettings) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(settings)
        self._limit = AckLimit(settings.request_timeout)
        self._origins: dict[tuple[str, int], PlainOrigin] = {}
        self._closed = False

    def post(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """Send a frame.  The future is done at the 202; its errors are those of `RequestTransport.send`."""
        post = Http1Post(target, frame, headers)
        now = self._loop.time()
        until, post.limit = self._limit.until(now, deadline)
        if self._closed:
            post.unreachable("the transport is closed")
        elif until <= now:
            post.timed_out(self._limit.passed)
        else:
            post.timer = self._host.timers.at(until, post.expire)
            self._origin(target.origin).submit(post)
        return post

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        self._closed = True
        for origin in list(self._origins.values()):
            await origin.close()
        self._origins.clear()

    def _origin(self, place: tuple[str, int]) -> PlainOrigin:
        origin = self._origins.get(place)
        if origin is None:
            origin = self._origins[place] = PlainOrigin(self._host, self._lines, place, self._forget)
        return origin

    def _forget(self, origin: PlainOrigin) -> None:
        if self._origins.get(origin.place) is origin:
            del self._origins[origin.place]

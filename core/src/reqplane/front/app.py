"""The front as an ASGI application: which path goes where."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from reqplane.errors import ReqplaneError
from reqplane.front.calls import Call, CutOff, answer_json
from reqplane.front.endpoints import Endpoints
from reqplane.front.forms import error_members
from reqplane.front.incoming import HungUp, Receive, Refused, Scope, Send, read
from reqplane.front.metrics import CONTENT_TYPE, Metrics
from reqplane.front.statuses import status_of
from reqplane.front.streams import end_broken

log = logging.getLogger("reqplane")

CALLS = "/v1/endpoints/"
_ROUTES = {"/health": ("GET", "HEAD"), "/metrics": ("GET", "HEAD")}
_MOST_CALLS = 10_000
"""Calls under way at once; each holds a few KiB and a place at a worker."""


class Front:
    """Answers requests until it drains."""

    def __init__(self, endpoints: Endpoints, metrics: Metrics, most_body: int) -> None:
        self._endpoints = endpoints
        self._metrics = metrics
        self._most_body = most_body
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        path = unquote(scope["path"])
        method: str = scope["method"]
        if path.startswith(CALLS):
            await self._counted_call(method, path.removeprefix(CALLS), scope, receive, send)
        else:
            await self._page(method, path, send)

    async def quiet(self) -> None:
        """Wait until no call is under way."""
        await self._idle.wait()

    # ── pages ──

    async def _page(self, method: str, path: str, send: Send) -> None:
        allowed = _ROUTES.get(path)
        if allowed is None:
            refused = Refused(
                HTTPStatus.NOT_FOUND, "NotFound", f"wanted POST {CALLS}PATH, GET /health or GET /metrics"
            )
            await self._refuse(send, refused, method, "other")
        elif method not in allowed:
            await self._refuse(send, _wrong_method(method, allowed), method, path)
        elif path == "/health":
            status = 503 if self.draining else 200
            members = {"status": "draining" if self.draining else "healthy", "endpoints": self._health()}
            await answer_json(send, status, members)
            self._count(method, path, status)
        else:
            for endpoint, workers in self._endpoints.known().items():
                self._metrics.workers.labels(endpoint).set(workers)
            headers = [(b"content-type", CONTENT_TYPE)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._metrics.text()})
            self._count(method, path, 200)

    def _health(self) -> dict[str, Any]:
        return {path: {"workers": workers} for path, workers in self._endpoints.known().items()}

    # ── calls ──

    async def _counted_call(self, method: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._running += 1
        self._idle.clear()
        try:
            await self._call(method, path, scope, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _call(self, method: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        route = f"{CALLS}{{path}}"
        status = 499  # the client closed the connection: nginx's number, seen in no answer
        call = None
        try:
            if method != "POST":
                raise _wrong_method(method, ("POST",))
            if self.draining or self._running > _MOST_CALLS:
                why = "the front is leaving" if self.draining else f"{_MOST_CALLS} calls are under way"
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", why, {"retry-after": "1"})
            incoming = await read(scope, receive, self._most_body)
            call = Call(await self._endpoints.client(path), incoming, self._metrics, send)
            await call.run(receive)
            status = call.status
        except HungUp:
            pass
        except CutOff:
            status = 200
            await end_broken(scope, send)
        except Refused as refused:
            await self._refuse(send, refused, method, route)
            return
        except ReqplaneError as error:  # before there was a call
            status = status_of(error)
            await answer_json(send, status, {"error": error_members(error)})
        self._count(method, route, status)

    # ── both ──

    async def _refuse(self, send: Send, refused: Refused, method: str, route: str) -> None:
        headers = [(name.encode(), value.encode()) for name, value in refused.headers.items()]
        if refused.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            headers.append((b"connection", b"close"))  # what still comes of the body is not wanted
        members = {"error": {"type": refused.kind, "message": refused.message}}
        await answer_json(send, refused.status, members, headers)
        self._count(method, route, refused.status)

    def _count(self, method: str, route: str, status: int) -> None:
        known = method if method in ("GET", "HEAD", "POST") else "other"
        self._metrics.http_requests.labels(known, route, str(int(status))).inc()


async def _lifespan(receive: Receive, send: Send) -> None:
    """What a server asks before its first request and after its last; there is nothing to do for it."""
    for _ in ("startup", "shutdown"):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


def _wrong_method(method: str, allowed: tuple[str, ...]) -> Refused:
    words = " or ".join(allowed)
    return Refused(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "WrongMethod",
        f"{method:.20} is not possible here, wanted {words}",
        {"allow": ", ".join(allowed)},
    )

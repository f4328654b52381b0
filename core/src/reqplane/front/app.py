"""The front as an ASGI application: which path goes where."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any

from reqplane.context import Context
from reqplane.front.calls import Call
from reqplane.front.endpoints import Endpoints
from reqplane.front.exchange import Exchange, Receive, Scope, Send, leaving
from reqplane.front.forms import Form
from reqplane.front.incoming import BODY_SECONDS, LATE, Body, HungUp, headers_of, options_of
from reqplane.front.metrics import CONTENT_TYPE, Metrics
from reqplane.front.problems import AGAIN, Problem, problem_of
from reqplane.runtime import DistributedRuntime
from reqplane.wire.trace import carried

CALLS = "/v1/endpoints/"
_CALL = f"{CALLS}{{path}}"
_PAGES = ("/health", "/metrics")
_MOST_CALLS = 10_000
"""Calls under way at once; each holds a few KiB and a place at a worker."""
_GONE = 499  # the client went before its answer began: nginx's number, seen in no answer
_ORIGIN = re.compile(r"https?://[^/?]*", re.IGNORECASE)


class Front:
    """Answers requests until it drains.  Somebody runs `endpoints.follow()` beside it."""

    def __init__(self, runtime: DistributedRuntime, endpoints: Endpoints, metrics: Metrics) -> None:
        self._budget = runtime.inflight
        self._most_body = runtime.settings.max_frame_bytes
        self._endpoints = endpoints
        self._metrics = metrics
        self._calls: set[Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        metrics.show_workers(endpoints.known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def quiet(self) -> None:
        """Wait until no call is under way."""
        await self._idle.wait()

    def cut_off(self) -> None:
        """End the calls that are under way; their clients learn why."""
        for exchange in self._calls:
            exchange.end_early(leaving("the front is leaving, and its drain time ran out"))

    # ── one request ──

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _ORIGIN.sub("", scope["path"], count=1)  # "GET http://host/path" means the path
        route = _CALL if path.startswith(CALLS) else path if path in _PAGES else "other"
        exchange = Exchange(scope, receive, send)
        request = _Request(self._budget, self._most_body, exchange)
        try:
            if route == _CALL:
                await self._counted(request, path.removeprefix(CALLS))
            else:
                await request.guarded(self._page(request, path))
        finally:
            exchange.over()
            request.body.release()
            self._metrics.count(scope["method"], route, exchange.status or _GONE)

    async def _counted(self, request: _Request, path: str) -> None:
        self._calls.add(request.exchange)
        self._idle.clear()
        try:
            await request.guarded(self._call(request, path))
        finally:
            self._calls.discard(request.exchange)
            if not self._calls:
                self._idle.set()

    # ── pages ──

    async def _page(self, request: _Request, path: str) -> None:
        await request.read(keep=False)
        if path not in _PAGES:
            words = f"wanted POST {CALLS}PATH, GET /health or GET /metrics"
            raise Problem(HTTPStatus.NOT_FOUND, "NotFound", words)
        _check_method(request.exchange, "GET", "HEAD")
        if path == "/metrics":
            await request.exchange.answer(200, self._metrics.text(), CONTENT_TYPE)
            return
        workers = {path: {"workers": count} for path, count in self._endpoints.known().items()}
        status = "draining" if self.draining else "healthy"
        members = {"status": status, "endpoints": workers}
        await request.exchange.answer_json(503 if self.draining else 200, members)

    # ── calls ──

    async def _call(self, request: _Request, path: str) -> None:
        exchange = request.exchange
        await request.read(keep=exchange.scope["method"] == "POST" and not self.draining)
        _check_method(exchange, "POST")
        if self.draining:
            raise leaving("the front is leaving")
        if len(self._calls) > _MOST_CALLS:
            words = f"{_MOST_CALLS} calls are under way"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", words, AGAIN)
        options = options_of(exchange.scope, request.headers)
        value = request.body.value()
        call = Call(await self._endpoints.client(path), value, request.context, options)
        del value
        request.form = options.form
        await call.answer(exchange, request.body.release, self._metrics.calls.first_item)


class _Request:
    """An exchange, with what every request has: an id, a body, and an answer whatever happens."""

    def __init__(self, budget: Any, most_body: int, exchange: Exchange) -> None:
        self.exchange = exchange
        self.headers = headers_of(exchange.scope)
        self.context = Context(headers=carried(self.headers))
        self.body = Body(exchange, budget, most_body)
        self.form: Form | None = None
        self.id = self.context.headers.get("x-request-id", self.context.id)
        exchange.headers.append((b"x-request-id", self.id.encode()))

    async def read(self, *, keep: bool) -> None:
        """Read its body; it has some time for that."""
        late = asyncio.get_running_loop().call_later(BODY_SECONDS, self.exchange.end_early, LATE)
        try:
            await self.body.read(keep=keep)
        finally:
            late.cancel()
            if not self.exchange.unread:
                self.exchange.notice_hangup()

    async def guarded(self, work: Any) -> None:
        """Do what answers it, and answer what goes wrong with that."""
        try:
            await work
        except HungUp:
            pass
        except asyncio.CancelledError:
            if not self.exchange.was_ended():
                raise
            if self.exchange.reason is not None:
                await self._fail(self.exchange.reason)
            elif self.exchange.status is not None:  # it may only have stopped reading
                await self.exchange.cut()
        except Exception as error:
            await self._fail(problem_of(error))

    async def _fail(self, problem: Problem) -> None:
        if self.exchange.status is None:
            await self.exchange.refuse(problem, self.context.id)
        elif self.form is not None:
            await self.exchange.cut(self.form.error(problem.members(self.context.id)))
        else:
            await self.exchange.cut()


async def _lifespan(receive: Receive, send: Send) -> None:
    """What a server asks before its first request and after its last; there is nothing to do for it."""
    for _ in ("startup", "shutdown"):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


def _check_method(exchange: Exchange, *allowed: str) -> None:
    method = exchange.scope["method"]
    if method not in allowed:
        words = f"{method:.20} is not possible here, wanted {' or '.join(allowed)}"
        headers = [(b"allow", ", ".join(allowed).encode())]
        raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "WrongMethod", words, headers)

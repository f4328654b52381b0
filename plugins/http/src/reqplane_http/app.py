"""The ASGI application: finds the endpoint, reads the frame, hands it to `accept`, answers.

`accept` is synchronous and schedules the handler, so the 202 is on its way before the handler runs.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from reqplane.errors import InvalidFrame, RequestRefused, WireError
from reqplane.interfaces import Accept, Delivery, Host
from reqplane.model import EndpointId, Peer
from reqplane.sockets import host_and_port

from reqplane_http import batch
from reqplane_http.answers import CARRIED
from reqplane_http.body import BodyReader, BodyTooLarge, BodyTooSlow, CallerGone, Receive
from reqplane_http.responses import ACCEPTED, Response, refused, respond, text
from reqplane_http.streams import Http2Connections, Send, reset_stream

_CARRIED = {name.encode(): name for name in CARRIED}
_ENCODING = b"content-encoding"
_CONTENT_TYPE = b"content-type"
_BATCH = batch.CONTENT_TYPE.encode()
_ENDPOINT_PATH = re.compile(r"/namespace\.[^./]+\.component\.[^./]+\.endpoint\.[^./]+(\.instance\.[^./]+)?")
_HEALTH_METHODS = ("GET", "HEAD", "POST")


def path_of(endpoint: EndpointId) -> str:
    """An endpoint's path below the root, without an instance."""
    return f"/namespace.{endpoint.namespace}.component.{endpoint.component}.endpoint.{endpoint.name}"


class Route:
    """An endpoint that is being served, and its requests that are not answered yet."""

    __slots__ = ("_quiet", "accept", "draining", "endpoint", "unanswered")

    def __init__(self, endpoint: EndpointId, accept: Accept) -> None:
        self.endpoint, self.accept = endpoint, accept
        self.draining = False
        self.unanswered = 0
        self._quiet = asyncio.Event()

    def answered(self) -> None:
        self.unanswered -= 1
        if not self.unanswered:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until every accepted frame has its answer on the wire."""
        while self.unanswered:
            self._quiet.clear()
            await self._quiet.wait()


class Application:
    """Serves frames and health.  An ASGI application, without lifespan."""

    def __init__(self, host: Host, root: str) -> None:
        self._host = host
        self._root = root
        self._limit = host.limits.max_frame_bytes
        self._connections = Http2Connections()
        self._bodies = BodyReader(host.timers, self._limit)
        self._routes: dict[str, Route] = {}
        self._health_paths = {f"{root}/health", "/health"}
        self._leaving = False

    def add(self, route: Route) -> None:
        path = self._root + path_of(route.endpoint)
        if path in self._routes:
            raise ValueError(f"this process already serves {route.endpoint}")
        self._routes[path] = route

    def remove(self, route: Route) -> None:
        path = self._root + path_of(route.endpoint)
        if self._routes.get(path) is route:
            del self._routes[path]

    @property
    def serves_nothing(self) -> bool:
        return not self._routes

    async def finish(self) -> None:
        """The end: what was accepted is acked, and everything else is told that it was not."""
        self._leaving = True
        routes = list(self._routes.values())
        self._routes.clear()  # nothing is accepted from here on
        for route in routes:
            await route.quiet()
        await self._connections.go_away()
        self._bodies.cut_all()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "2":
            self._connections.note(send)
        try:
            body = await self._bodies.read(receive)
        except CallerGone:
            return
        except (BodyTooLarge, BodyTooSlow) as problem:
            await self._cut_off(scope, send, problem)
            return
        route = self._find(scope["path"])
        if route is None or scope["method"] != "POST":
            await respond(scope, send, self._without_frame(scope, route))
            return
        route.unanswered += 1
        try:
            hand_over = self._hand_over_batch if _is_batch(scope) else self._hand_over
            await respond(scope, send, hand_over(route, scope, body))
        finally:
            route.answered()

    def _find(self, path: str) -> Route | None:
        """The endpoint that a path names.  A balancer may send us another instance's path, so any will do."""
        route = self._routes.get(path)
        if route is None:
            endpoint_path, _, instance = path.rpartition(".instance.")
            if instance.isascii() and instance.isdigit():
                route = self._routes.get(endpoint_path)
        return route

    def _hand_over(self, route: Route, scope: Any, body: bytes) -> Response:
        if any(name == _ENCODING for name, _ in scope["headers"]):
            return text(415, "frames are not compressed: Content-Encoding must be absent")
        headers = _carried_headers(scope["headers"])
        verdict = self._verdict(route, Delivery(body, headers, "http", _peer(scope["client"])))
        return ACCEPTED if verdict is None else refused(*verdict)

    def _hand_over_batch(self, route: Route, scope: Any, body: bytes) -> Response:
        """Several frames; nothing is accepted unless all of it can be read."""
        try:
            frames = batch.unpack(body)
        except WireError as error:
            problem = InvalidFrame(error.problem)
            return refused(problem.code, problem.summary())
        peer = _peer(scope["client"])
        verdicts = [self._verdict(route, Delivery(frame, headers, "http", peer)) for frame, headers in frames]
        return Response(200, batch.pack_answer(verdicts), "application/json")

    def _verdict(self, route: Route, delivery: Delivery) -> batch.Refusal | None:
        """Hand one frame over; None: it is accepted."""
        try:
            route.accept(delivery)
        except RequestRefused as error:
            return error.code, error.summary()
        except Exception:
            self._host.log.exception("accepting a request for %s failed", route.endpoint)
            return "refused", "the worker could not take the request; its log has the reason"
        return None

    def _without_frame(self, scope: Any, route: Route | None) -> Response:
        """Whatever is not a POST to an endpoint that is served here."""
        path, method = scope["path"], scope["method"]
        if route is not None:
            return text(405, f"{method} is not possible here, frames are sent by POST", (b"allow", b"POST"))
        if path in self._health_paths:
            if method in _HEALTH_METHODS:
                return self._health()
            return text(405, f"{method} is not possible here", (b"allow", b"GET, HEAD, POST"))
        if path.startswith(self._root) and _ENDPOINT_PATH.fullmatch(path, len(self._root)):
            served = ", ".join(str(other.endpoint) for other in self._routes.values()) or "nothing"
            return refused("unknown_endpoint", f"{path} is not served here; this worker serves {served}")
        return text(404, f"nothing is at {path}; endpoints are under {self._root}/namespace.…")

    def _health(self) -> Response:
        endpoints = {
            str(route.endpoint): "draining" if route.draining else "ready" for route in self._routes.values()
        }
        state = {"status": "healthy", "endpoints": endpoints}
        return Response(200, json.dumps(state).encode() + b"\n", "application/json")

    async def _cut_off(self, scope: Any, send: Send, problem: BodyTooLarge | BodyTooSlow) -> None:
        """Answer a request whose body broke a bound; on HTTP/2 only if it was read to its end."""
        if isinstance(problem, BodyTooLarge):
            size = f"{problem.size} bytes" if problem.whole else f"more than {problem.size} bytes"
            words = f"the frame has {size}, at most {self._limit} are allowed"
            answer = text(413, words, closes=not problem.whole)
        elif self._leaving:
            answer = refused("draining", "the worker is leaving", closes=True)
        else:
            answer = text(408, "the request's body did not come in time", closes=True)
        if answer.closes and scope["http_version"] == "2":
            await reset_stream(send)
        else:
            await respond(scope, send, answer)


def _carried_headers(raw: Any) -> dict[str, str]:
    """The headers that travel with a frame; one that comes twice is joined, as RFC 9110 has it."""
    carried: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = _CARRIED.get(raw_name)
        if name is not None:
            value = raw_value.decode("latin-1")
            carried[name] = f"{carried[name]},{value}" if name in carried else value
    return carried


def _is_batch(scope: Any) -> bool:
    return any(name == _CONTENT_TYPE and value == _BATCH for name, value in scope["headers"])


def _peer(client: tuple[str, int] | None) -> Peer | None:
    return None if client is None else Peer(host_and_port(*client))

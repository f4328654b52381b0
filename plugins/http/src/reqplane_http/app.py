"""The ASGI application: finds the endpoint, reads the frame, hands it to `accept`, answers.

`accept` is synchronous and schedules the handler, so the 202 is on its way before the handler runs.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from reqplane.errors import InvalidFrame, RequestRefused, WireError, WorkerBusy
from reqplane.interfaces import Accept, Delivery, Host
from reqplane.model import EndpointId, Peer
from reqplane.sockets import host_and_port

from reqplane_http import batch
from reqplane_http.body import BodyTooLarge, CallerGone, Intake, Intakes, NoRoom, Receive
from reqplane_http.head import Head
from reqplane_http.responses import ACCEPTED, Response, refused, respond, shown, text
from reqplane_http.streams import Send, reset_stream

_ENDPOINT_PATH = re.compile(
    r"/namespace\.([^./]+)\.component\.([^./]+)\.endpoint\.([^./]+)(?:\.instance\.[^./]+)?"
)
_HEALTH_METHODS = ("GET", "HEAD", "POST")
_QUOTED = 300  # characters of a path or method that an answer repeats
_BUSY = WorkerBusy("it holds as many bytes of requests as DYN_MAX_INFLIGHT_BYTES allows")
_NO_ROOM = refused(_BUSY.code, _BUSY.summary())


def path_of(endpoint: EndpointId) -> str:
    """An endpoint's path below the root, without an instance."""
    return f"/namespace.{endpoint.namespace}.component.{endpoint.component}.endpoint.{endpoint.name}"


class Route:
    """An endpoint that is being served, and its requests that are not answered yet."""

    __slots__ = ("_quiet", "accept", "closed", "draining", "dynamos_path", "endpoint", "unanswered")

    def __init__(self, endpoint: EndpointId, accept: Accept) -> None:
        self.endpoint, self.accept = endpoint, accept
        self.dynamos_path = ""
        """The whole path by which Dynamo knows it; "" where it does not."""
        self.draining = False
        self.closed = False  # nothing is accepted any more
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
    """Serves frames and health.  An ASGI application, without lifespan.

    `root` stands in front of the guide's paths, `dynamos_root` in front of Dynamo's; None: it has none.
    """

    def __init__(self, host: Host, root: str, dynamos_root: str | None) -> None:
        self._host = host
        self._root = root
        self._dynamos_root = dynamos_root
        self._limit = host.limits.max_frame_bytes
        self._intakes = Intakes(host)
        self._routes: dict[str, Route] = {}
        self._health_paths = {f"{root}/health", "/health"}
        self._leaving = False

    def add(self, route: Route) -> None:
        path = self._root + path_of(route.endpoint)
        if path in self._routes:
            raise ValueError(f"this process already serves {route.endpoint}")
        self._routes[path] = route
        if self._dynamos_root is not None:
            route.dynamos_path = self._free_path(self._dynamos_root, route.endpoint)
            self._routes[route.dynamos_path] = route

    def _free_path(self, root: str, endpoint: EndpointId) -> str:
        """Dynamo's path has the endpoint's name alone, and two components may have one of that name."""
        path = f"{root}/{endpoint.name}"
        return f"{root}/{endpoint}" if path in self._routes else path

    def remove(self, route: Route) -> None:
        route.closed = True
        for path in [path for path, other in self._routes.items() if other is route]:
            del self._routes[path]

    def _served(self) -> list[Route]:
        return list(dict.fromkeys(self._routes.values()))

    @property
    def serves_nothing(self) -> bool:
        return not self._routes

    async def finish(self, go_away: Callable[[], Awaitable[None]]) -> None:
        """The end: what was accepted is acked, and everything else is told that it was not."""
        self._leaving = True
        routes = self._served()
        self._routes.clear()
        for route in routes:
            route.closed = True
        for route in routes:
            await route.quiet()
        await go_away()
        self._intakes.cut_all()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        intake = self._intakes.begin()
        try:
            await self._take_in(intake, scope, receive, send)
        except CallerGone:
            pass
        except asyncio.CancelledError:
            if not intake.was_cut():
                raise
            await self._cut_off(scope, send, intake)
        finally:
            intake.end()

    async def _take_in(self, intake: Intake, scope: Any, receive: Receive, send: Send) -> None:
        head = Head(scope["headers"])
        route = self._find(scope["path"]) if scope["method"] == "POST" else None
        try:
            # Frames that gather may be more than one frame may; each is looked at when it is handed over.
            most = max(self._limit, batch.MOST_BYTES) if head.is_batch else self._limit
            body = await intake.read(receive, most, keep=route is not None and head.problem is None)
        except BodyTooLarge as error:
            await _answer(intake, scope, send, self._too_large(error))
            return
        except NoRoom:
            await _answer(intake, scope, send, _NO_ROOM)
            return
        if head.problem is not None or route is None or route.closed:
            await _answer(intake, scope, send, head.problem or self._without_frame(scope))
            return
        intake.release()  # `accept` reserves for itself, in this same turn
        route.unanswered += 1
        try:
            hand_over = self._hand_over_batch if head.is_batch else self._hand_over
            await _answer(intake, scope, send, hand_over(route, scope, head, body))
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

    def _hand_over(self, route: Route, scope: Any, head: Head, body: bytes) -> Response:
        verdict = self._verdict(route, Delivery(body, head.carried, "http", _peer(scope["client"])))
        return ACCEPTED if verdict is None else refused(*verdict)

    def _hand_over_batch(self, route: Route, scope: Any, head: Head, body: bytes) -> Response:
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
            return error.code, shown(error.summary())
        except (Exception, asyncio.CancelledError):  # nothing is awaited here, so it is not this task's
            self._host.log.exception("accepting a request for %s failed", route.endpoint)
            return "refused", "the worker could not take the request; its log has the reason"
        return None

    def _without_frame(self, scope: Any) -> Response:
        """Whatever is not a POST to an endpoint that is served here."""
        path, method = scope["path"], f"{scope['method']:.{_QUOTED}}"
        if self._find(path) is not None:
            return text(405, f"{method} is not possible here, frames are sent by POST", (b"allow", b"POST"))
        if path in self._health_paths:
            if method in _HEALTH_METHODS:
                return self._health()
            return text(405, f"{method} is not possible here", (b"allow", b"GET, HEAD, POST"))
        path = f"{path:.{_QUOTED}}"
        if self._names_endpoint(path):
            served = ", ".join(str(other.endpoint) for other in self._served()) or "nothing"
            return refused("unknown_endpoint", f"{path} is not served here; this worker serves {served}")
        return text(404, f"nothing is at {path}; endpoints are under {self._root}/namespace.…")

    def _names_endpoint(self, path: str) -> bool:
        """Whether an endpoint could be at this path."""
        found = _ENDPOINT_PATH.fullmatch(path, len(self._root)) if path.startswith(self._root) else None
        if found is None:
            return False
        try:
            EndpointId(*found.groups())
        except ValueError:
            return False
        return True

    def _health(self) -> Response:
        endpoints = {
            str(route.endpoint): "draining" if route.draining else "ready" for route in self._served()
        }
        state = {"status": "healthy", "endpoints": endpoints}
        return Response(200, json.dumps(state).encode() + b"\n", "application/json")

    def _too_large(self, error: BodyTooLarge) -> Response:
        size = f"{error.size} bytes" if error.whole else f"more than {error.size} bytes"
        words = f"the frame has {size}, at most {self._limit} are allowed"
        return text(413, words, closes=not error.whole)

    async def _cut_off(self, scope: Any, send: Send, intake: Intake) -> None:
        """End a request whose time is over: its body did not come, or its answer is not taken."""
        if intake.answering:
            if scope["http_version"] == "2":
                await reset_stream(send)
        elif self._leaving:
            await _answer(intake, scope, send, refused("draining", "the worker is leaving", closes=True))
        else:
            words = "the request's body did not come in time"
            await _answer(intake, scope, send, text(408, words, closes=True))


async def _answer(intake: Intake, scope: Any, send: Send, response: Response) -> None:
    """Send the response; on HTTP/2 one that ends more than its request is a reset of its stream."""
    intake.answering = True
    if response.closes and scope["http_version"] == "2":
        await reset_stream(send)
    else:
        await respond(scope, send, response)


def _peer(client: tuple[str, int] | None) -> Peer | None:
    return None if client is None else Peer(host_and_port(*client))

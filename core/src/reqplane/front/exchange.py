"""One HTTP request and its answer, on top of ASGI.

What ASGI has no words for is ending an answer that is not whole.  Over HTTP/1.1 an application that returns
with its answer unfinished has the connection closed, without the last chunk, so every client sees that
something is missing.  Over HTTP/2 hypercorn would leave the stream open for ever; it is reset, by way of
hypercorn's own objects: the `send` of an application is a method of hypercorn's stream, whose `send` is a
method of the connection's protocol, which has an h2 connection.  Should a later hypercorn be built in another
way, or another server be used, CutOff is raised, for the server to end what it finds unfinished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from reqplane.front.forms import item_json
from reqplane.front.problems import Header, Problem

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

STALLED_SECONDS = 300.0
"""A client that takes nothing of its answer for so long counts as gone."""
_LAST_WORDS_SECONDS = 2.0
"""For a client to take the last line of an answer that failed."""
_BEFORE_RESET_SECONDS = 0.05
"""curl drops what it has not passed on when a reset comes with it."""
_INTERNAL_ERROR = 2  # RFC 9113 §7


class CutOff(Exception):
    """Ends an answer in the middle under a server that we don't know."""


class Exchange:
    """A request that the current task answers; the task calls `over` when it has."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._listening: asyncio.Future[Any] | None = None
        self._waits_since: float | None = None  # for the client to read
        self._stall: asyncio.TimerHandle | None = None
        self._ended = False
        self.receive = receive
        self.scope = scope
        self.is_http2: bool = scope["http_version"] == "2"
        self.headers: list[Header] = []
        """What every answer carries."""
        self.status: int | None = None
        """What was answered; None as long as nothing was."""
        self.reason: Problem | None = None
        """Why it was ended early; None where the client is gone."""
        self.unread = True
        """Whether more of the request may come."""

    # ── ending early ──

    def end_early(self, reason: Problem | None) -> None:
        """Cancel the task, which learns from `was_ended` that this was it."""
        if not self._ended:
            self._ended, self.reason = True, reason
            self._task.cancel()

    def was_ended(self) -> bool:
        """Whether the task's cancellation was ours; it then goes on uncancelled."""
        if self._ended:
            self._task.uncancel()
        return self._ended

    def notice_hangup(self) -> None:
        """From here on, when the request has been read, the client's going ends it."""
        self._listening = asyncio.ensure_future(self.receive())
        self._listening.add_done_callback(self._heard)
        self._look()

    def _heard(self, message: asyncio.Future[Any]) -> None:
        if not message.cancelled():
            self.end_early(None)

    def _look(self) -> None:
        since = self._waits_since
        if since is not None and self._loop.time() - since >= STALLED_SECONDS:
            self.end_early(None)
        else:
            self._stall = self._loop.call_later(STALLED_SECONDS / 4, self._look)

    def over(self) -> None:
        """Nothing ends it any more."""
        self._ended = True
        if self._listening is not None:
            self._listening.cancel()
        if self._stall is not None:
            self._stall.cancel()

    # ── answering ──

    async def answer(self, status: int, body: bytes, content_type: bytes, *headers: Header) -> None:
        """A whole answer."""
        await self.begin(status, content_type, [(b"content-length", b"%d" % len(body)), *headers])
        await self.write(body, more=False)

    async def answer_json(self, status: int, members: dict[str, Any], *headers: Header) -> None:
        await self.answer(status, item_json(members, 0) + b"\n", b"application/json", *headers)

    async def refuse(self, problem: Problem, request_id: str) -> None:
        """Tell what is wrong; where more of the request may come, the connection ends with it.

        On HTTP/2 such a request is reset: what still comes for one that has its answer would end
        hypercorn's whole connection.
        """
        if self.unread and self.is_http2:
            self.status = problem.status
            await self.cut()
            return
        close = [(b"connection", b"close")] if self.unread else []
        members = {"error": problem.members(request_id)}
        await self.answer_json(problem.status, members, *problem.headers, *close)

    async def begin(self, status: int, content_type: bytes, headers: Iterable[Header] = ()) -> None:
        self.status = int(status)
        fields = [(b"content-type", content_type), *headers, *self.headers]
        await self._send({"type": "http.response.start", "status": self.status, "headers": fields})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        """More of the answer; waits for a client that reads slowly."""
        self._waits_since = self._loop.time()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._waits_since = None

    async def cut(self, last: bytes = b"") -> None:
        """End the answer so that it does not look whole; `last` still goes out if the client reads it."""
        stream: Any = getattr(self._send, "__self__", None)
        protocol: Any = getattr(getattr(stream, "send", None), "__self__", None)
        if last:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    await self.write(last)
                    if self.is_http2:
                        await _written(protocol, getattr(stream, "stream_id", 0))
        if protocol is None or (self.is_http2 and not _reset_possible(protocol)):
            raise CutOff
        if self.is_http2:
            with suppress(Exception):  # the connection may be at its end
                protocol.connection.reset_stream(stream.stream_id, _INTERNAL_ERROR)
                await protocol._flush()


def _reset_possible(protocol: Any) -> bool:
    return hasattr(getattr(protocol, "connection", None), "reset_stream")


async def _written(protocol: Any, stream: int) -> None:
    """Wait until what was written to an HTTP/2 stream has gone out."""
    buffer: Any = getattr(protocol, "stream_buffers", {}).get(stream)
    if buffer is not None and buffer.buffer:
        await buffer.drain()
    await asyncio.sleep(_BEFORE_RESET_SECONDS)


def leaving(message: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Draining", message, [(b"retry-after", b"1")])

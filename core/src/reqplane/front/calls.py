"""One call by HTTP: its status waits for the first item, and it ends when the client hangs up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from reqplane.client import Client
from reqplane.context import Context
from reqplane.errors import WorkerBusy
from reqplane.front.forms import Form, error_members, form_for, item_json
from reqplane.front.incoming import HungUp, Incoming, Receive, Send
from reqplane.front.metrics import Metrics
from reqplane.front.statuses import status_of
from reqplane.stream import Stream

log = logging.getLogger("reqplane")

_NONE = object()


class CutOff(Exception):
    """An answer that had begun has failed: its connection is closed without a proper end."""


class Call:
    """One call of one client."""

    def __init__(self, client: Client, incoming: Incoming, metrics: Metrics, send: Send) -> None:
        self._client = client
        self._incoming = incoming
        self._metrics = metrics
        self._send = send
        self._context = Context(headers=incoming.headers)
        self._form: Form = form_for(incoming.accept)
        self._begin = time.perf_counter()
        self._items = 0
        self.status = 0
        """That of the answer; 0 while it has not begun."""

    async def run(self, receive: Receive) -> None:
        """Answer, or give up when the client hangs up.  CutOff if the answer can't be brought to its end."""
        path = self._client.path
        outcome = "left"
        self._metrics.in_flight.labels(path).inc()
        work = asyncio.ensure_future(self._answer())
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise HungUp
            outcome = work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            self._metrics.in_flight.labels(path).dec()
            self._metrics.calls.labels(path, outcome).inc()
            self._metrics.items.labels(path).inc(self._items)
            self._metrics.duration.labels(path).observe(time.perf_counter() - self._begin)
        if outcome != "ok" and self.status == 200:
            raise CutOff(outcome)

    async def _answer(self) -> str:
        """Write the answer; what became of it."""
        try:
            async with self._stream() as stream:
                items = aiter(stream)
                first = await anext(items, _NONE)
                self._metrics.first_item.labels(self._client.path).observe(time.perf_counter() - self._begin)
                await self._write(first, items)
        except (asyncio.CancelledError, HungUp):
            raise
        except Exception as error:
            await self._fail(error)
            return type(error).__name__
        return "ok"

    def _stream(self) -> Stream:
        client, incoming = self._client, self._incoming
        if incoming.instance is None:
            return client.generate(incoming.request, context=self._context, timeout=incoming.timeout)
        return client.direct(
            incoming.request, incoming.instance, context=self._context, timeout=incoming.timeout
        )

    async def _write(self, first: Any, items: AsyncIterator[Any]) -> None:
        text = None if first is _NONE else item_json(first, 0)
        await self._begin_answer(200, self._form.content_type)
        if text is not None:
            await self._body(self._form.item(text))
            self._items = 1
            async for item in items:
                await self._body(self._form.item(item_json(item, self._items)))
                self._items += 1
        await self._body(self._form.end(self._items), more=False)

    async def _fail(self, error: Exception) -> None:
        status = status_of(error)
        if status == 500 and not hasattr(error, "request_id"):
            log.error("request %s failed in the front", self._context.id, exc_info=error)
        members = error_members(error, self._context.id)
        if self.status == 0:
            again = [(b"retry-after", b"1")] if isinstance(error, WorkerBusy) else []
            await answer_json(self._send, status, {"error": members}, [self._id_header(), *again])
            self.status = status
        else:
            await self._body(self._form.error(members), more=True)

    async def _begin_answer(self, status: int, content_type: bytes) -> None:
        headers = [
            (b"content-type", content_type),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # a proxy hands items on as they come
            self._id_header(),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.status = status

    def _id_header(self) -> tuple[bytes, bytes]:
        return b"x-request-id", self._context.headers.get("x-request-id", self._context.id).encode()

    async def _body(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def answer_json(
    send: Send, status: int, members: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """A whole answer of JSON."""
    body = item_json(members, 0).encode() + b"\n"
    about = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": [*about, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})


async def _hung_up(receive: Receive) -> None:
    """Wait until the client is gone; it has sent its whole body."""
    while (await receive())["type"] != "http.disconnect":
        pass
